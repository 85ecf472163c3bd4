"""An exchange becomes an observation."""

import json
from dataclasses import replace

import pytest

import context
from config import Settings
from tracing import DEFAULT, ERROR, WARNING, Exchange, observe
from vocabulary import Call, Capture, Ending

REQUEST = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "temperature": 1}'
REPLY = {
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
}
STREAM = (
    b'data: {"choices": [{"index": 0, "delta": {"content": "hel"}}]}\n\n'
    b'data: {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
WHOLE = Capture(
    Ending.COMPLETE, 1002.5, 200, "application/json", json.dumps(REPLY).encode(), first_byte=1002.0
)
STREAMED = replace(WHOLE, content_type="text/event-stream; charset=utf-8", body=STREAM)
CALL = Call("POST", "/v1/chat/completions", "", {"x-portkey-user-id": "ada"})


def observed(
    capture: Capture = WHOLE, call: Call = CALL, request: bytes = REQUEST, size: int = 0, **settings
):
    said = context.read(call.headers)
    exchange = Exchange(call, said, "openai", request, size or len(request), 1000.0, capture)
    return observe(exchange, Settings(secrets=("sk-lf-the-deployments",), **settings))


def test_a_whole_reply():
    observation = observed()
    assert (observation.started, observation.ended) == (1000.0, 1002.5)
    # When the first bytes of a whole reply came says nothing about the first token.
    assert observation.completion_started is None
    assert "time_to_first_token_ms" not in observation.metadata
    assert observation.metadata["latency_ms"] == 2500
    assert observation.model == "gpt-4o-2024-08-06"
    assert observation.parameters == {"temperature": 1}
    assert json.loads(observation.input or "") == [{"role": "user", "content": "hi"}]
    assert json.loads(observation.output or "") == {"role": "assistant", "content": "hello"}
    assert observation.usage == {"input": 2, "output": 1, "total": 3}
    assert (observation.level, observation.status_message) == (DEFAULT, None)
    assert observation.user == "ada"


def test_a_streamed_reply():
    observation = observed(STREAMED)
    assert observation.completion_started == 1002.0
    assert observation.metadata["time_to_first_token_ms"] == 2000
    assert observation.model == "gpt-4o"
    assert json.loads(observation.output or "") == {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize(
    ("capture", "level", "message"),
    [
        (WHOLE, DEFAULT, None),
        (STREAMED, DEFAULT, None),
        (Capture(Ending.UNREACHABLE, 1001, reason="refused"), ERROR, "could not be reached: refus"),
        (Capture(Ending.CLIENT_LEFT, 1001), WARNING, "closed the connection before the reply"),
        (replace(STREAMED, ending=Ending.CLIENT_LEFT), WARNING, "connection while the reply"),
        (replace(STREAMED, ending=Ending.CUT, reason="lost"), ERROR, "broke off the reply: lost"),
        (replace(STREAMED, body=STREAM[:66]), WARNING, "without its end marker"),
        (replace(STREAMED, body=STREAM[:66], cut=True), DEFAULT, None),
        (
            replace(WHOLE, status=429, body=b'{"error": {"type": "rate", "message": "slow down"}}'),
            ERROR,
            "HTTP 429: rate: slow down",
        ),
        (replace(WHOLE, status=502, body=b"<h1>Bad"), ERROR, "HTTP 502: <h1>Bad"),
        (
            replace(STREAMED, body=b'data: {"error": {"message": "overloaded"}}\n\n'),
            ERROR,
            "overloaded",
        ),
    ],
)
def test_how_it_ended(capture, level, message):
    observation = observed(capture)
    assert observation.level == level
    assert (observation.status_message is None) == (message is None)
    assert (message or "") in (observation.status_message or "")
    assert observation.metadata["ending"] == capture.ending.value


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_nothing_that_is_sent_or_received_stops_it(body):
    for capture in (WHOLE, STREAMED):
        observation = observed(replace(capture, body=body), request=body)
        assert observation.metadata["endpoint"] == "/v1/chat/completions"
        for text in (observation.input, observation.output):
            assert text is None or json.loads(text) is not None


def test_what_was_cut_is_marked():
    observation = observed(replace(WHOLE, body=WHOLE.body[:40], cut=True), size=10_000)
    assert f"request: the first {len(REQUEST)} bytes are recorded" in observation.metadata["notes"]
    assert "reply: the first 40 bytes are recorded" in observation.metadata["notes"]


def test_secrets_of_request_and_deployment_are_taken_out():
    call = replace(
        CALL,
        query="key=query-secret",
        headers={
            "authorization": "Bearer sk-caller-secret",
            "x-portkey-user-id": "user sk-caller-secret",
            "x-request-id": "sk-lf-the-deployments",
            "x-portkey-metadata": '{"k": "query-secret"}',
        },
    )
    content = "sk-caller-secret query-secret sk-lf-the-deployments"
    reply = {**REPLY, "model": f"m {content}", "choices": [{"message": {"content": content}}]}
    request = json.dumps({"model": content, "messages": [content], "stop": content}).encode()
    observation = observed(replace(WHOLE, body=json.dumps(reply).encode()), call, request)
    for secret in content.split():
        assert secret not in repr(observation)
    assert observation.user == "user [redacted]"
