"""Which event of a stream is the first with output of the model, for each dialect."""

import json
from typing import Any

import pytest

from core.limits import MAX_FIRST_TOKEN_READS
from dialects.first_token import FirstTokenSearch

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
COMPLETIONS = "/v1/completions"
STREAM = "text/event-stream"


def delta(**members: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": members, "finish_reason": None}]}


def tool_call(**function: str) -> dict[str, Any]:
    return delta(tool_calls=[{"index": 0, "id": "c", "type": "function", "function": function}])


def block(**members: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": members}


def block_delta(**members: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": members}


def response_event(name: str, **members: Any) -> dict[str, Any]:
    return {"type": f"response.{name}", "output_index": 0, **members}


def item(type: str, **members: Any) -> dict[str, Any]:
    return {"id": "i", "type": type, "status": "in_progress", **members}


OUTPUT = [
    (CHAT, delta(content="a")),
    (CHAT, delta(role="assistant", content="\n")),
    (CHAT, delta(content=[{"type": "text", "text": "a"}])),
    (CHAT, delta(reasoning_content="a")),
    (CHAT, delta(reasoning_content={"text": "a"})),
    (CHAT, delta(reasoning="a", reasoning_details=[])),
    (CHAT, delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "c2Vh"}])),
    (CHAT, delta(thinking_blocks=[{"type": "thinking", "thinking": "a"}])),
    (CHAT, delta(refusal="I can't.")),
    (CHAT, tool_call(name="look", arguments="")),
    (CHAT, delta(function_call={"name": "look", "arguments": ""})),
    (CHAT, delta(audio={"id": "audio_1", "transcript": "a"})),
    (CHAT, delta(audio={"data": "c2Vh"})),
    (CHAT, delta(images=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}])),
    (CHAT, {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]}),
    (CHAT, {"choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {"content": "a"}}]}),
    (CHAT, {"response": "a"}),
    (CHAT, {"message": {"role": "assistant", "content": "a"}, "done": False}),
    (COMPLETIONS, {"choices": [{"index": 0, "text": "a"}]}),
    (COMPLETIONS, delta(content="a")),
    (MESSAGES, block(type="text", text="a")),
    (MESSAGES, block(type="tool_use", id="t", name="look", input={})),
    (MESSAGES, block(type="server_tool_use", id="t", name="web_search", input={})),
    (MESSAGES, block(type="redacted_thinking", data="c2Vh")),
    (MESSAGES, block_delta(type="text_delta", text="a")),
    (MESSAGES, block_delta(type="thinking_delta", thinking="a")),
    (MESSAGES, block_delta(type="input_json_delta", partial_json="{")),
    (RESPONSES, response_event("output_text.delta", delta="a")),
    (RESPONSES, response_event("refusal.delta", delta="a")),
    (RESPONSES, response_event("reasoning_text.delta", delta="a")),
    (RESPONSES, response_event("reasoning_summary_text.delta", delta="a")),
    (RESPONSES, response_event("function_call_arguments.done", arguments="{}")),
    (RESPONSES, response_event("output_item.added", item=item("function_call", name="look"))),
    (RESPONSES, response_event("output_item.added", item=item("web_search_call"))),
    (RESPONSES, response_event("output_item.done", item=item("reasoning", encrypted_content="s"))),
    (RESPONSES, response_event("image_generation_call.partial_image", partial_image_b64="AA")),
    (RESPONSES, response_event("output_text.done", text="a")),
    (RESPONSES, {"object": "response", "output": [{"type": "message", "content": "a"}]}),
    (MESSAGES, {"type": "message", "content": [{"type": "text", "text": "a"}]}),
    (RESPONSES, {"type": "response.completed", "response": {"output": [{"text": "a"}]}}),
    ("/v1/rerank", {"anything": 1}),
]

NO_OUTPUT = [
    (CHAT, delta(role="assistant", content="")),
    (CHAT, delta(role="assistant", content=None, refusal=None, tool_calls=None)),
    (CHAT, delta(role="assistant", content="", name="MiniMax AI", audio_content="")),
    (CHAT, delta(role="assistant", content="", channel="analysis")),  # Groq
    (CHAT, delta(role="assistant", context={"citations": [{"content": "a"}], "intent": "b"})),
    (CHAT, delta(content="", annotations=[{"url_citation": {"title": "a"}}])),  # OpenRouter
    (CHAT, delta(content="", extra_content={"google": {"thought_signature": "c2Vh"}})),
    # https://vercel.com/docs/ai-gateway
    (CHAT, delta(provider_metadata={"gateway": {"cost": "0.0042"}})),
    (CHAT, delta(audio={"id": "audio_1"})),
    (CHAT, delta(audio={"expires_at": 1})),
    (CHAT, {"choices": [], "prompt_filter_results": [{"prompt_index": 0, "severity": "safe"}]}),
    (CHAT, {"choices": [], "usage": {"prompt_tokens": 1}}),
    (CHAT, {**delta(role="assistant", content=None), "prompt_progress": {"total": 5}}),
    (CHAT, {"error": {"message": "no", "type": "server_error"}}),
    (CHAT, {"choices": [{"delta": {"content": ""}, "error": {"message": "no"}}]}),
    (CHAT, {"choices": None}),
    (COMPLETIONS, {"choices": [{"index": 0, "text": ""}]}),
    (MESSAGES, {"type": "message_start", "message": {"id": "m", "role": "assistant"}}),
    (MESSAGES, {"type": "ping"}),
    (MESSAGES, block(type="text", text="")),
    (MESSAGES, block(type="thinking", thinking="", signature="")),
    (MESSAGES, block(type="fallback", to={"model": "claude-opus-4-8"})),
    (MESSAGES, block_delta(type="signature_delta", signature="c2Vh")),
    (MESSAGES, {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}),
    (RESPONSES, {"type": "response.created", "response": {"output": [], "instructions": "Be."}}),
    (RESPONSES, {"type": "response.queued", "response": {"output": []}}),
    (RESPONSES, {"sequence_number": 1, "type": "response.in_progress", "response": {}}),
    (RESPONSES, response_event("output_item.added", item=item("message", content=[]))),
    (
        RESPONSES,
        response_event("output_item.added", item=item("reasoning", encrypted_content="s")),
    ),
    (
        RESPONSES,
        response_event("output_item.done", item=item("mcp_list_tools", tools=[{"a": "b"}])),
    ),
    (
        RESPONSES,
        response_event("content_part.added", part={"type": "output_text", "text": ""}),
    ),
    (RESPONSES, {"type": "keepalive", "sequence_number": 2}),
    (RESPONSES, {"type": "error", "message": "no", "code": "server_error"}),
    ("/v1/rerank", {"error": "no"}),
]


def search(path: str, *pieces: bytes, content_type: str = STREAM) -> tuple[FirstTokenSearch, int]:
    """Feed the pieces until the search ends. Returns it, and the number of pieces that it took."""
    found = FirstTokenSearch(path, content_type)
    for number, piece in enumerate(pieces, 1):
        if not found.feed(piece):
            return found, number
    return found, len(pieces)


def data(*events: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)


@pytest.mark.parametrize(("path", "event"), OUTPUT)
def test_an_event_with_output_is_found(path: str, event: Any):
    assert search(path, data(event))[0].found


@pytest.mark.parametrize(("path", "event"), NO_OUTPUT)
def test_an_event_without_output_is_passed_over(path: str, event: Any):
    found = FirstTokenSearch(path, STREAM)
    assert found.feed(data(event))
    assert not found.found
    assert not found.feed(data(dict(OUTPUT)[path]))
    assert found.found


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b": ping\n\n", b"\n\n", b"retry: 3\n\n"])
def test_the_event_is_found_when_its_last_byte_arrives(line_end: bytes, start: bytes):
    role, token = data(delta(role="assistant", content="")), data(delta(content="a"))
    stream = (start + role + token).replace(b"\n", line_end)
    end = len(stream) - (1 if line_end == b"\r\n" else 0)
    for cut in range(1, end):
        found, _ = search(CHAT, stream[:cut])
        assert not found.found, stream[:cut]
        assert not found.feed(stream[cut:])
        assert found.found
    assert search(CHAT, *(stream[i : i + 1] for i in range(40)))[1] == 40
    assert search(CHAT, stream[:end])[0].found


