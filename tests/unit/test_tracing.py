"""An exchange becomes an observation."""

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from core.safe_regex import compile_patterns
from core.trace_context import read_trace_context
from core.types import Call, Capture, Ending
from export import ingestion
from settings.load import Destination, Settings
from tests.unit.samples import FULL, JOINED
from tracing import (
    DEFAULT,
    ERROR,
    WARNING,
    Exchange,
    effective_content_mode,
    observe,
    request_span_with_attempts,
    truncate_content,
)

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
    Ending.COMPLETE,
    1002.5,
    200,
    "application/json",
    json.dumps(REPLY).encode(),
    first_byte_at=1002.0,
)
STREAMED = replace(WHOLE, content_type="text/event-stream; charset=utf-8", body=STREAM)
DESTINATION = Destination("default", "https://langfuse.example", "pk-lf-1", "sk-lf-1")
CALL = Call("POST", "/v1/chat/completions", "", {"x-portkey-user-id": "ada"})


def exchanged(
    capture: Capture = WHOLE, call: Call = CALL, request: bytes = REQUEST, size: int = 0
) -> Exchange:
    said = read_trace_context(call.headers)
    size = size or len(request)
    return Exchange(call, said, DESTINATION, "openai", request, size, 1000.0, capture)


def observed(
    capture: Capture = WHOLE, call: Call = CALL, request: bytes = REQUEST, size: int = 0, **settings
):
    exchange = exchanged(capture, call, request, size)
    return observe(exchange, Settings(secrets=("sk-lf-the-deployments",), **settings))


def test_a_whole_reply():
    observation = observed()
    assert (observation.started_at, observation.ended_at) == (1000.0, 1002.5)
    # When the first bytes of a whole reply came says nothing about the first token.
    assert observation.completion_started_at is None
    assert "time_to_first_token_ms" not in observation.metadata
    assert observation.metadata["latency_ms"] == 2500
    assert observation.model == "gpt-4o-2024-08-06"
    assert observation.parameters == {"temperature": 1}
    assert json.loads(observation.input or "") == [{"role": "user", "content": "hi"}]
    assert json.loads(observation.output or "") == {"role": "assistant", "content": "hello"}
    assert observation.usage == {"input": 2, "output": 1, "total": 3}
    assert (observation.level, observation.status_message) == (DEFAULT, None)
    assert observation.trace.user == "ada"


def test_a_streamed_reply():
    observation = observed(STREAMED)
    assert observation.completion_started_at == 1002.0
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
        (
            replace(STREAMED, ending=Ending.INTERRUPTED, reason="lost"),
            ERROR,
            "broke off the reply: lost",
        ),
        (replace(STREAMED, body=STREAM[:66]), WARNING, "without its end marker"),
        (replace(STREAMED, body=STREAM[:66], truncated=True), DEFAULT, None),
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
    observation = observed(replace(WHOLE, body=WHOLE.body[:40], truncated=True), size=10_000)
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
    assert observation.trace.user == "user [redacted]"


def batch_size(observation) -> int:
    return len(ingestion.request_body(ingestion.encode(observation)))


def test_of_a_joined_trace_only_what_the_caller_said_is_told():
    headers = {"x-portkey-trace-id": "t", "langfuse-metadata": '{"team": "search"}'}
    request = REQUEST.replace(b'"gpt-4o"', b'"gpt-4o", "user": "body"')
    settings: Any = {"environment": "gw", "release": "worker"}
    trace = observed(call=replace(CALL, headers=headers), request=request, **settings).trace
    assert trace.is_existing
    assert (trace.name, trace.user, trace.environment, trace.release) == (None,) * 4
    assert trace.metadata == {"team": "search", "x-portkey-trace-id": "t"}
    own = observed(call=replace(CALL, headers={}), request=request, **settings).trace
    assert (own.user, own.environment, own.release) == ("body", "gw", "worker")
    assert own.metadata["provider"] == "openai"


def test_a_request_of_several_attempts_is_a_span_above_them():
    whole = replace(FULL, parent_id="00f067aa0ba902b7", level="DEFAULT", status_message="note")
    tries = [replace(FULL, id=f"{n:016x}", parent_id=None) for n in (1, 2)]
    span, *attempts = request_span_with_attempts(whole, tries)
    assert span == replace(
        whole,
        type="span",
        completion_started_at=None,
        model=None,
        parameters={},
        usage={},
        cost={},
        prompt_name=None,
        prompt_version=None,
    )
    assert [replace(a, parent_id=None, trace=FULL.trace) for a in attempts] == tries
    assert {a.parent_id for a in attempts} == {FULL.id}
    # So each can be filtered by user, session and tags, and none has another's content.
    assert {id(a.trace) for a in attempts} == {id(attempts[0].trace)}
    assert attempts[0].trace == replace(FULL.trace, is_existing=True, metadata={})


def test_a_trace_of_the_callers_stays_the_callers_above_attempts():
    span, attempt = request_span_with_attempts(JOINED, [FULL])
    assert span.trace == JOINED.trace
    assert attempt.trace == replace(JOINED.trace, metadata={})
    assert (
        observed(call=replace(CALL, headers={"x-portkey-trace-id": "t"})).trace.started_at is None
    )
    assert observed().trace.started_at == 1000.0


