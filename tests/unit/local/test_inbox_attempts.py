"""A span and the attempts below it in the inbox, whichever arrives first."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import httpx
import pytest

from core.trace_context import read_trace_context
from core.types import Call, Capture, Ending
from export import ingestion, otlp
from local.inbox import Inbox
from settings.load import Settings
from tests.unit.samples import FULL, TRACE
from tracing import Exchange, Observation, observe, request_span_with_attempts

SETTINGS = Settings(environment="production", release="worker-7")
REQUEST = json.dumps(
    {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "user": "ada"}
).encode()
# A client that says what the gateway knows better, and of a reply that not every attempt has.
SAID = {"provider": "eve", "http_status": "eve", "try": "eve", "team": "search"}
HEADERS = {"x-portkey-metadata": json.dumps(SAID), "langfuse-tags": "a,b"}


def reply(text: str, ended: float) -> Capture:
    message = {"role": "assistant", "content": text}
    body = {
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
    }
    return Capture(Ending.COMPLETE, ended, 200, "application/json", json.dumps(body).encode())


def tree(headers: dict[str, str]) -> list[Observation]:
    """A request as the gateway traces it: one provider is out of reach, the next answers."""
    call = Call("POST", "/v1/chat/completions", "", headers)
    said = read_trace_context(headers)
    whole = Exchange(
        *(call, said, FULL.destination, "groq", REQUEST, len(REQUEST), 1000.0),
        capture=reply("hello", 1003.0),
        gateway_metadata={"config": "prod"},
    )

    def attempt(number: int, provider: str, started: float, capture: Capture) -> Observation:
        own = f"{number:016x}"
        below = replace(said, is_existing=True, observation_id=own, parent_id=said.observation_id)
        # What a provider is asked and answers may be other than what the client sees of it.
        asked = REQUEST.replace(b'"hi"', b'"hi, be brief"')
        exchange = replace(
            whole,
            trace_context=below,
            provider=provider,
            request_body=asked,
            started_at=started,
        )
        return observe(
            replace(exchange, capture=capture, gateway_metadata={"try": number}), SETTINGS
        )

    return request_span_with_attempts(
        observe(whole, SETTINGS),
        [
            attempt(1, "openai", 1000.0, Capture(Ending.UNREACHABLE, 1001.0, reason="refused")),
            # It ends when the whole does, and what ends last is what Langfuse believes.
            attempt(2, "groq", 1001.0, reply("hello, briefly", 1003.0)),
        ],
    )


@pytest.fixture(params=["3.120.0", "4.16.0"])
def inbox(request: Any) -> Inbox:
    return Inbox(version=request.param)


def upload(client: httpx.Client, inbox: Inbox, observations: Sequence[Observation]) -> None:
    protocol: Any = ingestion if inbox.version < "4" else otlp
    parts = [part for observation in observations for part in protocol.encode(observation)]
    answer = client.post(
        protocol.PATH, content=protocol.request_body(parts), headers=protocol.HEADERS
    )
    assert answer.is_success
    assert answer.json().get("errors", []) == []


def in_any_order(
    client: httpx.Client, inbox: Inbox, observations: list[Observation]
) -> Iterator[None]:
    """Sends them in every order, one by one and in one upload."""
    for order in permutations(observations):
        for uploads in ([[each] for each in order], [order]):
            inbox.clear()
            for sent in uploads:
                upload(client, inbox, sent)
            yield


def test_the_trace_is_what_the_span_says_whichever_arrives_first(
    client: httpx.Client, inbox: Inbox
):
    span, *attempts = tree(HEADERS)
    upload(client, inbox, [span])
    [told] = inbox.traces()
    assert (told["name"], told["user_id"], told["tags"]) == ("chat/completions", "ada", ["a", "b"])
    assert (told["environment"], told["release"]) == ("production", "worker-7")
    assert told["input"] == [{"role": "user", "content": "hi"}]
    assert told["output"] == {"role": "assistant", "content": "hello"}
    metadata = told["metadata"]
    assert (metadata["provider"], metadata["http_status"]) == ("groq", 200)
    assert (metadata["config"], metadata["team"]) == ("prod", "search")
    for _ in in_any_order(client, inbox, [span, *attempts]):
        assert inbox.traces() == [told]


def test_a_trace_of_the_callers_stays_what_the_caller_says(client: httpx.Client, inbox: Inbox):
    # Over OTLP a trace has its spans' environment, and so had better have the same in all.
    same: dict[str, Any] = {
        "metadata": {"own": 1},
        "environment": "production",
        "started_at": 999.0,
    }
    app = replace(FULL, trace=replace(TRACE, **same), ended_at=1002.0, **same)
    upload(client, inbox, [app])
    [told] = inbox.traces()
    observations = [app, *tree({"traceparent": f"00-{TRACE.id}-{FULL.id}-01"})]
    for _ in in_any_order(client, inbox, observations):
        assert inbox.traces() == [told]


def test_attempts_are_generations_below_their_span(client: httpx.Client, inbox: Inbox):
    span, *attempts = tree(HEADERS)
    for _ in in_any_order(client, inbox, [span, *attempts]):
        found = {observation["id"]: observation for observation in inbox.observations()}
        top, first, second = (found[o.id] for o in (span, *attempts))
        assert (top["type"], top["parent_id"], top["level"]) == ("SPAN", None, "DEFAULT")
        assert (top["model"], top["usage"], top["cost"]) == (None, {}, {})
        assert top["output"] == {"role": "assistant", "content": "hello"}
        assert second["output"] == {"role": "assistant", "content": "hello, briefly"}
        for number, attempt in enumerate((first, second), 1):
            assert (attempt["type"], attempt["parent_id"]) == ("GENERATION", span.id)
            assert attempt["metadata"]["try"] == number
            assert (attempt["trace_name"], attempt["user_id"]) == ("chat/completions", "ada")
        assert (first["level"], first["output"]) == ("ERROR", None)
        assert second["usage"]["total"] == 3


def test_the_page_lists_the_trace_once_with_its_attempts(client: httpx.Client, inbox: Inbox):
    span, *attempts = tree(HEADERS)
    upload(client, inbox, [span, *attempts])
    [listed] = client.get("/api/inbox").json()["traces"]
    assert (listed["id"], listed["steps"], listed["provider"]) == (span.trace.id, 3, "groq")
    assert (listed["level"], listed["latency"]) == ("DEFAULT", 3000)
    trace = client.get(f"/api/inbox/trace?id={span.trace.id}").json()
    shown = [(found["id"], found["parent_id"]) for found in trace["observations"]]
    assert shown == [(span.id, None), *((attempt.id, span.id) for attempt in attempts)]