@pytest.mark.parametrize("name", [b"", b"event: a\n"])
def test_events_without_blank_lines_are_searched(name: bytes):
    lines = [
        name + data(event).rstrip(b"\n") + b"\n" for event in (delta(role="a"), delta(content="a"))
    ]
    assert search(CHAT, *lines, lines[1], content_type="")[1] == 2
    assert search(CHAT, lines[0][:9], lines[0][9:], *lines[:1] * 5, lines[1])[1] == 8


def test_an_event_may_have_several_data_lines():
    text = json.dumps(delta(content="a"))
    cut = text.index('"choices"')
    lines = f"data: {text[:cut]}\ndata: {text[cut:]}\n\n"
    assert search(CHAT, lines.encode())[0].found


@pytest.mark.parametrize("content_type", ["application/json", STREAM, ""])
@pytest.mark.parametrize("body", [b'{"choices": []', b"[", b'   {"id": "x"'])
def test_a_whole_reply_is_not_searched(content_type: str, body: bytes):
    found, pieces = search(CHAT, body + b" " * 8, b"}", content_type=content_type)
    assert (found.found, found.notes, pieces) == (False, (), 1)


def test_a_stream_with_the_content_type_of_json_is_searched():
    found, _ = search(CHAT, data(delta(role="a")), data(delta(content="a")), content_type="json")
    assert found.found


def test_keep_alive_comments_end_the_search_after_some_reads():
    found, pieces = search(CHAT, *[b": ping\n\n"] * 200)
    assert pieces == MAX_FIRST_TOKEN_READS
    assert found.notes == ("first token: not looked for after 64 reads",)
    assert not found.found


def test_events_that_cannot_be_read_are_passed_over():
    pieces = (
        b"data: {\n\n",
        b"data: \xff\n\n",
        b"data: [1]\n\n",
        b"data: null\n\n",
        b"data: 7\n\n",
    )
    found, _ = search(CHAT, *pieces, data(delta(content="a")))
    assert found.found
