"""Errors in the body of a reply, most of them with the HTTP status 200."""

import json
from typing import Any

import pytest

from dialects.errors import describe_error
from tests.unit.dialects.untyped import find_error, read_reply

CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
EMBEDDINGS, RESPONSES, OTHER = "/v1/embeddings", "/v1/responses", "/v1/other"
KNOWN = [CHAT, COMPLETIONS, MESSAGES, EMBEDDINGS, RESPONSES]
JSON, STREAM = "application/json", "text/event-stream"


def events(*payloads: Any) -> bytes:
    return "".join(f"data: {json.dumps(payload)}\n\n" for payload in payloads).encode()


def chunk(content: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish, **more}
    return {"model": "m", "choices": [choice]}


PARTIAL = events(chunk("Hi"))

# An error as a whole reply, the error that is recorded, and its type.
ERRORS: list[tuple[dict[str, Any], str, str | None]] = [
    # Workers AI: https://developers.cloudflare.com/api/
    (
        {"success": False, "errors": [{"code": 7000, "message": "No route"}], "result": None},
        "7000: No route",
        "7000",
    ),
    ({"success": False, "message": "m", "data": {"id": 1}}, "m (data.id: 1)", None),
    # MiniMax: https://platform.minimax.io/docs/api-reference/errorcode
    (
        {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}},
        "1004: login fail",
        "1004",
    ),
    # Zhipu's gateway, DashScope, Baidu, FastAPI, AWS
    ({"code": 500, "msg": "404 NOT_FOUND"}, "500: 404 NOT_FOUND", "500"),
    (
        {"code": "InvalidParameter", "message": "Range", "request_id": "r"},
        "InvalidParameter: Range",
        "InvalidParameter",
    ),
    ({"error_code": 17, "error_msg": "quota"}, "17: quota", "17"),
    ({"code": "Throttling", "message": "slow"}, "Throttling: slow", "Throttling"),
    ({"code": "429", "message": "slow"}, "429: slow", "429"),
    ({"detail": "Not Found"}, "Not Found", None),
    (
        {"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]},
        'missing: field required (loc: ["body"])',
        "missing",
    ),
    (
        {"__type": "ThrottlingException", "message": "Too many"},
        "ThrottlingException: Too many",
        "ThrottlingException",
    ),
    ({"errors": [{"message": "a"}, {"message": "b"}]}, "a; b", None),
    ({"status": "error", "message": "gone"}, "gone", None),
    (
        {"error": "Bad Request", "message": "no", "statusCode": 400},
        "Bad Request: no",
        "Bad Request",
    ),
    ({"error": True, "message": "overload"}, "overload", None),
    # The reason is beside the message.
    (
        {
            "error": {
                "code": 502,
                "message": "Provider returned error",
                "metadata": {"raw": "rate limited", "provider_name": "X"},
            }
        },
        "502: Provider returned error (metadata.provider_name: X; metadata.raw: rate limited)",
        "502",
    ),
    (
        {"error": {"type": "t", "message": "m", "failed_generation": "<f>"}},
        "t: m (failed_generation: <f>)",
        "t",
    ),
    (
        {
            "error": {
                "code": "content_filter",
                "message": "m",
                "innererror": {"content_filter_result": {"hate": {"filtered": True}}},
            }
        },
        'content_filter: m (innererror.content_filter_result: {"hate":{"filtered":true}})',
        "content_filter",
    ),
]


@pytest.mark.parametrize("path", [*KNOWN, OTHER])
@pytest.mark.parametrize(("reply", "message", "error_type"), ERRORS)
def test_an_error_is_recognised_at_every_endpoint(
    path: str, reply: Any, message: str, error_type: str | None
) -> None:
    completion = read_reply(path, json.dumps(reply).encode(), JSON, True)
    assert (completion.error, completion.error_type) == (message, error_type)
    if path in KNOWN:
        assert (completion.output, completion.notes) == (None, ())
    # The only event of a stream, or a line of JSON.
    for body in (events(reply), events(reply) + b"data: [DONE]\n\n"):
        streamed = read_reply(path, body, STREAM, True)
        assert (streamed.error, streamed.error_type) == (message, error_type)
    line = read_reply(path, json.dumps(reply).encode() + b"\n", "application/x-ndjson", True)
    assert line.error == message


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(("reply", "message", "error_type"), ERRORS)
def test_an_error_after_content_keeps_the_content(
    path: str, reply: Any, message: str, error_type: str | None
) -> None:
    completion = read_reply(path, PARTIAL + events(reply), STREAM, True)
    assert (completion.error, completion.error_type) == (message, error_type)
    text = completion.output["content"] if path == CHAT else completion.output
    assert text == "Hi"


