"""Which dialect reads which path; the bodies of requests and replies, read by their dialect."""

import re
from dataclasses import replace
from json import JSONDecodeError
from typing import TypeVar

from core import strict_json
from core.limits import MAX_ERROR_CHARS, MAX_UNREADABLE_CHARS
from core.strict_json import JsonValue, decode_utf8
from dialects import chat, completions, embeddings, generic, messages, responses
from dialects.deltas import merge_text_deltas
from dialects.dialect import Dialect
from dialects.encodings import decode_body
from dialects.errors import ReplyError, error_in_text, first_error, has_content
from dialects.fields import Completion, Prompt
from dialects.media import make_presentable, without_base64
from dialects.sse import EventStream, is_event_stream, parse_events

_DIALECTS_BY_PATH: dict[str, Dialect] = {
    "/v1/chat/completions": chat.DIALECT,
    "/v1/completions": completions.DIALECT,
    "/v1/messages": messages.DIALECT,
    "/v1/embeddings": embeddings.DIALECT,
    "/v1/responses": responses.DIALECT,
}


def dialect_for_path(path: str) -> Dialect:
    """The dialect of a path such as "/v1/messages"; that of `generic` for a path without one of its
    own."""
    return _DIALECTS_BY_PATH.get(path, generic.DIALECT)


def is_known_format(path: str) -> bool:
    """Whether a path has a dialect of its own, so that the format of its replies is known."""
    return dialect_for_path(path).is_known_format


def read_request(path: str, body: bytes, encoding: str = "", value: JsonValue = None) -> Prompt:
    """Read the body of a request, by the dialect of its path. Never raises.

    `value` is the body's JSON value where that is known already; it is not changed.

    `encoding` is the value of the header `content-encoding`. Where the body cannot be read as JSON,
    for example because it was cut, the input is the beginning of its text, and a note gives the
    reason.
    """
    if value is None:
        decoded = decode_body(body, encoding)
        if decoded.unreadable:
            return Prompt(notes=(_encoding_note("request", decoded.unreadable),))
        body = decoded.body
    try:
        if value is None:
            value = strict_json.parse(decode_utf8(body))
        dialect = dialect_for_path(path) if isinstance(value, dict) else generic.DIALECT
        return _make_presentable(dialect.read_request(value))
    except Exception as error:  # a call is traced even if its request cannot be read
        return Prompt(input=_beginning_of(body), notes=(_note("request", error),))


def read_reply(
    path: str, body: bytes, content_type: str, complete: bool, encoding: str = ""
) -> Completion:
    """Read the captured body of a reply, streamed or whole, by the dialect of its request's path.
    Never raises.

    `complete` is False if `body` is only the beginning of the reply: the provider interrupted it,
    the client left, or it is larger than the limit of a capture. `encoding` is the value of the
    header `content-encoding` where the runtime has not decoded the body.

    Where the body cannot be read, the output is the beginning of its text, and a note gives the
    reason. Embeddings are never recorded: the output is None where that text may contain some. Nor
    is a body in an encoding that cannot be decoded. A complete reply that is empty or no JSON is an
    error, unless its path has no dialect.
    """
    dialect, decoded = dialect_for_path(path), decode_body(body, encoding)
    body, complete = decoded.body, complete and decoded.is_complete
    streamed = is_event_stream(body, content_type)
    if decoded.unreadable:
        notes = (_encoding_note("reply", decoded.unreadable),)
        return Completion(is_streamed=streamed, is_finished=complete, notes=notes)
    # A stream has an end marker of its own: without one it is not finished, whatever `complete` is.
    is_finished = complete and not streamed
    is_required = complete and dialect.is_known_format
    if not body.strip():
        empty = Completion(is_streamed=streamed, is_finished=is_finished, notes=("reply: empty",))
        return _with_error(empty, _EMPTY if is_required else None)
    try:
        read = _read_stream if streamed else _read_whole
        return _make_presentable(read(dialect, body, is_required))
    except Exception as error:  # the body's text is recorded instead
        text = None if _may_hold_vectors(dialect, body) else _beginning_of(body)
        notes = (_note("reply", error),)
        completion = Completion(
            output=text, is_streamed=streamed, is_finished=is_finished, notes=notes
        )
        found = _unread_error(dialect, body, text, error) if complete else None
        return _make_presentable(_with_error(completion, found))


_EMPTY = ReplyError("The reply is empty.")


class _NoEvent(ValueError):
    """A stream has no event that can be read."""


