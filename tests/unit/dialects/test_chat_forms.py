"""Replies at OpenAI's paths in other forms: lines of JSON, servers' own chat formats, chunks of the
other endpoint, embeddings of several vectors; and what providers send beside the choices."""

import json
from typing import Any

import pytest

from core.limits import MAX_FIRST_TOKEN_READS
from dialects import chat
from dialects.first_token import FirstTokenSearch
from dialects.sse import is_event_stream, is_json_lines
from tests.unit.dialects.untyped import read_reply

CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
EMBEDDINGS, OTHER = "/v1/embeddings", "/v1/other"
JSON, STREAM, LINES = "application/json", "text/event-stream", "application/x-ndjson"
HI = {"role": "assistant", "content": "Hi"}


def events(*payloads: Any) -> bytes:
    return "".join(f"data: {json.dumps(payload)}\n\n" for payload in payloads).encode()


def lines(*payloads: Any) -> bytes:
    return "".join(f"{json.dumps(payload)}\n" for payload in payloads).encode()


def chunk(content: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return {"model": "m", "choices": [choice], **more}


def read_whole(path: str, reply: Any) -> Any:
    return read_reply(path, json.dumps(reply).encode(), JSON, True)


# -- Lines of JSON --


@pytest.mark.parametrize("content_type", [LINES, "application/jsonl; charset=utf-8", JSON, ""])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_lines_of_json_are_read_as_a_stream(content_type: str, line_end: bytes) -> None:
    body = lines(chunk("H"), chunk("i"), chunk("", "stop")).replace(b"\n", line_end)
    completion = read_reply(CHAT, body, content_type, True)
    assert completion == read_reply(
        CHAT, events(chunk("H"), chunk("i"), chunk("", "stop")), STREAM, True
    )
    other = read_reply(OTHER, lines({"a": 1}, {"b": 2}), content_type, True)
    assert (other.output, other.is_streamed) == ([{"a": 1}, {"b": 2}], True)


def test_events_without_blank_lines_between_them_are_read() -> None:
    body = events(chunk("H"), chunk("i"), chunk("", "stop")) + b"data: [DONE]\n\n"
    for short in (
        body.replace(b"\n\n", b"\n"),
        b"event: a\n" + body.replace(b"\n\n", b"\nevent: a\n"),
    ):
        assert read_reply(CHAT, short, STREAM, True) == read_reply(CHAT, body, STREAM, True)


def test_lines_of_json_that_are_cut_are_unfinished() -> None:
    completion = read_reply(CHAT, lines(chunk("Hi"), chunk("!"))[:-9], LINES, False)
    assert (completion.output, completion.is_finished) == (HI, False)
    assert completion.notes == ("stream: cut inside its last event",)


def test_an_error_in_a_line_is_recognised() -> None:
    completion = read_reply(CHAT, lines(chunk("Hi"), {"error": "unexpected EOF"}), LINES, True)
    assert (completion.error, completion.output) == ("unexpected EOF", HI)
    completion = read_reply(CHAT, lines(chunk("Hi"), chunk("")) + b"Bad Gateway\n", LINES, True)
    assert (completion.error, completion.output) == ("Bad Gateway", HI)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"choices": [{"message": {"content": "}\n{"}}]}, indent=1).encode(),
        b'{"a": "}"\n, "b": {}}',
        b'{"a":{\n}\n,"b":{}}',
        b'{"a":1}\n',
        b'{"a":1}',
        b'[{"a":1},\n{"a":2}]',
        b"",
    ],
)
def test_one_json_value_is_no_stream_of_lines(body: bytes) -> None:
    assert not is_json_lines(body, JSON)
    assert not is_event_stream(body, JSON)


def test_the_first_token_of_lines_of_json_is_found() -> None:
    search = FirstTokenSearch(CHAT, LINES)
    for piece in (lines(chunk("")), lines(chunk("Hi"))[:-9]):
        assert search.feed(piece)
    assert not search.feed(lines(chunk("Hi"))[-9:])
    assert search.found