@pytest.mark.parametrize(
    "reply",
    [
        {"success": True, "result": {"response": "Hi"}, "errors": [], "messages": []},
        {"choices": [{"message": {"content": "Hi"}}], "base_resp": {"status_code": 0}},
        {"choices": [{"message": {"content": "Hi"}}], "error": None},
        {"choices": [{"message": {"content": "Hi"}}], "error": {}},
        {"choices": [{"message": {"content": "Hi"}}], "error": {"code": None, "message": ""}},
        {"choices": [{"message": {"content": "Hi"}}], "code": 200, "message": "success"},
        {"choices": [{"message": {"content": "Hi"}}], "status": "error of yesterday"},
        {"choices": [{"message": {"content": "Hi"}}], "error": {"code": 0, "message": "OK"}},
    ],
)
def test_a_reply_with_content_and_a_status_of_success_is_no_error(reply: dict[str, Any]) -> None:
    completion = read_reply(CHAT, json.dumps(reply).encode(), JSON, True)
    assert completion.error is None
    assert completion.output["content"] == "Hi"


@pytest.mark.parametrize(
    "reply",
    [
        {"code": 0, "message": "success", "data": []},
        {"code": 200, "msg": "ok"},
        {"code": "Success", "message": "done."},
        {"status": "failed", "id": "batch_1", "object": "batch"},
        {"message": "Hello", "code": 7, "answer": 42},
        {"code": "print(1)", "message": "This prints 1"},
        {"title": "A book"},
        {"text": "error"},
        {},
    ],
)
def test_a_reply_of_another_endpoint_is_an_error_only_if_it_says_so(reply: Any) -> None:
    assert read_reply(OTHER, json.dumps(reply).encode(), JSON, True).error is None


FAILURES = [
    *("error", "network_error", "insufficient_system_resource", "abort", "TIMEOUT"),
    *("MALFORMED_FUNCTION_CALL", "function_call_filter: UNEXPECTED_TOOL_CALL"),
]
ANSWERS = [
    *("stop", "length", "tool_calls", "content_filter", "sensitive", "eos", "stop_sequence"),
    *("model_context_window_exceeded", "SAFETY", "COMPLETE", "MAX_TOKENS"),
]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("reason", [*FAILURES, *ANSWERS])
def test_the_finish_reason_of_a_failure_is_an_error(path: str, reason: str) -> None:
    message = {"role": "assistant", "content": "Hi"}
    whole = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": reason}]}
    read = read_reply(path, json.dumps(whole).encode(), JSON, True)
    streamed = read_reply(path, PARTIAL + events(chunk("", reason)), STREAM, True)
    assert read.error == (f"The finish reason is {reason}." if reason in FAILURES else None)
    assert read.error_type == (reason if reason in FAILURES else None)
    for name in ("error", "error_type", "output", "metadata", "notes"):
        assert getattr(streamed, name) == getattr(read, name)


def test_the_reason_of_the_provider_behind_openrouter_is_added() -> None:
    choice = {"finish_reason": "error", "native_finish_reason": "MALFORMED_RESPONSE"}
    error = find_error({"choices": [choice]})
    assert error is not None
    assert error.message == "The finish reason is error (MALFORMED_RESPONSE)."