def _read_stream(dialect: Dialect, body: bytes, is_required: bool) -> Completion:
    """Read the body of an event stream. Where the dialect finds no output and no error in it, and
    no model in events of its format, the output is the list of its events. Raises `_NoEvent` where
    it has none.

    `is_required` is True where a stream without content is an error.
    """
    events = parse_events(body, merge_text_deltas if dialect.has_text_deltas else str)
    if not events.payloads and not events.done and not events.error:
        raise _NoEvent("a stream without an event")
    notes = events.notes
    if set(map(type, events.payloads)) - {dict}:
        notes += ("stream: some events are not objects",)
    reply, is_folded = None, False
    try:
        reply = dialect.fold(events.payloads)
        completion = dialect.read_reply(reply)
        is_folded = dialect.is_finished(reply)
    except Exception as error:
        completion, notes = Completion(), (*notes, _note("fold", error))
    found = _error_in_stream(events, dialect.is_known_format, is_folded, bool(completion.error))
    if not found and not completion.error:
        if events.text:
            notes += ("stream: text outside of its events",)
        elif is_required and all(map(_has_no_content, events.payloads)):
            found = _EMPTY
    if found and completion.output is reply:
        completion = replace(completion, output=None, notes=())  # an error needs no output
    completion = _with_error(completion, found)
    if (
        completion.output is None
        and not completion.error
        and (completion.model is None or not any(map(has_content, events.payloads)))
    ):
        completion = replace(completion, output=parse_events(body).payloads)
        notes += (f"stream: no answer of the form {dialect.name}, its events are kept",)
    if dialect.has_vectors:
        completion = replace(completion, output=embeddings.without_vectors(completion.output))
    return replace(
        completion,
        is_streamed=True,
        is_finished=events.done or is_folded,
        notes=notes + completion.notes,
    )


def _error_in_stream(
    events: EventStream, is_known_format: bool, is_folded: bool, has_error: bool
) -> ReplyError | None:
    """The error that a stream contains beside its content, None where there is none. `is_folded` is
    True where its content has a regular end, and `has_error` where that has an error itself."""
    # An event with only a `message` is no error in a stream that goes on to its regular end.
    found = error_in_text(events.error) or first_error(
        events.payloads, is_known_format and not is_folded
    )
    is_answered = events.payloads and is_folded and is_known_format
    if found or has_error or is_answered:
        return found
    return error_in_text(events.text, is_known_format)


def _read_whole(dialect: Dialect, body: bytes, is_required: bool) -> Completion:
    """Read the body of a reply that is not a stream: an object by the dialect, any other JSON value
    as it is, and embeddings without their vectors. Raises ValueError where it is not JSON.

    `is_required` is True where a reply without content is an error.
    """
    reply = strict_json.parse(decode_utf8(body))
    if isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]  # Gemini sends an error in a list
    if is_required and reply in (None, "", [], {}):
        return _with_error(Completion(notes=("reply: empty",)), _EMPTY)
    completion = (dialect if isinstance(reply, dict) else generic.DIALECT).read_reply(reply)
    if is_required and isinstance(reply, str):
        completion = _with_error(completion, error_in_text(reply))
    if dialect.has_vectors and completion.output is reply:
        return replace(completion, output=embeddings.without_vectors(reply))
    return completion


def _has_no_content(event: JsonValue) -> bool:
    """Whether an event of a stream is empty, or only keeps the connection open."""
    return not event or (isinstance(event, dict) and event.get("type") in ("ping", "keepalive"))


def _unread_error(
    dialect: Dialect, body: bytes, text: str | None, error: Exception
) -> ReplyError | None:
    """The error that a complete reply is which could not be read, because of `error`. `text` is the
    beginning of `body`, None where it must not be recorded. None where the body may be JSON that
    only the gateway refuses, such as a deeply nested one."""
    if not dialect.is_known_format:
        return error_in_text(text or "", is_known_format=False)
    if body.lstrip()[:1] in (b"{", b"["):
        message = f"The reply is not JSON: {text or 'its text may contain vectors'}"
        is_invalid = isinstance(error, JSONDecodeError | _NoEvent)
        return ReplyError(message[:MAX_ERROR_CHARS]) if is_invalid else None
    if isinstance(error, _NoEvent) and is_event_stream(body, ""):
        text = parse_events(body).text
    return error_in_text(text or "") or _EMPTY


def _with_error(completion: Completion, error: ReplyError | None) -> Completion:
    """A completion with this error; unchanged where it is None."""
    if error is None:
        return completion
    return replace(completion, error=error.message, error_type=error.type)


_Read = TypeVar("_Read", Prompt, Completion)


def _make_presentable(result: _Read) -> _Read:
    """A copy of a `Prompt` or `Completion` whose texts fit into a trace: in every field, inline
    images, audio and files are replaced by their type and size, and lone surrogates by U+FFFD."""
    present = {name: value for name, value in vars(result).items() if value}
    return replace(result, **{name: make_presentable(value) for name, value in present.items()})


def _may_hold_vectors(dialect: Dialect, body: bytes) -> bool:
    """Whether a reply that cannot be read may contain embeddings: its path is an endpoint for them,
    and its body begins like a JSON object, a list or an event."""
    return dialect.has_vectors and body.lstrip().startswith((b"{", b"[", b"data:"))


def _beginning_of(body: bytes) -> str | None:
    """At most `MAX_UNREADABLE_CHARS` from the start of a body, with long runs of base64 replaced;
    its size, as of a file, where it is not a text. None where the body is empty."""
    text = decode_utf8(body[: 4 * MAX_UNREADABLE_CHARS])
    if _CONTROL.search(text):
        return f"[binary, {len(body)} bytes]"
    return without_base64(text)[:MAX_UNREADABLE_CHARS] or None


# Control characters that no text has.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def _encoding_note(what: str, encoding: str) -> str:
    """A note that `what` is in a content encoding that cannot be decoded."""
    return f"{what}: in the encoding {encoding}, which cannot be read"


def _note(what: str, error: Exception) -> str:
    """A note that `what`, such as "reply", could not be read because of `error`."""
    return f"{what}: {type(error).__name__}: {error}"[:200]
