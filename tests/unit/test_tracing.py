"""Tests of `tracing`: an exchange as an observation, several attempts as a tree."""

import json
import zlib
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from core.observation import DEFAULT, ERROR, WARNING, ModelCall, Trace
from core.safe_regex import compile_patterns
from core.trace_context import read_trace_context
from core.types import Call, Capture, Destination, Ending
from export import ingestion
from redaction.truncation import truncate_observation
from settings.load import Settings
from tests.unit.samples import EMBEDDING_IN_EXISTING_TRACE, FULL
from tracing import (
    Exchange,
    effective_content_mode,
    observe,
    request_span_with_attempts,
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
WHOLE = Capture(Ending.COMPLETE, 1002.5, 200, "application/json", json.dumps(REPLY).encode())
STREAMED = replace(
    WHOLE, content_type="text/event-stream; charset=utf-8", body=STREAM, first_token_at=1002.0
)
DESTINATION = Destination("default", "https://langfuse.example", "pk-lf-1", "sk-lf-1")
CALL = Call("POST", "/v1/chat/completions", "", {"x-portkey-user-id": "ada"})


def make_exchange(
    capture: Capture = WHOLE,
    call: Call = CALL,
    request_body: bytes = REQUEST,
    request_bytes: int = 0,
) -> Exchange:
    trace_context = read_trace_context(call.headers)
    request_bytes = request_bytes or len(request_body)
    return Exchange(
        call, trace_context, DESTINATION, "openai", request_body, request_bytes, 1000.0, capture
    )


def observe_exchange(
    capture: Capture = WHOLE,
    call: Call = CALL,
    request_body: bytes = REQUEST,
    request_bytes: int = 0,
    **settings,
):
    exchange = make_exchange(capture, call, request_body, request_bytes)
    deployment = Settings(secrets=("sk-lf-the-deployments",), **settings)
    mode = effective_content_mode(exchange.trace_context, deployment)
    trace_context = replace(exchange.trace_context, content_mode=mode)
    return observe(replace(exchange, trace_context=trace_context), deployment)


def test_the_observation_of_a_whole_reply():
    observation = observe_exchange()
    assert (observation.started_at, observation.ended_at) == (1000.0, 1002.5)
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


def test_the_observation_of_a_streamed_reply():
    observation = observe_exchange(STREAMED)
    assert observation.completion_started_at == 1002.0
    assert observation.metadata["time_to_first_token_ms"] == 2000
    assert observation.model == "gpt-4o"
    # Without usage, Langfuse counts the tokens of the text.
    assert json.loads(observation.output or "") == "hello"


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
            replace(WHOLE, status=502, body=b"<html><title>Bad gateway</title>"),
            ERROR,
            "HTTP 502: A page in place of a reply: Bad gateway",
        ),
        (replace(WHOLE, status=500, body=b'{"odd": 1}'), ERROR, 'HTTP 500: {"odd":1}'),
        (replace(WHOLE, status=500, body=b""), ERROR, "HTTP 500: The reply is empty."),
        (
            replace(WHOLE, status=500, body=b"(\xb5/\xfd", content_encoding="zstd"),
            ERROR,
            "HTTP 500",
        ),
        (replace(WHOLE, body=b'{"success": false, "message": "m"}'), ERROR, "m"),
        (replace(WHOLE, body=b""), ERROR, "The reply is empty."),
        (
            replace(STREAMED, body=b'data: {"error": {"message": "overloaded"}}\n\n'),
            ERROR,
            "overloaded",
        ),
    ],
)
def test_level_and_status_message_by_ending(capture, level, message):
    observation = observe_exchange(capture)
    assert observation.level == level
    assert (observation.status_message is None) == (message is None)
    assert (message or "") in (observation.status_message or "")
    assert observation.metadata["ending"] == capture.ending.value


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_malformed_bodies_do_not_prevent_an_observation(body):
    for capture in (WHOLE, STREAMED):
        observation = observe_exchange(replace(capture, body=body), request_body=body)
        assert observation.metadata["endpoint"] == "/v1/chat/completions"
        for text in (observation.input, observation.output):
            assert text is None or json.loads(text) is not None


