"""Wire formats of model endpoints, each read into the same two things.

A dialect is a module with `NAME`, `OBSERVATION_TYPE` and four functions: `read_request` (a
request to a `Prompt`), `fold` (the events of a stream to the whole reply that the same endpoint
would have given), `ended` (whether a folded reply came to its end) and `read_reply` (a whole
reply to a `Completion`). A streamed and a whole reply so take the same way from `fold` on.
"""

from dataclasses import replace
from types import ModuleType
from typing import TypeVar

import sse
import strict_json
from dialects import chat, completions, embeddings, media, messages, other, responses
from dialects.deltas import joined
from dialects.shapes import Completion, Parameter, Prompt

__all__ = ["Completion", "Parameter", "Prompt", "for_path", "read_reply", "read_request"]


_BY_PATH: dict[str, ModuleType] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completions,
    "/v1/messages": messages,
    "/v1/embeddings": embeddings,
    "/v1/responses": responses,
}
# The dialects whose events hold a "delta", of which `deltas.grow` makes a whole.
_DELTAS = (chat, messages)
# How much is kept of a body that is not what it should be.
_TEXT_LENGTH = 10_000


def for_path(path: str) -> ModuleType:
    """The dialect of an endpoint; for one that is not known, the generic one."""
    return _BY_PATH.get(path, other)


def read_request(path: str, body: bytes) -> Prompt:
    """The `Prompt` in the body of a request. Never raises."""
    try:
        value = strict_json.parse(strict_json.text_of(body))
        dialect = for_path(path) if isinstance(value, dict) else other
        return _presentable(dialect.read_request(value))
    except Exception as error:  # a request that can't be read is still a call to be traced
        return Prompt(input=_start_of(body), notes=(_note("request", error),))


def read_reply(path: str, body: bytes, content_type: str, complete: bool) -> Completion:
    """The `Completion` in the captured body of a reply, streamed or whole. Never raises.

    `complete` is False if the body is only the start of the reply: the provider broke off, the
    client left, or there was more of it than is captured.
    """
    streamed = _is_stream(body, content_type)
    # A stream says itself where it ends.
    bare = Completion(streamed=streamed, finished=complete and not streamed)
    if not body.strip():
        return replace(bare, notes=("reply: empty",))
    try:
        read = _read_stream if streamed else _read_whole
        return _presentable(read(for_path(path), body))
    except Exception as error:  # the bare text is better than nothing
        bare = replace(bare, notes=(_note("reply", error),))
        return bare if _holds_vectors(path, body) else replace(bare, output=_start_of(body))


def _read_stream(dialect: ModuleType, body: bytes) -> Completion:
    events = sse.payloads(body, joined) if dialect in _DELTAS else sse.payloads(body)
    if not events.payloads and not events.done:
        raise ValueError("a stream without an event")
    notes = events.notes
    if set(map(type, events.payloads)) - {dict}:
        notes += ("stream: some events are not objects",)
    try:
        reply = dialect.fold(events.payloads)
        completion = dialect.read_reply(reply)
        finished = events.done or dialect.ended(reply)
    except Exception as error:
        completion, finished, notes = Completion(), events.done, (*notes, _note("fold", error))
    if completion.output is None and completion.model is None and not completion.error:
        completion = replace(completion, output=sse.payloads(body).payloads)
        notes += (f"stream: no answer of the form {dialect.NAME}, its events are kept",)
    return replace(completion, streamed=True, finished=finished, notes=notes + completion.notes)


def _read_whole(dialect: ModuleType, body: bytes) -> Completion:
    reply = strict_json.parse(strict_json.text_of(body))
    if isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]  # Gemini wraps its errors
    completion = (dialect if isinstance(reply, dict) else other).read_reply(reply)
    if dialect.OBSERVATION_TYPE == "embedding" and completion.output is reply:
        return replace(completion, output=embeddings.without_vectors(reply))
    return completion


def _is_stream(body: bytes, content_type: str) -> bool:
    """By its first bytes, since some providers send a stream as JSON, and an error the other way;
    by its content type where those tell nothing."""
    start = body[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return True
    return content_type.lower().startswith("text/event-stream") and start[:1] not in (b"{", b"[")


_Read = TypeVar("_Read", Prompt, Completion)


def _presentable(read: _Read) -> _Read:
    """A `Prompt` or `Completion` with all of its fields fit to be shown."""
    there = {name: value for name, value in vars(read).items() if value}
    return replace(read, **{name: media.presentable(value) for name, value in there.items()})


def _holds_vectors(path: str, body: bytes) -> bool:
    """Whether a reply that can't be read is JSON with vectors in it, which nobody wants to see."""
    return for_path(path).OBSERVATION_TYPE == "embedding" and body.lstrip()[:1] in (b"{", b"[")


def _start_of(body: bytes) -> str | None:
    text = strict_json.text_of(body[: 4 * _TEXT_LENGTH])
    return media.without_base64(text)[:_TEXT_LENGTH] or None


def _note(what: str, error: Exception) -> str:
    return f"{what}: {type(error).__name__}: {error}"[:200]
