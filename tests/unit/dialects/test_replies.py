"""Replies that are not what they should be, and sizes."""

import json
from typing import Any

import pytest

from dialects.fields import Completion
from dialects.registry import dialect_for_path, read_reply, read_request

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
def test_text(path: str, content_type: str, complete: bool) -> None:
    body = b"<html>502 Bad Gateway</html>"
    completion = read_reply(path, body, content_type, complete)
    assert completion.output == body.decode()
    # A stream says itself where it ends.
    assert completion.finished is (complete and content_type != STREAM)
    assert completion.notes[0].startswith("reply: ")


@pytest.mark.parametrize("path", ALL)
def test_nothing(path: str) -> None:
    assert read_reply(path, b"", STREAM, False) == Completion(
        streamed=True, finished=False, notes=("reply: empty",)
    )
    assert read_reply(path, b" \n", JSON, True) == Completion(notes=("reply: empty",))


def test_a_stream_of_ever_new_tool_calls_takes_its_time_but_not_its_square() -> None:
    calls = (
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": n, "function": {}}]}}]}
        for n in range(40_000)
    )
    assert len(read_reply(CHAT, events(*calls), STREAM, True).output["tool_calls"]) == 40_000


def test_a_whole_reply_that_was_cut_is_text() -> None:
    body = json.dumps({"choices": [{"message": {"content": "x " * 25_000}}]}).encode()[:40_000]
    completion = read_reply(CHAT, body, JSON, complete=False)
    assert completion.output == body.decode()[:10_000]
    assert not completion.finished


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
def test_errors(path: str, reply: Any, message: str) -> None:
    """https://platform.openai.com/docs/guides/error-codes, Anthropic's, Google's and vLLM's."""
    completion = read_reply(path, json.dumps(reply).encode(), JSON, True)
    assert completion.error == message
    assert completion.notes == ()
    # an error that comes although a stream was asked for keeps the content type of a stream
    assert read_reply(path, json.dumps(reply).encode(), STREAM, True) == completion


def test_a_long_error_is_cut() -> None:
    body = json.dumps({"error": {"message": "x" * 100_000}}).encode()
    assert len(read_reply(CHAT, body, JSON, True).error or "") == 1000


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, MESSAGES, EMBEDDINGS, RESPONSES])
def test_a_reply_of_another_form_is_kept(path: str) -> None:
    reply = {"detail": "Not Found", "model": "m"}
    completion = read_reply(path, json.dumps(reply).encode(), JSON, True)
    assert completion.output == reply
    assert completion.model == "m"
    assert completion.notes[0].startswith("output: ")


@pytest.mark.parametrize(
    ("path", "spoiled"),
    [
        (CHAT, {"choices": "x"}),
        (COMPLETIONS, {"choices": {"a": 1}}),
        (MESSAGES, {"content": 7}),
        (RESPONSES, {"output": "x"}),
        (EMBEDDINGS, {"data": [{"embedding": None}]}),
    ],
)
def test_a_bad_field_spoils_no_other(path: str, spoiled: dict[str, Any]) -> None:
    reply = {"id": "x", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 2}, **spoiled}
    completion = read_reply(path, json.dumps(reply).encode(), JSON, True)
    assert (completion.model, completion.output) == ("m", reply)
    assert completion.usage == {"input": 1, "output": 2, "total": 3}
    assert completion.metadata == {"response_id": "x"}
    assert len(completion.notes) == 1
    assert completion.notes[0].startswith("output: ")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, MESSAGES, RESPONSES])
def test_a_stream_of_another_form_is_kept(path: str) -> None:
    payloads = [{"type": "of_tomorrow", "x": 1}, {"y": [2]}]
    completion = read_reply(path, events(*payloads), STREAM, True)
    assert completion.output == payloads
    assert completion.notes == (
        f"stream: no answer of the form {dialect_for_path(path).NAME}, its events are kept",
    )


def test_events_that_are_no_objects_are_noted() -> None:
    completion = read_reply(CHAT, events(1, chunk({"content": "a"}), "x"), STREAM, True)
    assert completion.output == {"role": "assistant", "content": "a"}
    assert completion.notes == ("stream: some events are not objects",)


def test_what_cannot_be_read_of_a_stream_is_noted() -> None:
    body = events(chunk({"content": "a"})) + b"data: {oops\n\n" + events(chunk({"content": "b"}))
    completion = read_reply(CHAT, body + b'data: {"choi', STREAM, False)
    assert completion.output == {"role": "assistant", "content": "ab"}
    assert not completion.finished
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
def test_finished(path: str, body: bytes, finished: bool) -> None:
    assert read_reply(path, body, STREAM, True).finished is finished


