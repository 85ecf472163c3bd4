"""Server-sent events, parsed from the whole captured text of a stream.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

A stream consists of thousands of small JSON events, so the cost depends on the work for each one.
The fields `event:`, `id:` and `retry:` are ignored: the type of an event is in its JSON too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core import strict_json
from core.strict_json import decode_utf8


def is_event_stream(body: bytes, content_type: str) -> bool:
    """Whether the body of a reply is a stream of server-sent events.

    True where the body begins with a field of an event, such as `data:`, or with a comment (":").
    False where it begins with "{" or "[". In all other cases, True where `content_type`, the value
    of that header, is `text/event-stream`. The header alone is not reliable: some providers send a
    stream with the content type of JSON, or a JSON error with that of a stream.
    """
    start = body[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return True
    return content_type.lower().startswith("text/event-stream") and start[:1] not in (b"{", b"[")


# Begins with the newline before the line: the regex engine searches for a literal at C speed, but
# tries every position for "^" in multi-line mode.
_DATA = re.compile(r"\ndata:[ \t]*+(.*)")

# An event with more than one data line.
_TWO_DATA_LINES = re.compile(r"\ndata:.*+(?:\n(?!data:).++)*+\ndata:")


@dataclass(frozen=True)
class EventStream:
    """The parsed events of a stream.

    `payloads` are the JSON values of their data in order. `done` is True where the stream contains
    the end marker `data: [DONE]`, which is not a payload. `notes` describe what could not be read.
    """

    payloads: list[Any]
    done: bool
    notes: tuple[str, ...]


def parse_events(body: bytes, merge: Callable[[str], str] = str) -> EventStream:
    """Parse the events of a captured stream, which may be cut anywhere. Never raises.

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
    if _TWO_DATA_LINES.search(text):
        found = ["\n".join(_DATA.findall("\n" + event)).strip() for event in text.split("\n\n")]
    else:
        found = _DATA.findall(text)

    payloads, unreadable, done = [], [], False
    for position, payload in enumerate(found):
        try:
            payloads.append(strict_json.parse(payload))
        except ValueError:
            if payload.strip() == "[DONE]":
                done = True
            elif payload.strip():
                unreadable.append(position)

    notes, all_read = [], not unreadable
    if unreadable and unreadable[-1] == len(found) - 1 and not text.endswith("\n\n"):
        unreadable.pop()
        notes.append("stream: cut inside its last event")
    if unreadable:
        notes.append(f"stream: {len(unreadable)} of {len(found)} events could not be read")
    return EventStream(payloads, done, tuple(notes)), all_read