def test_one_line_of_unknown_type_is_not_searched_for_a_token() -> None:
    assert not FirstTokenSearch(CHAT, JSON).feed(lines(chunk("Hi")))
    assert MAX_FIRST_TOKEN_READS > 1


# -- Chat formats of other APIs --


def ollama(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content}, **more}


END = {"done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 2}


def test_a_chat_of_ollama_is_read() -> None:
    whole = read_whole(CHAT, ollama("Hi", **END))
    streamed = read_reply(
        CHAT,
        lines(ollama("H", done=False), ollama("i", done=False), ollama("", **END)),
        LINES,
        True,
    )
    for completion in (whole, streamed):
        assert (completion.model, completion.output) == ("m", HI)
        assert completion.usage == {"input": 5, "output": 2, "total": 7}
        assert completion.metadata == {"finish_reason": "stop"}
        assert completion.is_finished
    generated = [{"model": "m", "response": text, "done": text == "i"} for text in "Hi"]
    assert read_reply(COMPLETIONS, lines(*generated), LINES, True).output == "Hi"
    assert not read_reply(COMPLETIONS, lines(generated[0]), LINES, False).is_finished


def test_thoughts_and_tool_calls_of_ollama_are_read() -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    message = {"role": "assistant", "content": "", "thinking": "Hm", "tool_calls": [call]}
    expected = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        ],
        "thinking": [{"type": "thinking", "content": "Hm"}],
    }
    reply = {"model": "m", "message": message, "done": True}
    assert read_whole(CHAT, reply).output == expected
    assert read_reply(CHAT, lines(reply), LINES, True).output == expected


