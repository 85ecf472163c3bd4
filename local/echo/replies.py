"""The replies of the echo provider's five endpoints in their wire formats, whole and streamed.

All functions are pure. Each takes an `EchoRequest` and returns the whole reply as a dict, or a
`Stream` of encoded events. The formats are those that the vendors document:
https://platform.openai.com/docs/api-reference (chat, completions, embeddings, responses) and
https://docs.anthropic.com/en/api/messages-streaming.
"""

import json
import struct
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

FINGERPRINT = "fp_echo0000"
EMBEDDING_DIMENSIONS = 1536

# Takes the place of the text in an event of a stream, so that the rest is encoded only once.
HOLE = "\x00echo\x00"


@dataclass(frozen=True)
class Reply:
    """The text of a reply, its length in words, and its pieces, each encoded as a JSON string."""

    text: str
    pieces: tuple[bytes, ...]
    words: int


@dataclass(frozen=True)
class EchoRequest:
    """A request and its reply's text. `model` is the model's name in the reply. `tool` is the tool
    that the reply calls, with its text as the arguments; "" for none."""

    id: str
    created: int
    model: str
    body: dict[str, Any]
    prompt_words: int
    reply: Reply
    tool: str = ""


@dataclass(frozen=True)
class Stream:
    """Encoded events: those before the text, one for each piece of the text, and those after it."""

    opening: list[bytes]
    pieces: Iterator[bytes]
    closing: list[bytes]


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8. A lone surrogate, which JSON allows, becomes `?`."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