@pytest.mark.parametrize("header", ["x-portkey-metadata", "langfuse-metadata"])
def test_numbers_that_are_none_in_json_become_text(header):
    call = replace(CALL, headers={header: '{"a": 1e999, "b": NaN, "c": ' + "9" * 400 + "}"})
    request = REQUEST.replace(b"1}", b'1e999, "seed": ' + b"9" * 400 + b"}")
    observation = observed(call=call, request=request)
    text = ingestion.request_body(ingestion.encode(observation)).decode()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert observation.metadata["a"] == "inf"
    assert observation.parameters["seed"] == "9" * 400


def test_no_field_outgrows_what_langfuse_takes():
    body = {
        "model": "m" * 10_000,
        "messages": [{"role": "user", "content": "1" * 790_000}],
        "stop": ["x" * 1000] * 700,
        "user": "u" * 10_000,
        "metadata": {f"{n:0300}": "v" * 5000 for n in range(300)},
        **{f"own_{n}": "y" * 900 for n in range(1000)},
    }
    reply = {"choices": [{"message": {"role": "assistant", "content": "2" * 790_000}}]}
    capture = replace(WHOLE, body=json.dumps(reply).encode())
    observation = observed(
        capture, request=json.dumps(body).encode(), redact_patterns=compile_patterns(["[0-9]"])
    )
    assert batch_size(observation) < 4_400_000
    assert len(observation.input or "") <= 800_000
    assert "[redacted]" in (observation.input or "")


def test_without_content_nothing_of_it_is_left():
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "SECRET"}],
        "system": "SECRET",
        "stop": ["SECRET"],
        "guided_json": {"SECRET": 1},
        "temperature": 0.5,
        "reasoning_effort": "low",
        "metadata": {"SECRET": "SECRET"},
        "response_format": {"SECRET": 1},
    }
    reply = {"stop_reason": "x", "stop_sequence": "SECRET", "error": {"message": "SECRET"}}
    request = json.dumps(body).encode()
    for call in (CALL, replace(CALL, path="/v1/messages")):
        capture = replace(WHOLE, status=400, body=json.dumps(reply).encode())
        observation = observed(capture, call, request, content_mode="usage")
        assert "SECRET" not in repr(observation)
        assert observation.parameters["temperature"] == 0.5
    assert observed(request=request, content_mode="usage").parameters == {
        "temperature": 0.5,
        "reasoning_effort": "low",
    }


def test_the_gateways_own_words_are_not_overwritten():
    call = replace(CALL, headers={"x-portkey-metadata": '{"request_id": "mine", "provider": "x"}'})
    metadata = observed(call=call).metadata
    assert (metadata["request_id"], metadata["provider"]) == ("mine", "openai")


ABOUT = {"gateway_key": "alice", "target": "config.targets[1]", "try": 2, "provider": "mine"}


@pytest.mark.parametrize("trace", [{}, {"x-portkey-trace-id": "t"}])
def test_what_the_gateway_knows_beside_the_call_is_the_gateways_to_say(trace):
    said = {**dict.fromkeys(ABOUT, "eve"), "team": "search"}
    headers = {"x-portkey-metadata": json.dumps(said), **trace}
    request = REQUEST.replace(b"{", b'{"metadata": {"gateway_key": "mallory"}, ', 1)
    exchange = exchanged(call=replace(CALL, headers=headers), request=request)
    observation = observe(replace(exchange, gateway_metadata=ABOUT), Settings())
    for metadata in (observation.metadata, observation.trace.metadata):
        assert metadata["team"] == "search"
        assert "eve" not in metadata.values()
    assert ABOUT.items() <= observation.metadata.items()
    assert observation.metadata["endpoint"] == CALL.path
    # An own trace has its root's metadata, a joined one what the caller said of it.
    found = observation.trace.metadata
    assert {n: found[n] for n in ABOUT if n in found} == ({} if trace else ABOUT)


def test_what_the_gateway_knows_is_not_crowded_out():
    many = {f"name {n}": "v" * 90 for n in range(3000)}
    request = json.dumps({"model": "m", "metadata": many}).encode()
    metadata = observe(
        replace(exchanged(request=request), gateway_metadata=ABOUT), Settings()
    ).metadata
    assert ABOUT.items() <= metadata.items()
    assert len(json.dumps(metadata)) < 110_000


def test_what_the_gateway_knows_is_recorded_without_secrets():
    about = {"target": "sk-a-targets-key", "tried": ["of query-secret", {"n": "sk-live-secret"}]}
    call = replace(CALL, query="key=query-secret")
    exchange = replace(exchanged(call=call), gateway_metadata=about)
    metadata = observe(exchange, Settings(secrets=("sk-live-secret", "sk-a-targets-key"))).metadata
    assert metadata["target"] == "[redacted]"
    assert metadata["tried"] == ["of [redacted]", {"n": "[redacted]"}]


def test_secrets_are_taken_out_of_everything():
    secret = "the-key-of-another-target"
    headers = {
        "x-portkey-metadata": json.dumps({"team": secret, "_user": secret, "_tags": [secret]}),
        "x-portkey-span-name": secret,
        "langfuse-trace-name": secret,
        "langfuse-version": secret,
        "langfuse-release": secret,
        "langfuse-prompt-name": secret,
        "langfuse-prompt-version": "1",
        "x-request-id": secret,
    }
    said = {"model": secret, "messages": [secret], "stop": secret, "metadata": {"a": secret}}
    request, call = json.dumps(said).encode(), replace(CALL, headers=headers)
    reply = {"model": secret, "choices": [{"message": {"content": f"it is {secret}"}}]}
    error = {"error": {"message": f"wrong key {secret}"}}
    pieces = b"".join(b'data: "%s"\n\n' % part.encode() for part in (secret[:9], secret[9:]))
    for capture in (
        replace(WHOLE, body=json.dumps(reply).encode()),
        replace(WHOLE, body=json.dumps(reply).encode()[:-8], truncated=True),
        replace(WHOLE, status=401, body=json.dumps(error).encode()),
        replace(WHOLE, status=401, body=secret.encode()),
        replace(STREAMED, body=pieces),
        Capture(Ending.UNREACHABLE, 1001, reason=f"no route with {secret}"),
    ):
        exchange = exchanged(capture, call, request)
        assert secret in repr(observe(exchange, Settings()))
        observation = observe(exchange, Settings(secrets=(secret,)))
        assert secret not in repr(observation)
        assert secret[:9] not in repr(observation.output)
    assert secret not in repr(Settings(secrets=(secret,)))


def test_a_secret_that_is_named_twice_counts_once():
    keys = tuple(f"the-key-number-{n}" for n in range(60))
    call = replace(CALL, headers={f"x-key-{n}": key for n, key in enumerate(keys)})
    assert observe(exchanged(call=call), Settings(secrets=keys)).input is not None


def test_a_sample_of_ids_that_begin_with_a_time():
    random = Random(4)
    ids = [f"65a1b2c3{random.getrandbits(96):024x}" for _ in range(1000)]
    said = [read_trace_context({"x-portkey-trace-id": trace_id}) for trace_id in ids]
    kept = sum(effective_content_mode(s, Settings(sample_rate=0.25)) == "full" for s in said)
    assert 200 < kept < 300


def test_a_header_that_is_no_secret_takes_nothing_out():
    call = replace(CALL, headers={"x-portkey-azure-deployment-id": "gpt-4o-2024"})
    observation = observed(call=call)
    assert observation.model == "gpt-4o-2024-08-06"
    assert observation.metadata["request_headers"] == {
        "x-portkey-azure-deployment-id": "[redacted]"
    }


@pytest.mark.parametrize(
    "reply", [b'{"embeddings": [[0.125, 0.25]]}', b'{"data": [{"embedding": [0.125']
)
def test_vectors_are_never_recorded(reply):
    call = replace(CALL, path="/v1/embeddings")
    observation = observed(replace(WHOLE, body=reply, truncated=True), call, b'{"input": "x"}')
    assert "0.125" not in repr(observation)


def test_base64_of_a_body_that_was_cut_is_not_recorded():
    request = b'{"messages": [{"image": "data:image/png;base64,' + b"iVBORw0KGgo" * 1000
    observation = observed(request=request, size=10**7)
    assert "iVBORw0KGgo" not in (observation.input or "")


def test_an_observation_is_shortened_for_its_delivery():
    long = json.dumps([{"role": "user", "content": "wörd " * 2000}], ensure_ascii=False)
    short = truncate_content(replace(FULL, input=long), 3000)
    assert len((short.input or "").encode()) <= 3000
    assert json.loads(short.input or "")[0]["content"].startswith("wörd wörd")
    assert short.output == FULL.output
    note = "content: cut to 3000 bytes for its delivery"
    assert short.metadata == {**FULL.metadata, "notes": [note]}
    assert short.trace.metadata == short.metadata
    assert FULL.metadata == FULL.trace.metadata
    assert "notes" not in FULL.metadata

    again = truncate_content(replace(short, output=long), 400)
    assert len((again.input or "").encode()) <= 400
    assert len((again.output or "").encode()) <= 400
    assert again.metadata["notes"] == [note, note.replace("3000", "400")]
    joined = truncate_content(replace(JOINED, output=long, metadata={"notes": "mine"}), 400)
    assert joined.metadata["notes"] == ["mine", note.replace("3000", "400")]
    assert joined.trace == JOINED.trace


@pytest.mark.parametrize("text", [None, '"short"', "[" * 90 + "]" * 90])
def test_what_is_short_stays_as_it_is(text):
    observation = replace(FULL, input=text, output=None)
    assert truncate_content(observation, 200) is observation


def test_what_is_nested_too_deep_to_be_read_is_shortened_as_a_text():
    short = truncate_content(replace(FULL, output="[" * 2000 + "]" * 2000), 400)
    assert len(short.output or "") <= 400
    assert json.loads(short.output or "").startswith("[[[")
