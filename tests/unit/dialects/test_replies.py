"""Tests of `read_reply` with errors, malformed or incomplete replies, and large ones."""

import json
from typing import Any

import pytest

from dialects.fields import Completion
from dialects.registry import dialect_for_path
from tests.unit.dialects.untyped import read_reply, read_request

CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
EMBEDDINGS, RESPONSES = "/v1/embeddings", "/v1/responses"
JSON, STREAM = "application/json", "text/event-stream"
ALL = [CHAT, COMPLETIONS, MESSAGES, EMBEDDINGS, RESPONSES, "/other"]


def events(*payloads: Any) -> bytes:
    return "".join(f"data: {json.dumps(payload)}\n\n" for payload in payloads).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"model": "m", "choices": [choice], **more}


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("content_type", [JSON, STREAM, "text/html", ""])
@pytest.mark.parametrize("complete", [True, False])
def test_a_reply_that_is_not_json_is_recorded_as_text(
    path: str, content_type: str, complete: bool
) -> None:
    body = b"<html>502 Bad Gateway</html>"
    completion = read_reply(path, body, content_type, complete)
    assert completion.output == body.decode()
    # A stream has an end marker of its own.
    assert completion.is_finished is (complete and content_type != STREAM)
    assert completion.notes[0].startswith("reply: ")


@pytest.mark.parametrize("path", ALL)
def test_an_empty_reply_is_noted(path: str) -> None:
    assert read_reply(path, b"", STREAM, False) == Completion(
        is_streamed=True, is_finished=False, notes=("reply: empty",)
    )
    completion = read_reply(path, b" \n", JSON, True)
    assert completion.notes == ("reply: empty",)
    # Other endpoints may reply with nothing.
    assert completion.error == (None if path == "/other" else "The reply is empty.")


@pytest.mark.timeout(60)
def test_a_stream_of_many_tool_calls_is_read_in_linear_time() -> None:
    calls = (
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": n, "function": {}}]}}]}
        for n in range(40_000)
    )
    assert len(read_reply(CHAT, events(*calls), STREAM, True).output["tool_calls"]) == 40_000


def test_an_incomplete_whole_reply_is_recorded_as_text() -> None:
    body = json.dumps({"choices": [{"message": {"content": "x " * 25_000}}]}).encode()[:40_000]
    completion = read_reply(CHAT, body, JSON, complete=False)
    assert completion.output == body.decode()[:10_000]
    assert not completion.is_finished


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"error": {"type": "t", "message": "m"}}, "t: m"),
        ({"error": {"code": 429, "message": "m", "status": "LIMIT"}}, "429: m"),
        ({"error": {"message": "m"}}, "m"),
        ({"error": "m"}, "m"),
        ({"error": {"reason": "r"}}, '{"reason":"r"}'),
        ({"error": ["r"]}, '["r"]'),
        ({"type": "error", "error": {"type": "t", "message": "m"}}, "t: m"),
        ([{"error": {"code": 400, "message": "m", "status": "INVALID"}}], "400: m"),  # Gemini
        ({"object": "error", "type": "BadRequestError", "message": "m"}, "BadRequestError: m"),
    ],
)
def test_the_error_of_a_reply_is_read_in_all_formats(path: str, reply: Any, message: str) -> None:
    """https://platform.openai.com/docs/guides/error-codes, Anthropic's, Google's and vLLM's."""
    completion = read_reply(path, json.dumps(reply).encode(), JSON, True)
    assert completion.error == message
    assert completion.notes == ()
    # Some servers send an error with the content type of a stream.
    assert read_reply(path, json.dumps(reply).encode(), STREAM, True) == completion


def test_a_long_error_is_truncated() -> None:
    body = json.dumps({"error": {"message": "x" * 100_000}}).encode()
    assert len(read_reply(CHAT, body, JSON, True).error or "") == 1000


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, MESSAGES, EMBEDDINGS, RESPONSES])
def test_a_reply_of_another_format_is_recorded_unchanged(path: str) -> None:
    reply = {"answer": "42", "model": "m"}
    completion = read_reply(path, json.dumps(reply).encode(), JSON, True)
    assert completion.output == reply
    assert completion.model == "m"
    assert completion.notes[0].startswith("output: ")