@lru_cache(maxsize=64)
def compose_reply(prompt: str, length: int | None, chunks: int | None) -> Reply:
    """The reply that repeats `prompt`, `length` characters long and in `chunks` pieces.

    The sentence is cut or repeated to that length. Without `length` it is only repeated where there
    are more chunks than characters. Without `chunks` a piece is a word.
    """
    sentence = f"You said: {prompt}" if prompt else "You said nothing."
    size = max(len(sentence), chunks or 0) if length is None else length
    text = ((sentence + " ") * (size // len(sentence) + 1))[:size]
    if chunks is None:
        pieces = [word + " " for word in text.split(" ")]
        pieces[-1] = pieces[-1][:-1]
    else:
        pieces = [text[i * size // chunks : (i + 1) * size // chunks] for i in range(chunks)]
    encoded = tuple(encode(piece) for piece in pieces if piece)
    return Reply(text, encoded, len(text.split()))


def _data(value: Any) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"event: " + value["type"].encode() + b"\n" + _data(value)


def fill_hole(event: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The event once for each piece, which replaces `HOLE`."""
    head, tail = event.split(encode(HOLE))
    return (head + piece + tail for piece in pieces)


DONE = b"data: [DONE]\n\n"


def _openai_usage(request: EchoRequest) -> dict[str, Any]:
    return {
        "prompt_tokens": request.prompt_words,
        "completion_tokens": request.reply.words,
        "total_tokens": request.prompt_words + request.reply.words,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def openai_stream(
    request: EchoRequest, frame: dict[str, Any], choices: dict[str, list[Any]]
) -> Stream:
    """A stream of OpenAI chunks, by the members of all chunks and the choices of some of them.

    With `stream_options.include_usage` each chunk has a `usage`, which is null except in an
    additional last chunk without choices. Without that option no chunk has one.
    """
    options = request.body.get("stream_options")
    include_usage = isinstance(options, dict) and options.get("include_usage") is True
    usage = {"usage": None} if include_usage else {}

    def chunk(choice: Any) -> bytes:
        return _data(frame | {"choices": [choice]} | usage)

    closing = [chunk(choice) for choice in choices["closing"]]
    if include_usage:
        closing.append(_data(frame | {"choices": [], "usage": _openai_usage(request)}))
    return Stream(
        [chunk(choice) for choice in choices["opening"]],
        fill_hole(chunk(choices["piece"][0]), request.reply.pieces),
        [*closing, DONE],
    )


def chat_frame(request: EchoRequest, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{request.id}",
        "object": kind,
        "created": request.created,
        "model": request.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def chat(request: EchoRequest) -> dict[str, Any]:
    """A `chat.completion`."""
    message = {
        "role": "assistant",
        "content": request.reply.text,
        "refusal": None,
        "annotations": [],
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = _openai_usage(request)
    return chat_frame(request, "chat.completion") | {"choices": [choice], "usage": usage}


def chat_stream(request: EchoRequest) -> Stream:
    """`chat.completion.chunk`s: the role, the text, the finish reason, and usage if requested."""

    def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}

    return openai_stream(
        request,
        chat_frame(request, "chat.completion.chunk"),
        {
            "opening": [choice({"role": "assistant", "content": "", "refusal": None})],
            "piece": [choice({"content": HOLE})],
            "closing": [choice({}, "stop")],
        },
    )


def _completion_frame(request: EchoRequest) -> dict[str, Any]:
    return {
        "id": f"cmpl-{request.id}",
        "object": "text_completion",
        "created": request.created,
        "model": request.model,
        "system_fingerprint": FINGERPRINT,
    }


def _completion_choice(text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}


def completion(request: EchoRequest) -> dict[str, Any]:
    """A `text_completion`."""
    choices = [_completion_choice(request.reply.text, "stop")]
    return _completion_frame(request) | {"choices": choices, "usage": _openai_usage(request)}


def completion_stream(request: EchoRequest) -> Stream:
    """`text_completion`s: the text, the finish reason, and usage if requested."""
    choices = {
        "opening": [],
        "piece": [_completion_choice(HOLE, None)],
        "closing": [_completion_choice("", "stop")],
    }
    return openai_stream(request, _completion_frame(request), choices)


def embeddings(request: EchoRequest) -> dict[str, Any]:
    """A list of `embedding`s, one for each input, as floats, or in base64 where requested."""
    source = request.body["input"]
    is_single = isinstance(source, str) or (bool(source) and isinstance(source[0], int))
    dimensions = request.body.get("dimensions") or EMBEDDING_DIMENSIONS
    in_base64 = request.body.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _vector(encode(item), dimensions, in_base64),
        }
        for index, item in enumerate([source] if is_single else source)
    ]
    usage = {"prompt_tokens": request.prompt_words, "total_tokens": request.prompt_words}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


@lru_cache(maxsize=1024)
def _vector(text: bytes, dimensions: int, in_base64: bool) -> list[float] | str:
    """A unit vector that is always the same for a text: two axes, chosen by its checksum."""
    checksum = zlib.crc32(text)
    vector = [0.0] * dimensions
    vector[checksum % dimensions] = 0.6
    vector[(checksum % dimensions + 1) % dimensions] = 0.8
    if not in_base64:
        return vector
    return b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()


def message(request: EchoRequest) -> dict[str, Any]:
    """An Anthropic `message`."""
    return {
        "id": f"msg_{request.id}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [{"type": "text", "text": request.reply.text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": request.prompt_words,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": request.reply.words,
            "service_tier": "standard",
        },
    }


def message_stream(request: EchoRequest) -> Stream:
    """Anthropic's events for a message with one text."""
    block = {"type": "text", "text": ""}
    return message_events(request, message(request), block, {"type": "text_delta", "text": HOLE})


def message_events(
    request: EchoRequest, whole: dict[str, Any], block: dict[str, Any], piece: dict[str, Any]
) -> Stream:
    """Anthropic's events for a message with one block: `block` at its start, `piece` as its delta.

    The first event has the input tokens, the last but one the cumulative output tokens.
    """
    usage = whole["usage"]
    start = whole | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    final = {name: count for name, count in usage.items() if name != "service_tier"}
    return Stream(
        [
            _event({"type": "message_start", "message": start}),
            _event({"type": "content_block_start", "index": 0, "content_block": block}),
            _event({"type": "ping"}),
        ],
        fill_hole(
            _event({"type": "content_block_delta", "index": 0, "delta": piece}),
            request.reply.pieces,
        ),
        [
            _event({"type": "content_block_stop", "index": 0}),
            _event({"type": "message_delta", "delta": stop, "usage": final}),
            _event({"type": "message_stop"}),
        ],
    )


def response(request: EchoRequest) -> dict[str, Any]:
    """A Responses API `response`, completed."""
    return response_frame(
        request, "completed", [_response_item(request, "completed", request.reply.text)]
    )


def response_stream(request: EchoRequest) -> Stream:
    """The Responses API's events for one message with one text part."""
    place = {"item_id": f"msg_{request.id}", "output_index": 0, "content_index": 0}
    part = _output_text(request.reply.text)
    item = _response_item(request, "completed", request.reply.text)
    started = response_frame(request, "in_progress", [])
    opening: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": _response_item(request, "in_progress", None),
        },
        {"type": "response.content_part.added", **place, "part": _output_text("")},
    ]
    closing: list[dict[str, Any]] = [
        {"type": "response.output_text.done", **place, "text": request.reply.text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response(request)},
    ]
    delta = {"type": "response.output_text.delta", **place, "delta": HOLE, "logprobs": []}
    after = len(opening) + len(request.reply.pieces)
    return Stream(
        [numbered_event(event, number) for number, event in enumerate(opening)],
        numbered_piece_events(delta, request.reply.pieces, len(opening)),
        [numbered_event(event, number) for number, event in enumerate(closing, after)],
    )


def numbered_event(event: dict[str, Any], number: int) -> bytes:
    return _event(event | {"sequence_number": number})


def numbered_piece_events(
    delta: dict[str, Any], pieces: Iterable[bytes], start: int
) -> Iterator[bytes]:
    """The delta's event once for each piece, numbered from `start`."""
    head, tail = _event(delta).split(encode(HOLE))
    tail = tail.removesuffix(b"}\n\n")
    for number, piece in enumerate(pieces, start):
        yield b'%b%b%b,"sequence_number":%d}\n\n' % (head, piece, tail, number)


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_item(request: EchoRequest, status: str, text: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{request.id}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [] if text is None else [_output_text(text)],
    }


def response_frame(
    request: EchoRequest, status: str, output: list[dict[str, Any]]
) -> dict[str, Any]:
    body = request.body
    usage = {
        "input_tokens": request.prompt_words,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": request.reply.words,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": request.prompt_words + request.reply.words,
    }
    return {
        "id": f"resp_{request.id}",
        "object": "response",
        "created_at": request.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": request.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if status == "completed" else None,
        "user": None,
        "metadata": body.get("metadata") or {},
    }