def test_any_other_endpoint() -> None:
    whole = {"model": "r", "results": [{"score": 0.5}], "usage": {"total_tokens": 3}}
    completion = read_reply("/v1/rerank", json.dumps(whole).encode(), JSON, True)
    assert completion == Completion(model="r", output=whole, usage={"input": 3, "total": 3})
    streamed = read_reply("/v1/x", events({"a": 1}, {"error": "e"}), STREAM, True)
    assert streamed == Completion(output=[{"a": 1}, {"error": "e"}], error="e", streamed=True)
    listed = read_reply("/v1/x", b"[1,2]", JSON, True)
    assert listed == Completion(output=[1, 2])


def test_halves_of_a_character_in_two_events() -> None:
    body = events(chunk({"content": "\ud83d"}), chunk({"content": "\ude00"}))
    assert read_reply(CHAT, body, STREAM, True).output["content"] == "😀"


def test_a_name_that_comes_again_is_not_doubled() -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "1"}}
    again = chunk({"role": "assistant", "tool_calls": [call]})
    body = events(again, again)
    function = {"name": "f", "arguments": "11"}
    assert read_reply(CHAT, body, STREAM, True).output["tool_calls"] == [
        {"id": "c", "type": "function", "function": function}
    ]


def call_piece(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    return chunk({"tool_calls": [{"index": index, "function": function, **more}]})


def test_calls_stand_in_the_order_of_their_index() -> None:
    body = events(call_piece(1, "1", id="b", name="g"), call_piece(0, "0", id="a", name="f"))
    calls = read_reply(CHAT, body, STREAM, True).output["tool_calls"]
    assert [call["id"] for call in calls] == ["a", "b"]


def test_a_new_id_in_each_piece_of_a_call_starts_no_other() -> None:
    body = events(call_piece(0, "{", id="a", name="f"), call_piece(0, "}", id="b"))
    calls = read_reply(CHAT, body, STREAM, True).output["tool_calls"]
    assert [call["function"] for call in calls] == [{"name": "f", "arguments": "{}"}]


def test_an_answer_of_thoughts_alone() -> None:
    body = events(chunk({"content": [{"type": "thinking", "thinking": "Hm"}]}))
    assert read_reply(CHAT, body, STREAM, True).output == {
        "role": "assistant",
        "content": None,
        "thinking": [{"type": "thinking", "content": "Hm"}],
    }


def test_the_last_response_of_a_stream_wins() -> None:
    item = {"type": "message", "role": "assistant", "content": []}
    full = {**item, "content": [{"type": "output_text", "text": "All of it"}]}
    body = events(
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"status": "completed", "output": [full]}},
    )
    assert read_reply(RESPONSES, body, STREAM, True).output["content"] == "All of it"


def test_arguments_that_are_an_object_become_text() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}
    whole = {"choices": [{"message": {"content": "", "tool_calls": [call]}}]}
    output = read_reply(CHAT, json.dumps(whole).encode(), JSON, True).output
    assert output["tool_calls"][0]["function"]["arguments"] == '{"a":1}'


def test_a_stream_of_5000_chunks() -> None:
    body = events(*(chunk({"content": f" {n}"}) for n in range(5000)), chunk({}, "stop"))
    completion = read_reply(CHAT, body, STREAM, True)
    assert completion.output["content"] == "".join(f" {n}" for n in range(5000))
    assert completion.notes == ()


def test_a_reply_of_5_mb() -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "x" * 5_000_000}}]}
    completion = read_reply(CHAT, json.dumps(whole).encode(), JSON, True)
    assert len(completion.output["content"]) == 5_000_000


@pytest.mark.parametrize("depth", [50, 90, 500, 20_000])
def test_deep_nesting(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for path in ALL:
        for body in (
            f'{{"choices":[{{"message":{{"content":{deep}}}}}]}}',
            f'{{"content":[{{"type":"tool_use","input":{deep}}}],"output":[{deep}],"error":{deep}}}',
            f'{{"messages":{deep},"input":{deep},"x":{deep}}}',
            deep,
        ):
            for sent in (body, f"data: {body}\n\n"):
                json.dumps(read_reply(path, sent.encode(), JSON, True).output)
            json.dumps(read_request(path, body.encode()).input)
