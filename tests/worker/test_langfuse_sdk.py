"""The spans of an app that uses Langfuse's SDK, and the gateway's generations, form one tree."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from aiohttp import web

from local.inbox.store import Observation, Trace
from local.runtime import ROOT

from .conftest import CHAT, TIMEOUT_SECONDS, Stage

TOOL_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look_up", "arguments": '{"what": "it"}'},
}
REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
        }
    ],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}

SAMPLED = f"{1:032x}"  # a trace of every sample


def run(stage: Stage, app: str, **env: str) -> dict[str, Any]:
    """Run one of the apps to its end. Returns the JSON that it prints."""
    return json.loads(python(stage, "-m", "tests.worker.traced_apps", app, **env))


def python(stage: Stage, *arguments: str, **env: str) -> str:
    """Run Python with the stage's Langfuse variables, not this process's. Returns stdout."""
    env = {
        **{name: value for name, value in os.environ.items() if "LANGFUSE" not in name},
        **{name: stage.gateway_env[name] for name in stage.gateway_env if "LANGFUSE" in name},
        "GATEWAY": stage.url,
        **env,
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    # The SDK warns about what it could not send.
    assert done.stderr == ""
    return done.stdout


def trace_of(stage: Stage, trace_id: str) -> Trace:
    return next(trace for trace in stage.inbox.traces() if trace["id"] == trace_id)


def split(observations: list[Observation]) -> tuple[dict[str, Any], list[Observation]]:
    """The app's spans by name, and the gateway's generations."""
    ours = [o for o in observations if "http_status" in o["metadata"]]
    return {str(o["name"]): o for o in observations if o not in ours}, ours


@pytest.fixture(
    params=[
        pytest.param(("3.120.0", "ingestion", {}), id="3-ingestion"),
        pytest.param(
            ("3.120.0", "otlp", {"LANGFUSE_PROTOCOL": "otlp"}), id="3-otlp", marks=pytest.mark.long
        ),
        # An isolate keeps the protocol that it has found, so that this one is not `stage`.
        pytest.param(("4.16.0", "otlp", {"LANGFUSE_PROTOCOL": "auto"}), id="4-otlp"),
    ]
)
def server(request, stage_with: Callable[..., Stage]) -> tuple[Stage, str]:
    """A stage for each version of Langfuse, and the protocol that its gateway uses."""
    version, protocol, env = request.param
    stage = stage_with(**env)
    stage.inbox.version = version
    return stage, protocol


def test_the_spans_of_an_agent_and_its_calls_form_one_tree(server: tuple[Stage, str]):
    stage, protocol = server

    async def call_a_tool(request: web.Request) -> web.StreamResponse:
        return web.json_response(REPLY)

    stage.provider.script = call_a_tool
    printed = run(stage, "agent")
    assert printed["replies"] == {
        "plan": TOOL_CALL,
        "look_up": "You said: look up",
        "write": "You said: write",
        "check": "You said: check",
    }
    observations = stage.observations(9)
    assert {o["trace_id"] for o in observations} == {printed["trace"]}
    spans, generations = split(observations)
    assert {o["protocol"] for o in generations} == {protocol}

    # The app's spans.
    assert {name: spans[name]["type"] for name in spans} == {
        "agent": "AGENT",
        "plan": "SPAN",
        "look_up": "TOOL",
        "write": "SPAN",
        "check": "SPAN",
    }
    assert spans["agent"]["parent_id"] is None
    for name, span_id in printed["ids"].items():
        assert spans[name]["id"] == span_id
        assert spans[name]["parent_id"] == printed["agent"]
        assert spans[name]["usage"] == {}

    # One generation below each step: the call that was made there.
    by_parent = {o["parent_id"]: o for o in generations}
    found = {name: by_parent[span_id] for name, span_id in printed["ids"].items()}
    for name, generation in found.items():
        assert generation["type"] == "GENERATION"
        messages = generation["input"]["messages"] if name == "plan" else generation["input"]
        assert messages == [{"role": "user", "content": name.replace("_", " ")}]
        assert generation["metadata"]["streamed"] is (name in ("look_up", "check"))
        assert generation["usage"]["total"] > 0
        assert generation["received"] == 1
        # The user in the call's body does not replace the app's user.
        assert generation["user_id"] in ("ada", None)
        assert generation["session_id"] in ("session-7", None)
        assert str(spans[name]["start_time"]) <= str(generation["start_time"])
    assert found["plan"]["output"]["tool_calls"] == [TOOL_CALL]
    assert found["plan"]["usage"] == {"input": 11, "output": 7, "total": 18}
    assert found["check"]["output"]["content"] == "You said: check"

    # The trace is the app's.
    trace = trace_of(stage, printed["trace"])
    assert trace["name"] == "my app"
    assert (trace["user_id"], trace["session_id"]) == ("ada", "session-7")
    assert sorted(trace["tags"]) == ["beta", "search"]
    assert (trace["input"], trace["output"]) == ("Hello there", "Goodbye")
    assert trace["metadata"].items() >= {"team": "discovery", "steps": 4}.items()
    assert not trace["metadata"].keys() & {"provider", "http_status", "session_id", "user_id"}
    # Version 3 keeps the start of what arrived first, of the app's spans and the gateway's calls.
    first = [spans["agent"]] if stage.inbox.version >= "4" else observations
    starts = {datetime.fromisoformat(str(o["start_time"])) for o in first}
    assert datetime.fromisoformat(str(trace["timestamp"])) in starts


def test_propagated_attributes_reach_the_generation(server: tuple[Stage, str]):
    stage, _ = server
    printed = run(stage, "baggage", LANGFUSE_OTEL_COMPRESSION="gzip")
    assert printed["replies"] == "You said: Hello there"
    spans, (generation,) = split(stage.observations(2))
    headers = [{n.lower(): v for n, v in r.headers} for r in stage.inbox.requests]
    (sent,) = (h for h in headers if h.get("content-type") == "application/x-protobuf")
    assert sent["content-encoding"] == "gzip"
    span = spans["ask"]
    assert generation["parent_id"] == span["id"]
    expected = {
        "trace_name": "my app",
        "user_id": "ada",
        "session_id": "session-7",
        "tags": ["search", "two words", "it's, so to say"],
        "environment": "staging",
        "version": "7",
    }
    for observation in (span, generation, trace_of(stage, span["trace_id"])):
        for name, value in expected.items():
            name = "name" if name not in observation else name
            assert observation[name] == value, name
    assert generation["metadata"]["team"] == "discovery & more"
    assert (generation["prompt_name"], generation["prompt_version"]) == ("greeting", 3)
    assert "notes" not in generation["metadata"]


@pytest.mark.long
def test_concurrent_calls_are_below_their_own_spans(stage: Stage):
    printed = run(stage, "at_once")
    spans, generations = split(stage.observations(17))
    assert {o["trace_id"] for o in generations} == {printed["trace"]}
    for generation in generations:
        name = generation["input"][0]["content"]
        assert generation["parent_id"] == printed["ids"][name] == spans[name]["id"]
    assert len({o["parent_id"] for o in generations}) == 8


@pytest.mark.long
def test_langfuses_openai_client_creates_a_second_generation(stage: Stage):
    printed = run(stage, "drop_in")
    spans, (generation,) = split(stage.observations(3))
    own = spans["OpenAI-generation"]
    assert {own["trace_id"], generation["trace_id"]} == {printed["trace"]}
    assert {own["usage"]["total"], generation["usage"]["total"]} == {printed["total"]}


@pytest.mark.long
def test_with_trace_off_there_is_only_the_generation_of_langfuses_client(stage: Stage):
    printed = run(stage, "drop_in_alone")
    found = [o for o in stage.traced_so_far() if o["trace_id"] == printed["trace"]]
    spans, generations = split(found)
    assert spans.keys() == {"agent", "OpenAI-generation"}
    assert spans["OpenAI-generation"]["usage"]["total"] == printed["total"]
    assert generations == []


@pytest.mark.long
def test_anthropics_client_names_its_generation_as_the_parent(stage: Stage):
    printed = run(stage, "anthropic_alone")
    spans, (generation,) = split(stage.observations(3))
    own = spans["anthropic.messages.create"]
    assert {o["trace_id"] for o in (own, generation)} == {printed["trace"]}
    assert (own["type"], own["parent_id"]) == ("GENERATION", printed["agent"])
    assert generation["parent_id"] == own["id"]
    assert own["usage"]["output"] == generation["usage"]["output"] > 0
    assert own["input"] is None
    assert generation["input"] is not None


@pytest.mark.long
def test_the_gateway_and_the_sdk_sample_the_same_traces(without_content: Stage):
    stage = without_content
    run(stage, "sampled", LANGFUSE_SAMPLE_RATE="0.5")
    spans = stage.inbox.wait_for(1, TIMEOUT_SECONDS, where=lambda o: o["name"] == "ask")
    assert 0 < len(spans) < 24
    # The last call is in a sampled trace: when it is traced, all others are.
    stage.openai().chat.completions.create(**CHAT, extra_headers={"x-portkey-trace-id": SAMPLED})
    observations = stage.observations(2 * len(spans) + 1)
    traces = [o["trace_id"] for o in observations if o["trace_id"] != SAMPLED]
    assert Counter(traces) == {span["trace_id"]: 2 for span in spans}


def test_the_example_in_the_docs(stage: Stage):
    page = (ROOT / "docs" / "tracing.md").read_text()
    section = page.split("\n## An app that traces itself\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    code = code.replace("http://127.0.0.1:8787", stage.url)
    printed = python(stage, "-c", f"{code}\nprint(reply.choices[0].message.content)")
    assert printed == "You said: Hello!\n"
    spans, (generation,) = split(stage.observations(2))
    assert generation["parent_id"] == spans["greet"]["id"]
    for observation in (spans["greet"], generation):
        assert (observation["user_id"], observation["session_id"]) == ("ada", "session-7")
    trace = trace_of(stage, generation["trace_id"])
    assert (trace["name"], trace["input"]) == ("greet", "Hello!")
    assert trace["output"] == "You said: Hello!"
