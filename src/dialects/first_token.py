"""Finds the first event of a stream that has output of the model in it: a text, a thought, a
refusal, a tool call (its name is enough), audio or an image. The table is in docs/tracing.md.

Everything that providers send before that event is passed over: comments, pings, role chunks, and
events that only announce the reply.
"""

import re

from core.limits import MAX_FIRST_TOKEN_READS
from dialects.registry import dialect_for_path
from dialects.sse import is_event_stream, is_json_lines, parse_events

# Events that announce a reply. They may repeat the whole request, so they are not parsed.
_ANNOUNCEMENT = re.compile(
    rb'\ndata: ?\{"type": ?"(?:message_start|ping|response\.(?:created|queued|in_progress))".*'
)

# Two events without a blank line between them.
_ADJACENT_EVENTS = re.compile(rb"\ndata:[ \t]*+\{.*\}[ \t]*\n(?:event:.*\n)?data:[ \t]*+[{[]")

# As long as the name of a field, such as "event:".
_MIN_RECOGNIZED_BYTES = 6


class FirstTokenSearch:
    """The search for the first event with output, in a body that arrives in pieces.

    `path` is the endpoint, whose dialect knows what output is; `content_type` is that header of the
    reply. `found` becomes True with the piece that completes the event. `notes` name a search that
    ended without having seen the whole stream.
    """

    def __init__(self, path: str, content_type: str) -> None:
        self.has_output = dialect_for_path(path).has_output
        self.content_type = content_type
        self.found = False
        self.notes: tuple[str, ...] = ()
        self._unread: list[bytes] = []
        self._event_end = b""  # what separates the events; b"" until that is known
        self._is_stream = False
        self._ends_with_cr = False
        self._reads = 0

    def feed(self, piece: bytes) -> bool:
        """Search the next piece of the body. Returns True as long as the search has to go on: not
        after the event was found, in a body that is not a stream, and after
        `MAX_FIRST_TOKEN_READS` pieces. Never raises."""
        self._reads += 1
        piece = self._with_lf_line_ends(piece)
        last_byte = self._unread[-1][-1:] if self._unread else b""
        if piece:  # none of "\n" is left where it belongs to the "\r" before it
            self._unread.append(piece)
        if not self._is_stream or (self._event_end or b"\n") in last_byte + piece:
            # Only here, so that a large event is not copied with each of its pieces.
            text = b"".join(self._unread)
            if not self._event_end:
                text = text.removeprefix(b"\xef\xbb\xbf").lstrip()
                if len(text) >= _MIN_RECOGNIZED_BYTES:
                    if not is_event_stream(text, self.content_type):
                        return False
                    self._is_stream = True
                    is_lines = is_json_lines(text, self.content_type)
                    if is_lines or _ADJACENT_EVENTS.search(b"\n" + text):
                        self._event_end = b"\n"
                    elif b"\n\n" in text:
                        self._event_end = b"\n\n"
            events, _, rest = text.rpartition(self._event_end or b"\n\n")
            self._unread = [rest] if rest else []
            self.found = self._has_output_event(events)
        if not self.found and self._reads == MAX_FIRST_TOKEN_READS:
            self.notes = (f"first token: not looked for after {self._reads} reads",)
        return not self.found and self._reads < MAX_FIRST_TOKEN_READS

    def _has_output_event(self, events: bytes) -> bool:
        payloads = parse_events(_ANNOUNCEMENT.sub(b"", b"\n" + events)).payloads
        return any(isinstance(event, dict) and self.has_output(event) for event in payloads)

    def _with_lf_line_ends(self, piece: bytes) -> bytes:
        """A piece with "\\n" as its line ends, also where a "\\r\\n" is divided between two
        pieces."""
        if self._ends_with_cr:
            piece = piece.removeprefix(b"\n")
        self._ends_with_cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece
