"""What the echo provider says: the wire shapes of the five endpoints, whole and streamed.

Pure: an `Ask` goes in; a dict (the whole reply) or a `Stream` of encoded events comes out.
The shapes are those that the vendors document:
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

# Stands where a stream's text goes while the rest of its event is encoded once.
HOLE = "\x00echo\x00"


@dataclass(frozen=True)
class Reply:
    """The text of a reply and its pieces, each already encoded as a JSON string."""

    text: str
    pieces: tuple[bytes, ...]
    words: int


@dataclass(frozen=True)
class Ask:
    """One request as a shape needs it. `model` is the name the reply gives, with its date; where
    the reply is a call of the tool `tool`, its text is the arguments."""

    id: str
    created: int
    model: str
    body: dict[str, Any]
    prompt_words: int
    reply: Reply
    tool: str = ""


@dataclass(frozen=True)
class Stream:
    """Encoded events: those before the text, one for each piece of it, and those after."""

    opening: list[bytes]
    pieces: Iterator[bytes]
    closing: list[bytes]


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8; half a surrogate pair, which JSON can carry, becomes `?`."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


@lru_cache(maxsize=64)
def compose(said: str, length: int | None, chunks: int | None) -> Reply:
    """The reply to `said`: `length` characters long, in `chunks` pieces.

    Without `length` it is as long as the sentence, or as `chunks` needs; without `chunks` a
    piece is a word. The sentence is repeated until it is long enough.
    """
    sentence = f"You said: {said}" if said else "You said nothing."
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


def filled(event: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The event once for each piece, put where `HOLE` stands."""
    head, tail = event.split(encode(HOLE))
    return (head + piece + tail for piece in pieces)


DONE = b"data: [DONE]\n\n"


def _openai_usage(ask: Ask) -> dict[str, Any]:
    return {
        "prompt_tokens": ask.prompt_words,
        "completion_tokens": ask.reply.words,
        "total_tokens": ask.prompt_words + ask.reply.words,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def openai_stream(ask: Ask, frame: dict[str, Any], choices: dict[str, list[Any]]) -> Stream:
    """A stream of OpenAI chunks: `choices` of the opening, of a piece and of the closing one.

    With `stream_options.include_usage` each chunk has a `usage`, null but in an additional last
    one without choices; without it there is none at all.
    """
    options = ask.body.get("stream_options")
    include_usage = isinstance(options, dict) and options.get("include_usage") is True
    usage = {"usage": None} if include_usage else {}

    def chunk(choice: Any) -> bytes:
        return _data(frame | {"choices": [choice]} | usage)

    closing = [chunk(choice) for choice in choices["closing"]]
    if include_usage:
        closing.append(_data(frame | {"choices": [], "usage": _openai_usage(ask)}))
    return Stream(
        [chunk(choice) for choice in choices["opening"]],
        filled(chunk(choices["piece"][0]), ask.reply.pieces),
        [*closing, DONE],
    )


def chat_frame(ask: Ask, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{ask.id}",
        "object": kind,
        "created": ask.created,
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def chat(ask: Ask) -> dict[str, Any]:
    """A `chat.completion`."""
    message = {
        "role": "assistant",
        "content": ask.reply.text,
        "refusal": None,
        "annotations": [],
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = _openai_usage(ask)
    return chat_frame(ask, "chat.completion") | {"choices": [choice], "usage": usage}


def chat_stream(ask: Ask) -> Stream:
    """`chat.completion.chunk`s: the role, the text, the finish reason, then perhaps usage."""

    def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}

    return openai_stream(
        ask,
        chat_frame(ask, "chat.completion.chunk"),
        {
            "opening": [choice({"role": "assistant", "content": "", "refusal": None})],
            "piece": [choice({"content": HOLE})],
            "closing": [choice({}, "stop")],
        },
    )


def _completion_frame(ask: Ask) -> dict[str, Any]:
    return {
        "id": f"cmpl-{ask.id}",
        "object": "text_completion",
        "created": ask.created,
        "model": ask.model,
        "system_fingerprint": FINGERPRINT,
    }


def _completion_choice(text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}


def completion(ask: Ask) -> dict[str, Any]:
    """A `text_completion`."""
    choices = [_completion_choice(ask.reply.text, "stop")]
    return _completion_frame(ask) | {"choices": choices, "usage": _openai_usage(ask)}


def completion_stream(ask: Ask) -> Stream:
    """`text_completion`s: the text, then one with the finish reason, then perhaps usage."""
    choices = {
        "opening": [],
        "piece": [_completion_choice(HOLE, None)],
        "closing": [_completion_choice("", "stop")],
    }
    return openai_stream(ask, _completion_frame(ask), choices)


def embeddings(ask: Ask) -> dict[str, Any]:
    """A list of `embedding`s, one for each input, as floats or in base64, as asked for."""
    source = ask.body["input"]
    one = isinstance(source, str) or (bool(source) and isinstance(source[0], int))
    dimensions = ask.body.get("dimensions") or EMBEDDING_DIMENSIONS
    in_base64 = ask.body.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _vector(encode(item), dimensions, in_base64),
        }
        for index, item in enumerate([source] if one else source)
    ]
    usage = {"prompt_tokens": ask.prompt_words, "total_tokens": ask.prompt_words}
    return {"object": "list", "data": data, "model": ask.model, "usage": usage}


@lru_cache(maxsize=1024)
def _vector(text: bytes, dimensions: int, in_base64: bool) -> list[float] | str:
    """A vector of length 1 that the same text always gets: two axes picked by its checksum."""
    checksum = zlib.crc32(text)
    vector = [0.0] * dimensions
    vector[checksum % dimensions] = 0.6
    vector[(checksum % dimensions + 1) % dimensions] = 0.8
    if not in_base64:
        return vector
    return b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()


def message(ask: Ask) -> dict[str, Any]:
    """An Anthropic `message`."""
    return {
        "id": f"msg_{ask.id}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [{"type": "text", "text": ask.reply.text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": ask.prompt_words,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": ask.reply.words,
            "service_tier": "standard",
        },
    }


def message_stream(ask: Ask) -> Stream:
    """Anthropic's events for one text."""
    block = {"type": "text", "text": ""}
    return message_events(ask, message(ask), block, {"type": "text_delta", "text": HOLE})


def message_events(
    ask: Ask, whole: dict[str, Any], block: dict[str, Any], piece: dict[str, Any]
) -> Stream:
    """The events of a message with one block, given as it starts, and the delta that fills it.

    The input's count comes first, the cumulative output's count last.
    """
    usage = whole["usage"]
    start = whole | {
        "content": [],
        "stop_reason": None,
        "usage": usage | {"output_tokens": 1},
    }
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    final = {name: count for name, count in usage.items() if name != "service_tier"}
    return Stream(
        [
            _event({"type": "message_start", "message": start}),
            _event({"type": "content_block_start", "index": 0, "content_block": block}),
            _event({"type": "ping"}),
        ],
        filled(
            _event({"type": "content_block_delta", "index": 0, "delta": piece}), ask.reply.pieces
        ),
        [
            _event({"type": "content_block_stop", "index": 0}),
            _event({"type": "message_delta", "delta": stop, "usage": final}),
            _event({"type": "message_stop"}),
        ],
    )


def response(ask: Ask) -> dict[str, Any]:
    """A Responses API `response`, completed."""
    return response_frame(ask, "completed", [_response_item(ask, "completed", ask.reply.text)])


def response_stream(ask: Ask) -> Stream:
    """The Responses API's events for one message with one text part."""
    place = {"item_id": f"msg_{ask.id}", "output_index": 0, "content_index": 0}
    part = _output_text(ask.reply.text)
    item = _response_item(ask, "completed", ask.reply.text)
    started = response_frame(ask, "in_progress", [])
    opening: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": _response_item(ask, "in_progress", None),
        },
        {"type": "response.content_part.added", **place, "part": _output_text("")},
    ]
    closing: list[dict[str, Any]] = [
        {"type": "response.output_text.done", **place, "text": ask.reply.text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response(ask)},
    ]
    delta = {"type": "response.output_text.delta", **place, "delta": HOLE, "logprobs": []}
    after = len(opening) + len(ask.reply.pieces)
    return Stream(
        [numbered(event, number) for number, event in enumerate(opening)],
        numbered_pieces(delta, ask.reply.pieces, len(opening)),
        [numbered(event, number) for number, event in enumerate(closing, after)],
    )


def numbered(event: dict[str, Any], number: int) -> bytes:
    return _event(event | {"sequence_number": number})


def numbered_pieces(delta: dict[str, Any], pieces: Iterable[bytes], start: int) -> Iterator[bytes]:
    head, tail = _event(delta).split(encode(HOLE))
    tail = tail.removesuffix(b"}\n\n")
    for number, piece in enumerate(pieces, start):
        yield b'%b%b%b,"sequence_number":%d}\n\n' % (head, piece, tail, number)


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_item(ask: Ask, status: str, text: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{ask.id}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [] if text is None else [_output_text(text)],
    }


def response_frame(ask: Ask, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    body = ask.body
    usage = {
        "input_tokens": ask.prompt_words,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": ask.reply.words,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": ask.prompt_words + ask.reply.words,
    }
    return {
        "id": f"resp_{ask.id}",
        "object": "response",
        "created_at": ask.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": ask.model,
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