@pytest.mark.parametrize(
    ("path", "malformed"),
    [
        (CHAT, {"choices": "x"}),
        (COMPLETIONS, {"choices": {"a": 1}}),
        (MESSAGES, {"content": 7}),
        (RESPONSES, {"output": "x"}),
        (EMBEDDINGS, {"data": [{"embedding": None}]}),
    ],
)
def test_a_malformed_field_does_not_affect_others(path: str, malformed: dict[str, Any]) -> None:
    reply = {"id": "x", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 2}, **malformed}
    completion = read_reply(path, json.dumps(reply).encode(), JSON, True)
    assert (completion.model, completion.output) == ("m", reply)
    assert completion.usage == {"input": 1, "output": 2, "total": 3}
    assert completion.metadata == {"response_id": "x"}
    assert len(completion.notes) == 1
    assert completion.notes[0].startswith("output: ")


@pytest.mark.parametrize("model", [{}, {"model": "m"}])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, MESSAGES, RESPONSES])
def test_the_events_of_a_stream_of_another_format_are_recorded(path: str, model: Any) -> None:
    # With a model, as llama.cpp's own format of completions
    payloads = [{"type": "of_tomorrow", "x": 1}, {"y": [2], **model}]
    completion = read_reply(path, events(*payloads), STREAM, True)
    assert completion.output == payloads
    assert completion.notes == (
        f"stream: no answer of the form {dialect_for_path(path).name}, its events are kept",
    )


def test_events_that_are_not_objects_are_noted() -> None:
    completion = read_reply(CHAT, events(1, chunk({"content": "a"}), "x"), STREAM, True)
    assert completion.output == {"role": "assistant", "content": "a"}
    assert completion.notes == ("stream: some events are not objects",)


def test_malformed_and_incomplete_events_are_noted() -> None:
    body = events(chunk({"content": "a"})) + b"data: {oops\n\n" + events(chunk({"content": "b"}))
    completion = read_reply(CHAT, body + b'data: {"choi', STREAM, False)
    assert completion.output == {"role": "assistant", "content": "ab"}
    assert not completion.is_finished
    assert completion.notes == (
        "stream: cut inside its last event",
        "stream: 1 of 4 events could not be read",
    )


@pytest.mark.parametrize(
    ("path", "body", "finished"),
    [
        (CHAT, events(chunk({"content": "a"})), False),
        (CHAT, events(chunk({"content": "a"}), chunk({}, "stop")), True),
        (CHAT, events(chunk({"content": "a"})) + b"data: [DONE]\n\n", True),
        (CHAT, b"data: [DONE]\n\n", True),
        (MESSAGES, events({"type": "message_start", "message": {"role": "assistant"}}), False),
        (RESPONSES, events({"response": {"status": "in_progress", "output": []}}), False),
        (RESPONSES, events({"response": {"status": "failed", "output": []}}), True),
        ("/other", events({"a": 1}), True),
        ("/other", events({"a": 1}) + b"data: [DONE]\n\n", True),
    ],
)
def test_a_stream_is_finished_with_its_end_marker_or_finish_reason(
    path: str, body: bytes, finished: bool
) -> None:
    assert read_reply(path, body, STREAM, True).is_finished is finished


def test_replies_of_other_endpoints_are_recorded() -> None:
    whole = {"model": "r", "results": [{"score": 0.5}], "usage": {"total_tokens": 3}}
    completion = read_reply("/v1/rerank", json.dumps(whole).encode(), JSON, True)
    assert completion == Completion(model="r", output=whole, usage={"input": 3, "total": 3})
    streamed = read_reply("/v1/x", events({"a": 1}, {"error": "e"}), STREAM, True)
    assert streamed == Completion(output=[{"a": 1}, {"error": "e"}], error="e", is_streamed=True)
    listed = read_reply("/v1/x", b"[1,2]", JSON, True)
    assert listed == Completion(output=[1, 2])


