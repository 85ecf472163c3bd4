"""Server-sent events and lines of JSON, parsed from the whole captured text of a stream.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
https://github.com/ndjson/ndjson-spec

A stream consists of thousands of small JSON events, so the cost depends on the work for each one.
The fields `id:` and `retry:` are ignored, and `event:` unless it is "error": the type of any other
event is in its JSON too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from core import strict_json
from core.limits import MAX_UNREADABLE_CHARS
from core.strict_json import JsonValue, decode_utf8

# Content types of lines of JSON.
_JSON_LINES_TYPE = re.compile(r"(?i)application/(?:x-)?(?:ndjson|jsonl|jsonlines|json-lines)\b")


def is_event_stream(body: bytes, content_type: str) -> bool:
    """Whether the body of a reply is a stream: server-sent events, or lines of JSON. `body` may be
    only its beginning, and `content_type` is the value of that header.

    True where the body begins with a field of an event, such as `data:`, or with a comment (":").
    False where it begins with "{" or "[", unless it has lines of JSON. In all other cases, True
    where `content_type` is `text/event-stream`. The header alone is not reliable: some providers
    send a stream with the content type of JSON, or a JSON error with that of a stream.
    """
    start = _start(body)
    if start.startswith((b"data:", b"event:", b"id:", b"retry:", b":", b"error:")):
        return True
    if start[:1] in (b"{", b"["):
        return is_json_lines(body, content_type)
    return content_type.lower().startswith("text/event-stream")


def is_json_lines(body: bytes, content_type: str) -> bool:
    """Whether a body is a stream of JSON objects, each in a line of its own, which `parse_events`
    reads like events. `body` may be only its beginning.

    True where it begins with "{", and either `content_type` is that of JSON lines, or the first
    line ends with "}" and the second begins with "{": inside of one JSON value, a comma would have
    to be between them.
    """
    if not _start(body).startswith(b"{"):
        return False
    if _JSON_LINES_TYPE.match(content_type):
        return True
    end = body.find(b"\n", body.find(b"{"))
    line_end, next_line = body[max(end - 10, 0) : end], body[end : end + 100]
    return end > 0 and line_end.rstrip().endswith(b"}") and next_line.lstrip().startswith(b"{")


def _start(body: bytes) -> bytes:
    """The beginning of a body, without a byte order mark and leading whitespace."""
    return body[:100].removeprefix(b"\xef\xbb\xbf").lstrip()


# Each pattern begins with the newline before the line: the regex engine searches for a literal at C
# speed, but tries every position for "^" in multi-line mode.
_DATA = re.compile(r"\ndata:[ \t]*+(.*)")
_JSON_LINE = re.compile(r"\n[ \t]*+(\{.*)")

# An event with more than one data line.
_TWO_DATA_LINES = re.compile(r"\ndata:.*+(?:\n(?!data:).++)*+\ndata:")

# A line that is none of a usual stream. Where there is none, the next three patterns match nothing.
_UNUSUAL_LINE = re.compile(r"\n(?!data:|\n|event:[ \t]*+(?!error)|:|id:|retry:|\Z)")

# The field in which llama.cpp sends an error, and the name of an event that is one.
_ERROR_FIELD = re.compile(r"\n(?:error|Error|ERROR):[ \t]*+(.++)")
_ERROR_EVENT = re.compile(r"\nevent:[ \t]*+error[ \t]*+(?=\n)")

# Text that is no part of a stream, such as the page of a proxy, up to the next event: it begins
# with a line that is no comment and has no field's name. At the end of a cut stream, a name alone
# is one.
_TEXT = re.compile(
    r"\n(?![\s:}\]\"]|[\w-]++(?::|\Z)|(?:data|event|id|retry)\b)(.++(?:\n(?!data:|event:).*+)*+)"
)


# Data that is no sentence: the beginning of a JSON value, or one word, unless that names an error,
# such as "[ERROR]".
_NO_SENTENCE = re.compile(r'["{]|\[[^A-Z]|(?!.*(?i:error))\S*\Z')


@dataclass(frozen=True)
class EventStream:
    """The parsed events of a stream.

    `payloads` are the JSON values of their data in order. `done` is True where the stream contains
    the end marker `data: [DONE]`, which is not a payload. `notes` describe what could not be read.
    `error` is the text of a field `error:`, or the data of an event of that name. `text` is the
    beginning of a text that is no part of the stream, or data that is a sentence in place of its
    last event. Both are "" where there is none.
    """

    payloads: list[JsonValue]
    done: bool
    notes: tuple[str, ...]
    error: str = ""
    text: str = ""


def parse_events(body: bytes, merge: Callable[[str], str] = str) -> EventStream:
    """Parse the events of a captured stream, which may be cut anywhere. Never raises.

    Where the stream has no data fields, its events are the lines that begin with "{".

    `merge` may shorten the text of the stream by merging several events into one. The text that it
    gets begins with "\\n" and has "\\n" as its line ends. Where an event of its result cannot be
    read, the original text is parsed instead.
    """
    text = "\n" + decode_utf8(body)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    merged = merge(text)
    events, all_read = _parse_text(merged)
    return events if all_read or merged == text else _parse_text(text)[0]


def _parse_text(text: str) -> tuple[EventStream, bool]:
    """Parse the text of an event stream, which begins with "\\n" and has no "\\r". Returns its
    events, and False if the data of any is neither JSON nor `[DONE]`; that event is left out."""
    is_usual = not _UNUSUAL_LINE.search(text)
    error, stray = ("", None) if is_usual else (_error_text(text), _TEXT.search(text))
    if _TWO_DATA_LINES.search(text):
        found = [data for event in text.split("\n\n") for data in _event_data(event)]
    else:
        found = _DATA.findall(text)
    is_json_lines = not found
    if is_json_lines:
        found = _JSON_LINE.findall(text)

    payloads: list[JsonValue] = []
    unreadable: list[int] = []
    done, last = False, ""
    for position, payload in enumerate(found):
        try:
            payloads.append(strict_json.parse(payload))
            last = ""
        except ValueError:
            payload = payload.strip()
            if payload == "[DONE]":
                done = True
            elif payload and payload != error:
                unreadable.append(position)
                last = payload

    notes: list[str] = []
    all_read = not unreadable
    if unreadable and unreadable[-1] == len(found) - 1 and not text.endswith("\n\n"):
        unreadable.pop()
        notes.append("stream: cut inside its last event")
    if unreadable:
        notes.append(f"stream: {len(unreadable)} of {len(found)} events could not be read")
    if is_json_lines and payloads:
        stray = _TEXT.search(_JSON_LINE.sub("", text))
    if stray:
        last = stray[1]
    elif _NO_SENTENCE.match(last):
        last = ""
    return EventStream(payloads, done, tuple(notes), error, last[:MAX_UNREADABLE_CHARS]), all_read


def _event_data(event: str) -> list[str]:
    """The data of an event, whose data lines are joined. Some servers send no blank lines between
    events: an object in the first line and the start of another in the second are not one value."""
    lines = _DATA.findall("\n" + event)
    if len(lines) > 1 and lines[0].rstrip().endswith("}") and lines[1].startswith(("{", "[DONE]")):
        return lines
    return ["\n".join(lines).strip()]


def _error_text(text: str) -> str:
    """The text of the first field `error:` of a stream, else the data of its first event of that
    name, "" where there is neither."""
    field = _ERROR_FIELD.search(text)
    event = None if field else _ERROR_EVENT.search(text)
    if not event:
        return field[1].strip() if field else ""
    start, end = text.rfind("\n\n", 0, event.start() + 1), text.find("\n\n", event.end())
    lines = _DATA.findall(text[max(start, 0) : end if end > 0 else len(text)])
    return "\n".join(lines).strip()
