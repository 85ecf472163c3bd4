"""Server-sent events, parsed from the whole captured text of a stream.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

A model's stream is thousands of small JSON events, so that the work for each event determines the
cost. The fields `event:`, `id:` and `retry:` are ignored: the type of an event is in its JSON too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core import strict_json
from core.strict_json import decode_utf8


def is_event_stream(body: bytes, content_type: str) -> bool:
    """Whether a reply is an event stream.

    Its first bytes decide, since some providers send a stream with the content type of JSON, or a
    JSON error with that of a stream. Where they are inconclusive, the content type decides.
    """
    start = body[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return True
    return content_type.lower().startswith("text/event-stream") and start[:1] not in (b"{", b"[")


# Begins with the newline before the line: the regex engine searches for a literal prefix at C
# speed, but for "^" in multi-line mode it tries every position.
_DATA = re.compile(r"\ndata:[ \t]*+(.*)")

# An event with more than one data line.
_TWO_DATA_LINES = re.compile(r"\ndata:.*+(?:\n(?!data:).++)*+\ndata:")


@dataclass(frozen=True)
class EventStream:
    """The parsed events of a stream.

    `payloads` are their JSON values in order, `done` is whether `[DONE]` was among them, and
    `notes` name what could not be read.
    """

    payloads: list[Any]
    done: bool
    notes: tuple[str, ...]


def parse_events(body: bytes, merge: Callable[[str], str] = str) -> EventStream:
    """The events of a captured stream, which may be cut anywhere. Never raises.

    `merge` gets the text of the stream and may merge several events into one. Where an event of its
    result cannot be read, the original text is parsed instead.
    """
    text = "\n" + decode_utf8(body)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    merged = merge(text)
    events, all_read = _parse_text(merged)
    return events if all_read or merged == text else _parse_text(text)[0]


def _parse_text(text: str) -> tuple[EventStream, bool]:
    """The events of a text, and whether all of them could be read."""
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