def test_a_surrogate_pair_in_two_events_is_joined() -> None:
    body = events(chunk({"content": "\ud83d"}), chunk({"content": "\ude00"}))
    assert read_reply(CHAT, body, STREAM, True).output["content"] == "😀"


def test_a_repeated_function_name_is_not_concatenated() -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "1"}}
    event = chunk({"role": "assistant", "tool_calls": [call]})
    body = events(event, event)
    function = {"name": "f", "arguments": "11"}
    assert read_reply(CHAT, body, STREAM, True).output["tool_calls"] == [
        {"id": "c", "type": "function", "function": function}
    ]


def tool_call_chunk(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    return chunk({"tool_calls": [{"index": index, "function": function, **more}]})


def test_the_channel_of_each_delta_is_not_concatenated() -> None:
    """Groq repeats it with models of OpenAI's Harmony format."""
    deltas = [{"content": text, "channel": "final"} for text in "Hi"]
    completion = read_reply(CHAT, events(*map(chunk, deltas)), STREAM, True)
    assert completion.output == {"role": "assistant", "content": "Hi", "channel": "final"}


def test_tool_calls_are_ordered_by_their_index() -> None:
    body = events(
        tool_call_chunk(1, "1", id="b", name="g"), tool_call_chunk(0, "0", id="a", name="f")
    )
    calls = read_reply(CHAT, body, STREAM, True).output["tool_calls"]
    assert [call["id"] for call in calls] == ["a", "b"]


def test_another_id_for_the_same_index_starts_no_new_tool_call() -> None:
    body = events(tool_call_chunk(0, "{", id="a", name="f"), tool_call_chunk(0, "}", id="b"))
    calls = read_reply(CHAT, body, STREAM, True).output["tool_calls"]
    assert [call["function"] for call in calls] == [{"name": "f", "arguments": "{}"}]


def test_a_reply_with_thinking_only_has_no_content() -> None:
    body = events(chunk({"content": [{"type": "thinking", "thinking": "Hm"}]}))
    assert read_reply(CHAT, body, STREAM, True).output == {
        "role": "assistant",
        "content": None,
        "thinking": [{"type": "thinking", "content": "Hm"}],
    }


def test_the_last_response_event_replaces_earlier_items() -> None:
    item = {"type": "message", "role": "assistant", "content": []}
    full = {**item, "content": [{"type": "output_text", "text": "All of it"}]}
    body = events(
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"status": "completed", "output": [full]}},
    )
    assert read_reply(RESPONSES, body, STREAM, True).output["content"] == "All of it"


def test_tool_arguments_that_are_an_object_become_text() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}
    whole = {"choices": [{"message": {"content": "", "tool_calls": [call]}}]}
    output = read_reply(CHAT, json.dumps(whole).encode(), JSON, True).output
    assert output["tool_calls"][0]["function"]["arguments"] == '{"a":1}'


def test_a_stream_of_5000_chunks_is_read() -> None:
    body = events(*(chunk({"content": f" {n}"}) for n in range(5000)), chunk({}, "stop"))
    completion = read_reply(CHAT, body, STREAM, True)
    assert completion.output["content"] == "".join(f" {n}" for n in range(5000))
    assert completion.notes == ()


def test_a_reply_of_5_mb_is_read() -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "x" * 5_000_000}}]}
    completion = read_reply(CHAT, json.dumps(whole).encode(), JSON, True)
    assert len(completion.output["content"]) == 5_000_000


@pytest.mark.parametrize("depth", [50, 90, 500, 20_000])
def test_deeply_nested_bodies_are_read_without_an_exception(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for path in ALL:
        for body in (
            f'{{"choices":[{{"message":{{"content":{deep}}}}}]}}',
            f'{{"content":[{{"type":"tool_use","input":{deep}}}],"output":[{deep}],"error":{deep}}}',
            f'{{"messages":{deep},"input":{deep},"x":{deep}}}',
            deep,
        ):
            for reply in (body, f"data: {body}\n\n"):
                json.dumps(read_reply(path, reply.encode(), JSON, True).output)
            json.dumps(read_request(path, body.encode()).input)