def test_incomplete_bodies_are_noted_in_the_metadata():
    observation = observe_exchange(
        replace(WHOLE, body=WHOLE.body[:40], truncated=True), request_bytes=10_000
    )
    notes: Any = observation.metadata["notes"]
    assert f"request: the first {len(REQUEST)} bytes are recorded" in notes
    assert "reply: the first 40 bytes are recorded" in notes


def test_secrets_of_request_and_deployment_are_redacted():
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
    request_body = json.dumps({"model": content, "messages": [content], "stop": content}).encode()
    observation = observe_exchange(
        replace(WHOLE, body=json.dumps(reply).encode()), call, request_body
    )
    for secret in content.split():
        assert secret not in repr(observation)
    assert observation.trace.user == "user [redacted]"


def batch_size(observation) -> int:
    return len(ingestion.request_body(ingestion.encode(observation)))


TRACEPARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
SHARED = {"x-portkey-trace-id": "order 4711"}


def observe_in_trace(**headers: str) -> Trace:
    """The trace of a call with these headers, and with a user in its body."""
    return observe_exchange(
        call=replace(CALL, headers={**headers, "langfuse-metadata": '{"team": "search"}'}),
        request_body=REQUEST.replace(b'"gpt-4o"', b'"gpt-4o", "user": "body"'),
        environment="gw",
        release="worker",
    ).trace


@pytest.mark.parametrize("headers", [TRACEPARENT, {**SHARED, "x-portkey-parent-span-id": "step 1"}])
def test_the_trace_of_an_app_gets_only_what_the_callers_headers_set(headers):
    trace = observe_in_trace(**headers, **{"x-portkey-span-name": "step"})
    assert trace.is_existing
    assert (trace.name, trace.user, trace.release, trace.started_at) == (None,) * 4
    # Langfuse v3 keeps the environment of a trace's first event.
    assert trace.environment == "gw"
    assert trace.metadata["team"] == "search"
    assert "provider" not in trace.metadata
    named = observe_in_trace(
        **headers,
        **{"langfuse-trace-name": "job", "langfuse-release": "7", "langfuse-environment": "app"},
    )
    assert (named.name, named.release, named.environment) == ("job", "7", "app")


def test_all_calls_with_the_same_trace_id_send_the_same_trace():
    traces = [
        observe_in_trace(**SHARED, **{"x-portkey-span-name": name})
        for name in ("summarize", "translate")
    ]
    assert traces[0] == traces[1]
    trace = traces[0]
    assert (trace.name, trace.user) == ("chat/completions", "body")
    assert (trace.environment, trace.release) == ("gw", "worker")
    assert trace.metadata == {"team": "search", "x-portkey-trace-id": "order 4711"}
    # No call is known to be the first one, nor its input and output to be the trace's.
    assert trace.is_existing
    assert trace.started_at is None
    assert observe_in_trace(**SHARED, **{"langfuse-trace-name": "job"}).name == "job"


def test_a_new_trace_has_the_values_of_its_call():
    trace = observe_in_trace(**{"x-portkey-span-name": "summarize"})
    assert not trace.is_existing
    assert (trace.name, trace.user, trace.environment) == ("summarize", "body", "gw")
    assert (trace.release, trace.started_at) == ("worker", 1000.0)
    assert trace.metadata["provider"] == "openai"


def test_the_attempts_of_a_request_are_children_of_a_span():
    client_observation = replace(
        FULL, parent_id="00f067aa0ba902b7", level="DEFAULT", status_message="note"
    )
    attempt_observations = [replace(FULL, id=f"{n:016x}", parent_id=None) for n in (1, 2)]
    span, *attempts = request_span_with_attempts(client_observation, attempt_observations)
    assert span == replace(
        client_observation,
        type="span",
        completion_started_at=None,
        model=None,
        model_call=None,
        parameters={},
        usage={},
        cost={},
        prompt_name=None,
        prompt_version=None,
    )
    assert [replace(a, parent_id=None, trace=FULL.trace) for a in attempts] == attempt_observations
    assert {a.parent_id for a in attempts} == {FULL.id}
    # Each can be filtered by user, session and tags, and only the span sets the trace's content.
    assert {id(a.trace) for a in attempts} == {id(attempts[0].trace)}
    assert attempts[0].trace == replace(FULL.trace, is_existing=True, metadata={})


def test_attempts_in_an_existing_trace_keep_its_fields():
    span, attempt = request_span_with_attempts(EMBEDDING_IN_EXISTING_TRACE, [FULL])
    assert span.trace == EMBEDDING_IN_EXISTING_TRACE.trace
    assert attempt.trace == replace(EMBEDDING_IN_EXISTING_TRACE.trace, metadata={})
    assert (
        observe_exchange(call=replace(CALL, headers={"x-portkey-trace-id": "t"})).trace.started_at
        is None
    )
    assert observe_exchange().trace.started_at == 1000.0


@pytest.mark.parametrize("header", ["x-portkey-metadata", "langfuse-metadata"])
def test_numbers_that_json_cannot_represent_become_text(header):
    call = replace(CALL, headers={header: '{"a": 1e999, "b": NaN, "c": ' + "9" * 400 + "}"})
    request_body = REQUEST.replace(b"1}", b'1e999, "seed": ' + b"9" * 400 + b"}")
    observation = observe_exchange(call=call, request_body=request_body)
    text = ingestion.request_body(ingestion.encode(observation)).decode()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert observation.metadata["a"] == "inf"
    assert observation.parameters["seed"] == "9" * 400


def test_fields_are_truncated_to_what_langfuse_accepts():
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
    observation = observe_exchange(
        capture, request_body=json.dumps(body).encode(), redact_patterns=compile_patterns(["[0-9]"])
    )
    assert batch_size(observation) < 4_400_000
    assert len(observation.input or "") <= 800_000
    assert "[redacted]" in (observation.input or "")


def test_content_mode_usage_records_no_content():
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
    request_body = json.dumps(body).encode()
    for call in (CALL, replace(CALL, path="/v1/messages")):
        capture = replace(WHOLE, status=400, body=json.dumps(reply).encode())
        observation = observe_exchange(capture, call, request_body, content_mode="usage")
        assert "SECRET" not in repr(observation)
        assert observation.parameters["temperature"] == 0.5
    assert observe_exchange(request_body=request_body, content_mode="usage").parameters == {
        "temperature": 0.5,
        "reasoning_effort": "low",
    }


def test_the_callers_metadata_does_not_overwrite_the_gateways():
    call = replace(CALL, headers={"x-portkey-metadata": '{"request_id": "mine", "provider": "x"}'})
    metadata = observe_exchange(call=call).metadata
    assert (metadata["request_id"], metadata["provider"]) == ("mine", "openai")


GATEWAY_METADATA = {
    "gateway_key": "alice",
    "target": "config.targets[1]",
    "try": 2,
    "provider": "mine",
}


@pytest.mark.parametrize("trace_headers", [{}, {"x-portkey-trace-id": "t"}])
def test_names_of_gateway_metadata_are_not_taken_from_the_caller(trace_headers):
    callers_metadata = {**dict.fromkeys(GATEWAY_METADATA, "eve"), "team": "search"}
    headers = {"x-portkey-metadata": json.dumps(callers_metadata), **trace_headers}
    request_body = REQUEST.replace(b"{", b'{"metadata": {"gateway_key": "mallory"}, ', 1)
    exchange = make_exchange(call=replace(CALL, headers=headers), request_body=request_body)
    observation = observe(replace(exchange, gateway_metadata=GATEWAY_METADATA), Settings())
    for metadata in (observation.metadata, observation.trace.metadata):
        assert metadata["team"] == "search"
        assert "eve" not in metadata.values()
    assert GATEWAY_METADATA.items() <= observation.metadata.items()
    assert observation.metadata["endpoint"] == CALL.path
    # A new trace has the metadata of its root, an existing one only what the caller's headers set.
    trace_metadata = observation.trace.metadata
    assert {n: trace_metadata[n] for n in GATEWAY_METADATA if n in trace_metadata} == (
        {} if trace_headers else GATEWAY_METADATA
    )


def test_gateway_metadata_is_kept_when_the_callers_metadata_is_truncated():
    many = {f"name {n}": "v" * 90 for n in range(3000)}
    request_body = json.dumps({"model": "m", "metadata": many}).encode()
    metadata = observe(
        replace(make_exchange(request_body=request_body), gateway_metadata=GATEWAY_METADATA),
        Settings(),
    ).metadata
    assert GATEWAY_METADATA.items() <= metadata.items()
    assert len(json.dumps(metadata)) < 110_000


def test_secrets_in_gateway_metadata_are_redacted():
    gateway_metadata = {
        "target": "sk-a-targets-key",
        "tried": ["of query-secret", {"n": "sk-live-secret"}],
    }
    call = replace(CALL, query="key=query-secret")
    exchange = replace(make_exchange(call=call), gateway_metadata=gateway_metadata)
    metadata = observe(exchange, Settings(secrets=("sk-live-secret", "sk-a-targets-key"))).metadata
    assert metadata["target"] == "[redacted]"
    assert metadata["tried"] == ["of [redacted]", {"n": "[redacted]"}]


def test_secrets_are_redacted_from_every_field():
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
    body = {"model": secret, "messages": [secret], "stop": secret, "metadata": {"a": secret}}
    request_body, call = json.dumps(body).encode(), replace(CALL, headers=headers)
    reply = {"model": secret, "choices": [{"message": {"content": f"it is {secret}"}}]}
    error = {"error": {"message": f"wrong key {secret}"}}
    stream = b"".join(b'data: "%s"\n\n' % text.encode() for text in (secret[:9], secret[9:]))
    for capture in (
        replace(WHOLE, body=json.dumps(reply).encode()),
        replace(WHOLE, body=json.dumps(reply).encode()[:-8], truncated=True),
        replace(WHOLE, status=401, body=json.dumps(error).encode()),
        replace(WHOLE, status=401, body=secret.encode()),
        replace(WHOLE, body=zlib.compress(json.dumps(error).encode()), content_encoding="deflate"),
        replace(STREAMED, body=f"event: error\ndata: wrong key {secret}\n\n".encode()),
        replace(STREAMED, body=f"error: wrong key {secret}\n\n".encode()),
        replace(STREAMED, body=stream),
        Capture(Ending.UNREACHABLE, 1001, reason=f"no route with {secret}"),
    ):
        exchange = make_exchange(capture, call, request_body)
        assert secret in repr(observe(exchange, Settings()))
        observation = observe(exchange, Settings(secrets=(secret,)))
        assert secret not in repr(observation)
        assert secret[:9] not in repr(observation.output)
    assert secret not in repr(Settings(secrets=(secret,)))


def test_encoded_bodies_are_decoded_or_left_out():
    headers = {**CALL.headers, "content-encoding": "deflate"}
    observation = observe_exchange(
        replace(WHOLE, body=zlib.compress(WHOLE.body), content_encoding="deflate"),
        replace(CALL, headers=headers),
        zlib.compress(REQUEST),
    )
    plain = observe_exchange()
    assert (observation.input, observation.output) == (plain.input, plain.output)
    assert "notes" not in observation.metadata
    headers["content-encoding"] = "zstd"
    observation = observe_exchange(
        replace(WHOLE, body=b"(\xb5/\xfd\x00", content_encoding="zstd"),
        replace(CALL, headers=headers),
        b"(\xb5/\xfd\x00",
    )
    assert (observation.input, observation.output, observation.level) == (None, None, DEFAULT)
    assert observation.metadata["notes"] == [
        "request: in the encoding zstd, which cannot be read",
        "reply: in the encoding zstd, which cannot be read",
    ]


def test_a_secret_in_header_and_settings_counts_once():
    keys = tuple(f"the-key-number-{n}" for n in range(60))
    call = replace(CALL, headers={f"x-key-{n}": key for n, key in enumerate(keys)})
    assert observe(make_exchange(call=call), Settings(secrets=keys)).input is not None


def test_sampling_works_for_trace_ids_that_start_with_a_time():
    random = Random(4)
    ids = [f"65a1b2c3{random.getrandbits(96):024x}" for _ in range(1000)]
    trace_contexts = [read_trace_context({"x-portkey-trace-id": trace_id}) for trace_id in ids]
    recorded_count = sum(
        effective_content_mode(trace_context, Settings(sample_rate=0.25)) == "full"
        for trace_context in trace_contexts
    )
    assert 200 < recorded_count < 300


def test_the_value_of_an_azure_header_is_not_redacted_elsewhere():
    call = replace(CALL, headers={"x-portkey-azure-deployment-id": "gpt-4o-2024"})
    observation = observe_exchange(call=call)
    assert observation.model == "gpt-4o-2024-08-06"
    assert observation.metadata["request_headers"] == {
        "x-portkey-azure-deployment-id": "[redacted]"
    }


@pytest.mark.parametrize(
    "reply", [b'{"embeddings": [[0.125, 0.25]]}', b'{"data": [{"embedding": [0.125']
)
def test_embedding_vectors_are_never_recorded(reply):
    call = replace(CALL, path="/v1/embeddings")
    observation = observe_exchange(
        replace(WHOLE, body=reply, truncated=True), call, b'{"input": "x"}'
    )
    assert "0.125" not in repr(observation)


def test_base64_in_an_incomplete_body_is_not_recorded():
    request_body = b'{"messages": [{"image": "data:image/png;base64,' + b"iVBORw0KGgo" * 1000
    observation = observe_exchange(request_body=request_body, request_bytes=10**7)
    assert "iVBORw0KGgo" not in (observation.input or "")


def test_truncate_content_cuts_input_and_output_to_the_limit():
    long_text = json.dumps([{"role": "user", "content": "wörd " * 2000}], ensure_ascii=False)
    truncated = truncate_observation(replace(FULL, input=long_text), 3000)
    assert len((truncated.input or "").encode()) <= 3000
    assert json.loads(truncated.input or "")[0]["content"].startswith("wörd wörd")
    assert truncated.output == FULL.output
    note = "content: cut to 3000 bytes for its delivery"
    assert truncated.metadata == {**FULL.metadata, "notes": [note]}
    assert truncated.trace.metadata == truncated.metadata
    assert FULL.metadata == FULL.trace.metadata
    assert "notes" not in FULL.metadata

    truncated_twice = truncate_observation(replace(truncated, output=long_text), 400)
    assert len((truncated_twice.input or "").encode()) <= 400
    assert len((truncated_twice.output or "").encode()) <= 400
    assert truncated_twice.metadata["notes"] == [note, note.replace("3000", "400")]
    in_existing_trace = truncate_observation(
        replace(EMBEDDING_IN_EXISTING_TRACE, output=long_text, metadata={"notes": "mine"}), 400
    )
    assert in_existing_trace.metadata["notes"] == ["mine", note.replace("3000", "400")]
    assert in_existing_trace.trace == EMBEDDING_IN_EXISTING_TRACE.trace


@pytest.mark.parametrize("text", [None, '"short"', "[" * 90 + "]" * 90])
def test_truncate_content_returns_a_short_observation_unchanged(text):
    observation = replace(FULL, input=text, output=None)
    assert truncate_observation(observation, 200) is observation


def test_truncate_content_cuts_deeply_nested_json_as_text():
    truncated = truncate_observation(replace(FULL, output="[" * 2000 + "]" * 2000), 400)
    assert len(truncated.output or "") <= 400
    assert json.loads(truncated.output or "").startswith("[[[")