def test_a_reply_of_workers_ai_is_read() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    result = {"response": "Hi", "usage": usage}
    for reply in (result, {"result": result, "success": True, "errors": [], "messages": []}):
        completion = read_whole(CHAT, reply)
        assert (completion.output, completion.error) == (HI, None)
        assert completion.usage == {"input": 5, "output": 2, "total": 7}
    body = events({"response": "H"}, {"response": "i", "usage": usage}) + b"data: [DONE]\n\n"
    streamed = read_reply(CHAT, body, STREAM, True)
    assert (streamed.output, streamed.usage["total"]) == (HI, 7)
    call = {"name": "f", "arguments": {"a": 1}}
    called = read_whole(CHAT, {"response": None, "tool_calls": [call]}).output
    assert called["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert read_whole(CHAT, {"response": {"a": 1}}).output["content"] == '{"a":1}'
    wrapped = {"result": {"choices": [{"message": HI}]}, "success": True}
    assert read_whole(CHAT, wrapped).output == HI


# -- Chunks of the other endpoint, and whole messages in a stream --


def test_a_chat_in_an_envelope_is_read() -> None:
    """https://github.com/cline/cline/issues/12647"""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    reply = {"id": "g", "model": "m", "choices": [{"index": 0, "message": HI}], "usage": usage}
    assert read_whole(CHAT, {"data": reply, "success": True}) == read_whole(CHAT, reply)
    assert read_whole(CHAT, {"code": 0, "msg": "ok", "data": reply}) == read_whole(CHAT, reply)


def test_a_chat_at_the_path_of_completions_is_read() -> None:
    streamed = read_reply(COMPLETIONS, events(chunk("H"), chunk("i", "stop")), STREAM, True)
    assert (streamed.output, streamed.is_finished) == ("Hi", True)
    assert read_whole(COMPLETIONS, {"choices": [{"message": HI}]}).output == "Hi"
    thought = {"index": 0, "delta": {"reasoning_content": "Hm"}}
    body = events({"choices": [thought]}, chunk("Hi"))
    assert read_reply(COMPLETIONS, body, STREAM, True).output == {
        **HI,
        "thinking": [{"type": "thinking", "content": "Hm"}],
    }


def test_completions_at_the_path_of_chats_are_read() -> None:
    choices = [{"index": 0, "text": text, "finish_reason": None} for text in "Hi"]
    body = events(*({"choices": [choice]} for choice in choices))
    assert read_reply(CHAT, body, STREAM, True).output == HI
    assert read_whole(CHAT, {"choices": [{"text": "Hi"}]}).output == HI


def test_reasoning_of_a_completion_is_kept() -> None:
    choice = {"index": 0, "text": "Hi", "reasoning": "Hm", "finish_reason": "stop"}
    expected = {**HI, "thinking": [{"type": "thinking", "content": "Hm"}]}
    assert read_whole(COMPLETIONS, {"choices": [choice]}).output == expected
    body = events({"choices": [choice]})
    assert read_reply(COMPLETIONS, body, STREAM, True).output == expected


@pytest.mark.parametrize(
    "choices",
    [
        [{"delta": {"content": "H"}}, {"delta": {"content": "i"}}],  # no role, no index
        [{"message": {"role": "assistant", "content": "H"}}, {"delta": {"content": "i"}}],
        [{"delta": {"content": "H"}}, {"message": HI}],  # MiniMax repeats all of it
        [{"delta": {"content": "Hi"}}, {"message": {"role": "assistant", "content": ""}}],
        [{"delta": None}, {"delta": {"content": "Hi", "tool_calls": None}}],
        [{"delta": {"content": t}, "message": {"content": "?"}} for t in "Hi"],  # Perplexity
        [{"delta": {"content": ""}, "message": HI}, {"delta": {}}],
    ],
)
def test_odd_orders_of_deltas_and_messages(choices: list[Any]) -> None:
    body = events(*({"model": "m", "choices": [choice]} for choice in choices))
    assert read_reply(CHAT, body, STREAM, True).output == HI


@pytest.mark.timeout(20)
def test_a_text_in_many_parts_is_joined_in_linear_time() -> None:
    parts = [{"type": "text", "text": "x" * 10_000}] * 10_000
    message = {"role": "assistant", "content": parts}
    completion = chat.read_reply({"choices": [{"index": 0, "message": message}]})
    assert completion.output == {"role": "assistant", "content": "x" * 100_000_000}


# -- Beside the choices --


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("citations", ["https://a.example"]),
        ("search_results", [{"title": "A", "url": "https://a.example"}]),
        ("related_questions", ["Why?"]),
        ("images", [{"image_url": "https://a.example/1.png"}]),
        ("web_search", [{"title": "A", "link": "https://a.example"}]),  # Zhipu
    ],
)
def test_sources_are_part_of_the_message(name: str, value: Any) -> None:
    whole = {"model": "m", "choices": [{"index": 0, "message": HI}], name: value}
    assert read_whole(CHAT, whole).output == {**HI, name: value}
    body = events(chunk("H"), chunk("i", "stop", **{name: value}))
    assert read_reply(CHAT, body, STREAM, True).output == {**HI, name: value}
    whole["choices"].append({"index": 1, "message": HI})
    assert read_whole(CHAT, whole).output == [{**HI, name: value}, HI]


HATE = {"hate": {"filtered": True, "severity": "high"}}
SAFE = {"violence": {"filtered": False, "severity": "safe"}}


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_why_a_content_filter_struck_is_recorded(path: str) -> None:
    jailbreak = {"jailbreak": {"filtered": True, "detected": True}}
    detected = {"jailbreak": {"filtered": False, "detected": True}}
    choice = {"index": 0, "finish_reason": "content_filter"}
    results = {"content_filter_results": {**HATE, **SAFE, **detected}}
    prompt = {"prompt_filter_results": [{"content_filter_results": {**SAFE, **jailbreak}}]}
    expected = {"finish_reason": "content_filter", "content_filter": {**HATE, **jailbreak}}
    whole = {"choices": [{**choice, "message": {}, **results}], **prompt}
    assert read_whole(path, whole).metadata == expected
    # Azure's asynchronous filter sends them in chunks of their own.
    body = events(
        {"choices": [], **prompt},
        chunk("Hi"),
        {"choices": [{**choice, "delta": {}}]},
        {"choices": [{"index": 0, "finish_reason": None, **results}]},
        {"choices": [{"index": 0, "finish_reason": None, "content_filter_results": SAFE}]},
    )
    assert read_reply(path, body, STREAM, True).metadata == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            {"content_filter": [{"role": "user", "level": 1}]},
            {"content_filter": [{"role": "user", "level": 1}]},
        ),
        ({"output_sensitive": True, "output_sensitive_type": 2, "input_sensitive": False}, None),
        ({"input_sensitive": False, "output_sensitive": False}, {}),
    ],
)
def test_filters_of_zhipu_and_minimax_are_recorded(reply: Any, expected: Any) -> None:
    if expected is None:
        expected = {"output_sensitive": True, "output_sensitive_type": 2}
    metadata = read_whole(CHAT, {"choices": [{"message": HI}], **reply}).metadata
    assert metadata.get("content_filter", {}) == expected


