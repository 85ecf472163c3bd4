"""Wire formats of model endpoints, each read into the same two things.

A dialect is a module with `NAME`, `OBSERVATION_TYPE` and four functions: `read_request` (a
request to a `Prompt`), `fold` (the events of a stream to the whole reply that the same endpoint
would have given), `ended` (whether a folded reply came to its end) and `read_reply` (a whole
reply to a `Completion`). A streamed and a whole reply so take the same way from `fold` on.
"""

from dataclasses import replace
from types import ModuleType
from typing import TypeVar

from core import strict_json
from core.limits import MAX_UNREADABLE_CHARS
from core.strict_json import decode_utf8
from dialects import chat, completions, embeddings, generic, messages, responses
from dialects.deltas import merge_text_deltas
from dialects.fields import Completion, Prompt
from dialects.media import make_presentable, without_base64
from dialects.sse import is_event_stream, parse_events

_DIALECTS_BY_PATH: dict[str, ModuleType] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completions,
    "/v1/messages": messages,
    "/v1/embeddings": embeddings,
    "/v1/responses": responses,
}

# The dialects whose events hold a "delta", of which `deltas.grow` makes a whole.
_DELTA_DIALECTS = (chat, messages)


def dialect_for_path(path: str) -> ModuleType:
    """The dialect of an endpoint; for one that is not known, the generic one."""
    return _DIALECTS_BY_PATH.get(path, generic)


def read_request(path: str, body: bytes) -> Prompt:
    """The `Prompt` in the body of a request. Never raises."""
    try:
        value = strict_json.parse(decode_utf8(body))
        dialect = dialect_for_path(path) if isinstance(value, dict) else generic
        return _make_presentable(dialect.read_request(value))
    except Exception as error:  # a request that can't be read is still a call to be traced
        return Prompt(input=_beginning_of(body), notes=(_note("request", error),))


def read_reply(path: str, body: bytes, content_type: str, complete: bool) -> Completion:
    """The `Completion` in the captured body of a reply, streamed or whole. Never raises.

    `complete` is False if the body is only the start of the reply: the provider broke off, the
    client left, or there was more of it than is captured.
    """
    streamed = is_event_stream(body, content_type)
    # A stream says itself where it ends.
    bare = Completion(streamed=streamed, finished=complete and not streamed)
    if not body.strip():
        return replace(bare, notes=("reply: empty",))
    try:
        read = _read_stream if streamed else _read_whole
        return _make_presentable(read(dialect_for_path(path), body))
    except Exception as error:  # the bare text is better than nothing
        bare = replace(bare, notes=(_note("reply", error),))
        return bare if _may_hold_vectors(path, body) else replace(bare, output=_beginning_of(body))


def _read_stream(dialect: ModuleType, body: bytes) -> Completion:
    events = (
        parse_events(body, merge_text_deltas) if dialect in _DELTA_DIALECTS else parse_events(body)
    )
    if not events.payloads and not events.done:
        raise ValueError("a stream without an event")
    notes = events.notes
    if set(map(type, events.payloads)) - {dict}:
        notes += ("stream: some events are not objects",)
    try:
        reply = dialect.fold(events.payloads)
        completion = dialect.read_reply(reply)
        finished = events.done or dialect.is_finished(reply)
    except Exception as error:
        completion, finished, notes = Completion(), events.done, (*notes, _note("fold", error))
    if completion.output is None and completion.model is None and not completion.error:
        completion = replace(completion, output=parse_events(body).payloads)
        notes += (f"stream: no answer of the form {dialect.NAME}, its events are kept",)
    return replace(completion, streamed=True, finished=finished, notes=notes + completion.notes)


def _read_whole(dialect: ModuleType, body: bytes) -> Completion:
    reply = strict_json.parse(decode_utf8(body))
    if isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]  # Gemini wraps its errors
    completion = (dialect if isinstance(reply, dict) else generic).read_reply(reply)
    if dialect.OBSERVATION_TYPE == "embedding" and completion.output is reply:
        return replace(completion, output=embeddings.without_vectors(reply))
    return completion


_Read = TypeVar("_Read", Prompt, Completion)


def _make_presentable(read: _Read) -> _Read:
    """A `Prompt` or `Completion` with all of its fields fit to be shown."""
    there = {name: value for name, value in vars(read).items() if value}
    return replace(read, **{name: make_presentable(value) for name, value in there.items()})


def _may_hold_vectors(path: str, body: bytes) -> bool:
    """Whether a reply that can't be read is JSON with vectors in it, which nobody wants to see."""
    return dialect_for_path(path).OBSERVATION_TYPE == "embedding" and body.lstrip()[:1] in (
        b"{",
        b"[",
    )


def _beginning_of(body: bytes) -> str | None:
    text = decode_utf8(body[: 4 * MAX_UNREADABLE_CHARS])
    return without_base64(text)[:MAX_UNREADABLE_CHARS] or None


def _note(what: str, error: Exception) -> str:
    return f"{what}: {type(error).__name__}: {error}"[:200]
