"""Server-sent events, decoded once from the whole captured text.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

A language model's stream is thousands of small JSON events, so the work per event is what costs.
`event:`, `id:` and `retry:` are not looked at, since the dialects name an event's kind inside it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core import strict_json
from core.strict_json import decode_utf8


def is_event_stream(body: bytes, content_type: str) -> bool:
    """By its first bytes, since some providers send a stream as JSON, and an error the other way;
    by its content type where those tell nothing."""
    start = body[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return True
    return content_type.lower().startswith("text/event-stream") and start[:1] not in (b"{", b"[")


# A line is found by the newline before it: the engine searches for a literal prefix at C speed,
# and for "^" in multi-line mode only position by position.
_DATA = re.compile(r"\ndata:[ \t]*+(.*)")

_TWO_DATA_LINES = re.compile(r"\ndata:.*+(?:\n(?!data:).++)*+\ndata:")


@dataclass(frozen=True)
class EventStream:
    """A stream's payloads in order, whether `[DONE]` was among them, and what was unreadable."""

    payloads: list[Any]
    done: bool
    notes: tuple[str, ...]


def parse_events(body: bytes, merge: Callable[[str], str] = str) -> EventStream:
    """The JSON payloads of a captured event stream, which may be cut anywhere. Never raises.

    `join` may make one event of several in the text of the stream, if all of it can be read.
    """
    text = "\n" + decode_utf8(body)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    joined = merge(text)
    events, all_read = _parse_text(joined)
    return events if all_read or joined == text else _parse_text(text)[0]


def _parse_text(text: str) -> tuple[EventStream, bool]:
    """The events of a text, and whether all of them could be read."""
    if _TWO_DATA_LINES.search(text):
        found = ["\n".join(_DATA.findall("\n" + e)).strip() for e in text.split("\n\n")]
    else:
        found = _DATA.findall(text)

    read, unreadable, done = [], [], False
    for position, payload in enumerate(found):
        try:
            read.append(strict_json.parse(payload))
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
    return EventStream(read, done, tuple(notes)), all_read