def test_an_error_in_a_choice_is_recorded_rather_than_its_finish_reason() -> None:
    error = {"code": 502, "message": "Upstream"}
    body = PARTIAL + events(chunk("", "error", error=error)) + b"data: [DONE]\n\n"
    completion = read_reply(CHAT, body, STREAM, True)
    assert (completion.error, completion.error_type) == ("502: Upstream", "502")
    assert completion.metadata["finish_reason"] == "error"


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (b'error: {"code":500,"message":"m"}\n\n', "500: m"),  # llama.cpp
        (b'error: {"code":500,"message":"m"}\n\ndata: [DONE]\n\n', "500: m"),
        (b"error: it broke\n\n", "it broke"),
        (b"event: error\ndata: it broke\n\n", "it broke"),
        (b"event:error\ndata:it\ndata:broke\n\n", "it\nbroke"),
        (b'event: error\ndata: {"message":"m","code":5}\n\n', "5: m"),
        (b'event: error\ndata: {"detail":"m"}\n\n', "m"),
        (b"data: upstream error: reset\n\n", "upstream error: reset"),
        (b"data: upstream error: reset\n\ndata: [DONE]\n\n", "upstream error: reset"),
        (b"data: [ERROR]\n\n", "[ERROR]"),
        (b"upstream timed out\n", "upstream timed out"),
        (b'{"error":{"message":"m"}}\n', "m"),
        (b'{\n  "error": {\n    "message": "m"\n  }\n}\n', "m"),
        (b"<html><head><title>524</title></head></html>\n", "A page in place of a reply: 524"),
        (b"<!DOCTYPE html><body><h1>Bad</h1> luck", "A page in place of a reply: Bad luck"),
        (events({"choices": [], "x_groq": {"error": "over capacity"}}), "over capacity"),
    ],
)
@pytest.mark.parametrize("start", [b"", b": ping\n\n", PARTIAL])
@pytest.mark.parametrize("path", KNOWN)
def test_an_error_in_a_stream_is_recognised(
    path: str, start: bytes, end: bytes, message: str
) -> None:
    if path == EMBEDDINGS and start == PARTIAL:
        start = b""
    for body in (start + end, (start + end).replace(b"\n", b"\r\n")):
        completion = read_reply(path, body, STREAM, True)
        assert (completion.error or "").replace("\r", "") == message
        if path == CHAT and start == PARTIAL:
            assert completion.output["content"] == "Hi"


@pytest.mark.parametrize(
    "end",
    [
        b"event: message\n",
        b"event: erro",
        b"eve",
        b": error: a comment\n\n",
        b"retry: 5\n\n",
        b"data: [DON",
        b'data: {"choices":[{"delta":{"content":"error: no',
        b'data: {"choices":[{"delta":{"content":"\\nerror: no"}}]}\n\n',
    ],
)
def test_the_rest_of_a_stream_that_is_cut_is_no_error(end: bytes) -> None:
    completion = read_reply(CHAT, PARTIAL + end, STREAM, False)
    assert completion.error is None
    assert completion.output["content"].startswith("Hi")


def test_a_message_before_the_regular_end_of_a_stream_is_no_error() -> None:
    start, end = events({"message": "Waiting for a worker"}), events(chunk("Hi", "stop"))
    assert read_reply(CHAT, start + end, STREAM, True).error is None
    assert read_reply(CHAT, start, STREAM, True).error == "Waiting for a worker"


def test_text_after_the_end_of_a_stream_is_only_noted() -> None:
    body = PARTIAL + events(chunk("", "stop")) + b"data: [DONE]\n\nBye for now\n"
    completion = read_reply(CHAT, body, STREAM, True)
    assert (completion.error, completion.is_finished) == (None, True)
    assert completion.notes == ("stream: text outside of its events",)


@pytest.mark.parametrize("path", KNOWN)
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", JSON),
        (b"\r\n", STREAM),
        (b"{}", JSON),
        (b"null", JSON),
        (b"[]", JSON),
        (b'""', JSON),
        (b"data: [DONE]\n\n", STREAM),
        (b'data: {"type":"ping"}\n\ndata: {}\n\n', STREAM),
        (b": PROCESSING\n\n", STREAM),
    ],
)
def test_an_empty_reply_is_an_error(path: str, body: bytes, content_type: str) -> None:
    assert read_reply(path, body, content_type, True).error == "The reply is empty."
    # It broke off, which is recorded in another way.
    assert read_reply(path, body, content_type, False).error is None