def test_a_filter_that_could_not_run_is_recorded() -> None:
    error = {"code": "content_filter_error", "message": "The contents are not filtered"}
    choice = {"message": HI, "content_filter_results": {"error": error, **SAFE}}
    completion = read_whole(CHAT, {"choices": [choice]})
    assert completion.metadata == {"content_filter": {"error": error}}
    assert completion.error is None


# -- Embeddings --


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"data": [{"embedding": [1, 2, 3]}]}, {"dimensions": 3, "count": 1}),
        (
            {"data": [{"embeddings": [[1, 2, 3], [4, 5, 6]]}, {"embeddings": [[1, 2, 3]]}]},
            {"dimensions": 3, "count": 2, "vectors": 3},
        ),
        (
            {"data": [{"embedding": [[1, 2], [3, 4]]}]},
            {"dimensions": 2, "count": 1, "vectors": 2},
        ),
        (
            {"data": [{"embeddings": ["AAAAAAAAAAA=", "AAAAAAAAAAA="]}]},
            {"dimensions": 2, "count": 1, "vectors": 2},
        ),
        ({"embeddings": [[1, 2], [3, 4]]}, {"dimensions": 2, "count": 2}),
        ({"embeddings": {"float": [[1, 2], [3, 4]]}}, {"dimensions": 2, "count": 2}),
        ({"embedding": [1, 2]}, {"dimensions": 2, "count": 1}),
        ({"result": {"data": [[1, 2]]}, "success": True}, {"dimensions": 2, "count": 1}),
        ({"data": []}, {"dimensions": 0, "count": 0}),
        ({"vectors": [[1, 2], [3, 4]]}, {"dimensions": 2, "count": 2}),
    ],
)
def test_vectors_are_counted(reply: dict[str, Any], expected: dict[str, int]) -> None:
    assert read_whole(EMBEDDINGS, reply).output == expected


def test_usage_beside_the_vectors_of_minimax_is_read() -> None:
    reply = {"vectors": [[1, 2]], "total_tokens": 4, "base_resp": {"status_code": 0}}
    assert read_whole(EMBEDDINGS, reply).usage == {"input": 4, "total": 4}


@pytest.mark.parametrize(
    "reply",
    [{"data": [{"embedding": {"dense": [1.5, 2.5]}}]}, {"values": [[1.5, 2.5]]}, [[1.5], [2.5]]],
)
def test_vectors_that_are_not_found_are_not_recorded_either(reply: Any) -> None:
    for body in (json.dumps(reply).encode(), events(reply), lines(reply, reply)):
        completion = read_reply(EMBEDDINGS, body, JSON, True)
        assert ".5" not in json.dumps(completion.output)


def test_embeddings_in_lines_of_json_are_counted() -> None:
    body = lines({"model": "m", "data": [{"embedding": [1, 2]}]}, {"data": [{"embedding": [3, 4]}]})
    completion = read_reply(EMBEDDINGS, body, LINES, True)
    assert (completion.model, completion.output) == ("m", {"dimensions": 2, "count": 2})