REPLY_WITH_ID = {**REPLY, "id": "chatcmpl-1"}
CUT_STREAM = STREAM[:66]
IN_STREAM_ERROR = (
    b'data: {"error": {"type": "overloaded_error", "message": "Overloaded"}}\n\ndata: [DONE]\n\n'
)


def test_the_model_call_has_what_request_and_reply_name():
    capture = replace(WHOLE, body=json.dumps(REPLY_WITH_ID).encode())
    assert observe_exchange(capture).model_call == ModelCall(
        request_type="chat",
        provider="openai",
        request_model="gpt-4o",
        response_model="gpt-4o-2024-08-06",
        response_id="chatcmpl-1",
        finish_reasons=("stop",),
    )


def test_the_model_call_of_a_reply_without_a_model_has_no_response_model():
    reply = {"choices": [{"index": 0, "message": {"content": "hello"}}]}
    observation = observe_exchange(replace(WHOLE, body=json.dumps(reply).encode()))
    assert observation.model == "gpt-4o"
    assert observation.model_call == ModelCall("chat", "openai", request_model="gpt-4o")


def test_the_model_call_has_a_finish_reason_for_each_choice():
    choices = [
        {"index": 1, "message": {"content": "b"}, "finish_reason": "length"},
        {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
    ]
    observation = observe_exchange(replace(WHOLE, body=json.dumps({"choices": choices}).encode()))
    assert observation.model_call
    assert observation.model_call.finish_reasons == ("stop", "length")


def test_the_callers_metadata_cannot_change_the_model_call():
    metadata = {"finish_reason": "mine", "response_id": "mine", "provider": "mine"}
    call = Call("POST", CALL.path, "", {"x-portkey-metadata": json.dumps(metadata)})
    observation = observe_exchange(call=call)
    assert observation.model_call
    assert "mine" not in str(observation.model_call)


def test_secrets_are_redacted_from_the_model_call():
    secret = "sk-secret-0123456789"
    call = Call("POST", CALL.path, "", {"authorization": f"Bearer {secret}"})
    reply = {
        "id": secret,
        "model": f"m-{secret}",
        "choices": [{"index": 0, "message": {}, "finish_reason": secret}],
    }
    request = json.dumps({"model": secret, "messages": []}).encode()
    observation = observe_exchange(replace(WHOLE, body=json.dumps(reply).encode()), call, request)
    assert secret not in str(observation)
    assert str(observation.model_call).count("[redacted]") == 4


@pytest.mark.parametrize(
    ("capture", "error_type"),
    [
        (WHOLE, None),
        (STREAMED, None),
        (replace(WHOLE, status=429, body=b"slow down"), "429"),
        (replace(WHOLE, status=500, body=b'{"error": {"type": "server_error"}}'), "500"),
        (replace(STREAMED, body=IN_STREAM_ERROR), "overloaded_error"),
        (replace(WHOLE, body=b'{"error": {"type": "a text with blanks"}}'), "_OTHER"),
        (replace(WHOLE, body=b'{"error": "plain"}'), "_OTHER"),
        (replace(WHOLE, body=b'{"error": {"code": 503, "message": "busy"}}'), "503"),
        (Capture(Ending.UNREACHABLE, 1001.0, reason="refused"), "network_error"),
        (Capture(Ending.UNREACHABLE, 1001.0, reason="no reply", timed_out=True), "timeout"),
        (replace(STREAMED, body=CUT_STREAM, ending=Ending.INTERRUPTED), "network_error"),
        (replace(STREAMED, body=CUT_STREAM, ending=Ending.CLIENT_LEFT), None),
        (replace(STREAMED, body=CUT_STREAM), None),
    ],
)
def test_an_error_has_a_type_and_nothing_else_has_one(capture, error_type):
    """https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/"""
    observation = observe_exchange(capture)
    assert observation.error_type == error_type
    assert (observation.level == ERROR) == (error_type is not None)