@pytest.mark.parametrize("path", KNOWN)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html><title> 502\n Bad </title>x</html>", "A page in place of a reply: 502 Bad"),
        (b"<?xml version='1.0'?><Error><Code>No</Code></Error>", "A page in place of a reply: No"),
        (b"upstream connect error", "upstream connect error"),
        (b'"upstream connect error"', "upstream connect error"),
        (b"\x1f\x8b\x00\x01", "[binary, 4 bytes]"),
    ],
)
def test_a_text_in_place_of_a_reply_is_an_error(path: str, body: bytes, message: str) -> None:
    for content_type in (JSON, STREAM, "text/html"):
        assert read_reply(path, body, content_type, True).error == message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (CHAT, 'The reply is not JSON: {"data":[{"embed'),
        (EMBEDDINGS, "The reply is not JSON: its text may contain vectors"),
        (OTHER, None),
    ],
)
def test_a_complete_reply_that_is_cut_json_is_an_error(path: str, message: str | None) -> None:
    body = b'{"data":[{"embed'
    assert read_reply(path, body, JSON, True).error == message
    assert read_reply(path, body, JSON, False).error is None


def test_a_page_is_an_error_at_any_endpoint_but_a_text_is_not() -> None:
    assert read_reply(OTHER, b"<html><title>x</title>", JSON, True).error
    assert read_reply(OTHER, b"One more subtitle", "text/plain", True).error is None


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"error": None, "status": "failed"}, "The response has failed."),
        ({"object": None, "status": "failed"}, "The response has failed."),
        (
            {"error": {"code": "server_error", "message": "m"}, "status": "failed"},
            "server_error: m",
        ),
        ({"error": None, "status": "incomplete"}, None),
        ({"error": None, "status": "cancelled"}, None),
    ],
)
def test_the_status_of_a_response(reply: dict[str, Any], message: str | None) -> None:
    reply = {"object": "response", "model": "m", "output": [], **reply}
    event = events({"type": f"response.{reply['status']}", "response": reply})
    assert read_reply(RESPONSES, json.dumps(reply).encode(), JSON, True).error == message
    assert read_reply(RESPONSES, event, STREAM, True).error == message


def test_a_message_of_anthropic_that_an_error_ended() -> None:
    block = {"type": "text", "text": "Hi"}
    reply = {"type": "message", "role": "assistant", "content": [block], "stop_reason": "error"}
    completion = read_reply(MESSAGES, json.dumps(reply).encode(), JSON, True)
    assert completion.error == "The finish reason is error."
    assert completion.output["content"] == "Hi"


def test_a_status_of_minimax_beside_content_is_an_error() -> None:
    status = {"base_resp": {"status_code": 1027, "status_msg": "sensitive"}}
    events_of = {
        CHAT: [chunk("Hi", "stop") | status],
        MESSAGES: [
            {"type": "message_start", "message": {"role": "assistant", "content": []}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **status},
        ],
    }
    for path, payloads in events_of.items():
        assert read_reply(path, events(*payloads), STREAM, True).error == "1027: sensitive"


def test_an_error_in_a_message_is_an_error() -> None:
    message = {"content": "Hi", "error": {"code": 502, "message": "Upstream"}}
    whole = json.dumps({"choices": [{"message": message}]}).encode()
    assert read_reply(CHAT, whole, JSON, True).error == "502: Upstream"
    body = events({"choices": [{"index": 0, "delta": message}]})
    assert read_reply(CHAT, body, STREAM, True).error == "502: Upstream"


def test_details_of_an_error_are_cut() -> None:
    error = describe_error({"message": "m", "raw": "x" * 100_000})
    assert len(error.message) == 1000


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "body",
    [
        b"<html>" + b"<title" * 300_000,
        b"<html>" + b"<" * 1_000_000,
        b"\nerror\n" * 200_000,
        b"a\n" * 500_000,
        b"event: error\n" * 100_000,
        b"data: x y\n\n" * 100_000,
        b"data: {}\n\nx\n" * 50_000,
        b"{\n" * 300_000,
        b'{"a":1}\n' * 100_000,
    ],
    ids=range(9),
)
def test_a_hostile_body_is_read_in_linear_time(body: bytes) -> None:
    for path in (CHAT, OTHER):
        json.dumps(read_reply(path, body, STREAM, True).output)
