"""What coding agents send, replayed without them; see `about` in each of `recorded/`."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import GATEWAY_KEY, Gateway

pytestmark = pytest.mark.long

RECORDED = Path(__file__).parent / "recorded"
AGENTS = ("claude_code", "codex")
KEYS = {"authorization": f"Bearer {GATEWAY_KEY}"}
# Of a caller who has a provider key, too.
BOTH_KEYS = {"x-portkey-api-key": GATEWAY_KEY, "authorization": "Bearer sk-own-0123456789abcdef"}
SENTENCE = "Some words stand here in place of a long text. "


def replay(agent: str) -> dict[str, Any]:
    """A recording, with filler of N characters where it says «N»."""

    def filler(mark: re.Match[str]) -> str:
        return (SENTENCE * (int(mark[1]) // len(SENTENCE) + 1))[: int(mark[1])]

    return json.loads(re.sub(r"«(\d+)»", filler, (RECORDED / f"{agent}.json").read_text()))


def bodies(recorded: dict[str, Any]) -> list[dict[str, Any]]:
    """The requests of a session, turn by turn."""
    ((member, turns),) = recorded["turns"].items()
    return [recorded["body"] | {member: turn} for turn in turns]


def events(reply: httpx.Response) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    return [
        json.loads(line.removeprefix("data: "))
        for line in reply.text.splitlines()
        if line.startswith("data: ")
    ]


def text_of(reply: httpx.Response) -> str:
    """The text that the events of a stream make, of a message's or a response's."""
    deltas = [event["delta"] for event in events(reply) if "delta" in event]
    pieces = [d if isinstance(d, str) else d.get("text", d.get("partial_json", "")) for d in deltas]
    return "".join(pieces)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_session(gateway: Gateway, agent: str):
    recorded = replay(agent)
    gateway.inbox.clear()
    sent = bodies(recorded)
    with httpx.Client(base_url=gateway.url, headers=recorded["headers"] | KEYS) as client:
        replies = [client.post(recorded["path"], json=body) for body in sent]
    observations = gateway.inbox.wait_for(len(sent))
    assert len(observations) == len(sent)
    observations.sort(key=lambda o: str(o["start_time"]))

    for observation, body in zip(observations, sent, strict=True):
        assert (observation["level"], observation["status_message"]) == ("DEFAULT", None)
        assert observation["user_id"] == recorded["user"]
        assert observation["session_id"] == recorded["session"]
        assert observation["completion_start_time"]
        metadata = observation["metadata"]
        expected = {"streamed": True, "ending": "complete", "team": "search"}
        assert {name: metadata.get(name) for name in expected} == expected
        assert "notes" not in metadata
        tools = observation["input"]["tools"]
        names = [tool.get("function", tool).get("name") for tool in tools]
        assert names == [tool.get("name") for tool in body["tools"]]
        # Nothing of what the model was told is left out of the trace.
        assert recorded_texts(body) <= texts(observation["input"])
        assert "client_metadata" not in observation["model_parameters"]

    for reply, observation, said in zip(replies, observations, recorded["says"], strict=True):
        if said is None:
            (call,) = observation["output"]["tool_calls"]
            arguments = json.loads(call["function"]["arguments"])
            assert {"name": call["function"]["name"], "arguments": arguments} == recorded["call"]
            assert json.loads(text_of(reply)) == arguments
        else:
            assert text_of(reply).endswith(said)
            assert observation["output"] == {"role": "assistant", "content": text_of(reply)}


def texts(value: Any) -> set[str]:
    """All strings in a value."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        value = [*value.values()]
    return set[str]().union(*map(texts, value)) if isinstance(value, list) else set()


def recorded_texts(body: dict[str, Any]) -> set[str]:
    """The long texts of a request, but for a reasoning item's ciphertext."""
    items = [item for item in body.get("input", []) if item.get("type") != "reasoning"]
    told = (items, body.get("messages"), body.get("system"), body["tools"])
    return {text for part in told for text in texts(part) if len(text) > 200}


@pytest.mark.parametrize("agent", AGENTS)
def test_the_user_and_session_of_the_body(gateway: Gateway, agent: str):
    recorded = replay(agent)
    gateway.inbox.clear()
    headers = {n: v for n, v in recorded["headers"].items() if not n.startswith("x-portkey-")}
    (body, *_) = bodies(recorded)
    with httpx.Client(base_url=gateway.url, headers=headers | BOTH_KEYS) as client:
        events(client.post(recorded["path"], json=body))
    (observation,) = gateway.inbox.wait_for(1)
    assert observation["metadata"]["gateway_key"] == "laptop"
    assert observation["session_id"] == recorded["session"]
    assert observation["user_id"] == ("d" * 64 if agent == "claude_code" else None)


@pytest.mark.parametrize("agent", AGENTS)
def test_probes_are_answered_and_not_traced(gateway: Gateway, agent: str):
    recorded = replay(agent)
    gateway.inbox.clear()
    with httpx.Client(base_url=gateway.url, headers=recorded["headers"] | KEYS) as client:
        for probe in recorded["probes"]:
            reply = client.request(probe["method"], probe["path"], json=probe.get("body"))
            assert reply.status_code == 200, probe
            if probe["method"] != "HEAD":
                assert reply.json()
        last = bodies(recorded)[0]
        events(client.post(recorded["path"], json=last))
    assert len(gateway.inbox.wait_for(1)) == 1
