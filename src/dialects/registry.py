"""Which dialect reads which path; the bodies of requests and replies, read by their dialect.

A dialect is a module for one wire format, with `NAME`, `OBSERVATION_TYPE` and four functions:

- `read_request`: a request's JSON to a `Prompt`.
- `fold`: the events of a stream to the whole reply that the same endpoint would have returned.
- `is_finished`: whether a folded reply is complete.
- `read_reply`: a whole reply's JSON to a `Completion`.

A stream is folded first; after that, streamed and whole replies are read by the same code.
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

# Dialects with a `delta` object in their events. Only their streams are shortened by
# `merge_text_deltas` before they are parsed.
_DELTA_DIALECTS = (chat, messages)


def dialect_for_path(path: str) -> ModuleType:
    """The module that reads requests and replies of a path such as "/v1/messages"; `generic` for a
    path without a dialect of its own."""
    return _DIALECTS_BY_PATH.get(path, generic)


def read_request(path: str, body: bytes) -> Prompt:
    """Read the body of a request, by the dialect of its path. Never raises.

    Where the body cannot be read as JSON, for example because it was cut, the input is the
    beginning of its text, and a note gives the reason.
    """
    try:
        value = strict_json.parse(decode_utf8(body))
        dialect = dialect_for_path(path) if isinstance(value, dict) else generic
        return _make_presentable(dialect.read_request(value))
    except Exception as error:  # a call is traced even if its request cannot be read
        return Prompt(input=_beginning_of(body), notes=(_note("request", error),))


def read_reply(path: str, body: bytes, content_type: str, complete: bool) -> Completion:
    """Read the captured body of a reply, streamed or whole, by the dialect of its request's path.
    Never raises.

    `complete` is False if `body` is only the beginning of the reply: the provider interrupted it,
    the client left, or it is larger than the limit of a capture. Where the body cannot be read, the
    output is the beginning of its text, and a note gives the reason. Embeddings are never recorded:
    the output is None where that text may contain some.
    """
    streamed = is_event_stream(body, content_type)
    # A stream has an end marker of its own: without one it is not finished, whatever `complete` is.
    fallback = Completion(is_streamed=streamed, is_finished=complete and not streamed)
    if not body.strip():
        return replace(fallback, notes=("reply: empty",))
    try:
        read = _read_stream if streamed else _read_whole
        return _make_presentable(read(dialect_for_path(path), body))
    except Exception as error:  # the body's text is recorded instead
        fallback = replace(fallback, notes=(_note("reply", error),))
        return (
            fallback
            if _may_hold_vectors(path, body)
            else replace(fallback, output=_beginning_of(body))
        )


def _read_stream(dialect: ModuleType, body: bytes) -> Completion:
    """Read the body of an event stream. Where the dialect finds no output, model or error in it,
    the output is the list of its events. Raises ValueError where it has no event."""
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
    return replace(
        completion, is_streamed=True, is_finished=finished, notes=notes + completion.notes
    )


def _read_whole(dialect: ModuleType, body: bytes) -> Completion:
    """Read the body of a reply that is not a stream: an object by the dialect, any other JSON value
    as it is, and embeddings without their vectors. Raises ValueError where it is not JSON."""
    reply = strict_json.parse(decode_utf8(body))
    if isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]  # Gemini sends an error in a list
    completion = (dialect if isinstance(reply, dict) else generic).read_reply(reply)
    if dialect.OBSERVATION_TYPE == "embedding" and completion.output is reply:
        return replace(completion, output=embeddings.without_vectors(reply))
    return completion


_Read = TypeVar("_Read", Prompt, Completion)


def _make_presentable(result: _Read) -> _Read:
    """A copy of a `Prompt` or `Completion` whose texts fit into a trace: in every field, inline
    images, audio and files are replaced by their type and size, and lone surrogates by U+FFFD."""
    present = {name: value for name, value in vars(result).items() if value}
    return replace(result, **{name: make_presentable(value) for name, value in present.items()})


def _may_hold_vectors(path: str, body: bytes) -> bool:
    """Whether a reply that cannot be read may contain embeddings: its path is an endpoint for them,
    and its body begins like a JSON object or list."""
    return dialect_for_path(path).OBSERVATION_TYPE == "embedding" and body.lstrip()[:1] in (
        b"{",
        b"[",
    )


def _beginning_of(body: bytes) -> str | None:
    """At most `MAX_UNREADABLE_CHARS` from the start of a body, with long runs of base64 replaced.
    None where the body is empty."""
    text = decode_utf8(body[: 4 * MAX_UNREADABLE_CHARS])
    return without_base64(text)[:MAX_UNREADABLE_CHARS] or None


def _note(what: str, error: Exception) -> str:
    """A note that `what`, such as "reply", could not be read because of `error`."""
    return f"{what}: {type(error).__name__}: {error}"[:200]
