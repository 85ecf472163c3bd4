"""Tests with recorded requests of coding agents; see `about` in each file of `recorded/`."""

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
KEY_HEADERS = {"authorization": f"Bearer {GATEWAY_KEY}"}
# The headers of a caller with a provider key of its own.
BOTH_KEY_HEADERS = {
    "x-portkey-api-key": GATEWAY_KEY,
    "authorization": "Bearer sk-own-0123456789abcdef",
}
FILLER = "Some words stand here in place of a long text. "


def load_recording(agent: str) -> dict[str, Any]:
    """A recording. Each «N» in it is replaced by a text of N characters."""

    def filler(match: re.Match[str]) -> str:
        return (FILLER * (int(match[1]) // len(FILLER) + 1))[: int(match[1])]

    return json.loads(re.sub(r"«(\d+)»", filler, (RECORDED / f"{agent}.json").read_text()))


def request_bodies(recorded: dict[str, Any]) -> list[dict[str, Any]]:
    """The request bodies of a session, one for each turn."""
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
    """The text in the events of a stream, which is a message or a response."""
    deltas = [event["delta"] for event in events(reply) if "delta" in event]
    delta_texts = [
        d if isinstance(d, str) else d.get("text", d.get("partial_json", "")) for d in deltas
    ]
    return "".join(delta_texts)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_recorded_session_is_traced_without_loss(gateway: Gateway, agent: str):
    recorded = load_recording(agent)
    gateway.inbox.clear()
    bodies = request_bodies(recorded)
    with httpx.Client(base_url=gateway.url, headers=recorded["headers"] | KEY_HEADERS) as client:
        replies = [client.post(recorded["path"], json=body) for body in bodies]
    observations = gateway.inbox.wait_for(len(bodies))
    assert len(observations) == len(bodies)
    observations.sort(key=lambda o: str(o["start_time"]))

    for observation, body in zip(observations, bodies, strict=True):
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
        sent = [inner for tool in body["tools"] for inner in tool.get("tools", [tool])]
        assert names == [tool.get("name") or tool["type"] for tool in sent]
        # The trace contains every long text of the request.
        assert recorded_texts(body) <= texts(observation["input"])
        assert "client_metadata" not in observation["model_parameters"]

    for reply, observation, expected_text in zip(
        replies, observations, recorded["says"], strict=True
    ):
        if expected_text is None:
            (call,) = observation["output"]["tool_calls"]
            arguments = json.loads(call["function"]["arguments"])
            assert {"name": call["function"]["name"], "arguments": arguments} == recorded["call"]
            assert json.loads(text_of(reply)) == arguments
        else:
            assert text_of(reply).endswith(expected_text)
            assert observation["output"] == {"role": "assistant", "content": text_of(reply)}


def texts(value: Any) -> set[str]:
    """All strings in a value."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        value = [*value.values()]
    return set[str]().union(*map(texts, value)) if isinstance(value, list) else set()


def recorded_texts(body: dict[str, Any]) -> set[str]:
    """The texts of a request over 200 characters, without the ciphertext of reasoning items."""
    items = [item for item in body.get("input", []) if item.get("type") != "reasoning"]
    members = (items, body.get("messages"), body.get("system"), body["tools"])
    return {text for member in members for text in texts(member) if len(text) > 200}


@pytest.mark.parametrize("agent", AGENTS)
def test_user_and_session_are_read_from_the_body(gateway: Gateway, agent: str):
    recorded = load_recording(agent)
    gateway.inbox.clear()
    headers = {n: v for n, v in recorded["headers"].items() if not n.startswith("x-portkey-")}
    (body, *_) = request_bodies(recorded)
    with httpx.Client(base_url=gateway.url, headers=headers | BOTH_KEY_HEADERS) as client:
        events(client.post(recorded["path"], json=body))
    (observation,) = gateway.inbox.wait_for(1)
    assert observation["metadata"]["gateway_key"] == "laptop"
    assert observation["session_id"] == recorded["session"]
    assert observation["user_id"] == ("d" * 64 if agent == "claude_code" else None)


@pytest.mark.parametrize("agent", AGENTS)
def test_probes_are_relayed_and_not_traced(gateway: Gateway, agent: str):
    recorded = load_recording(agent)
    gateway.inbox.clear()
    with httpx.Client(base_url=gateway.url, headers=recorded["headers"] | KEY_HEADERS) as client:
        for probe in recorded["probes"]:
            reply = client.request(probe["method"], probe["path"], json=probe.get("body"))
            assert reply.status_code == 200, probe
            if probe["method"] != "HEAD":
                assert reply.json()
        body = request_bodies(recorded)[0]
        events(client.post(recorded["path"], json=body))
    assert len(gateway.inbox.wait_for(1)) == 1
