"""Finds the first event of a stream that has output of the model in it: a text, a thought, a
refusal, a tool call (its name is enough), audio or an image. The table is in docs/tracing.md.

Everything that providers send before that event is passed over: comments, pings, role chunks, and
events that only announce the reply.
"""

import re
from collections.abc import Callable
from typing import Any

from core.json_values import as_object, object_items
from core.limits import MAX_FIRST_TOKEN_READS
from dialects import chat, completions, messages, responses
from dialects.registry import dialect_for_path
from dialects.sse import is_event_stream, is_json_lines, parse_events

# Members whose text labels the output, or contains its sources, but is no part of it. Azure sends
# the documents that it found (`context`) before the answer:
# https://learn.microsoft.com/azure/ai-foundry/openai/references/on-your-data
_LABELS = frozenset(
    (
        *("type", "role", "id", "call_id", "index", "format", "object", "status", "phase"),
        *("channel", "signature", "provider_metadata", "provider_specific_fields"),
        *("extra_content", "context", "annotations", "citations", "search_results"),
    )
)

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
        self.has_output = _HAS_OUTPUT.get(dialect_for_path(path).NAME, _is_output)
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


def _has_text(value: Any) -> bool:
    """Whether a JSON value contains a text that is not empty, not counting the values of
    `_LABELS`."""
    if isinstance(value, dict):
        return any(_has_text(member) for name, member in value.items() if name not in _LABELS)
    if isinstance(value, list):
        return any(map(_has_text, value))
    return isinstance(value, str) and value != ""


def _is_output(event: dict[str, Any]) -> bool:
    return not event.get("error")


def _has_output_chat(event: dict[str, Any]) -> bool:
    pieces = object_items(event.get("choices"))
    # Ollama's own chunks have a `message`, Workers AI's a `response`, in place of the choices.
    pieces = pieces or [{"message": event.get("message"), "text": event.get("response")}]
    # The name of a message is the author's (MiniMax), unlike that of a tool call in it.
    messages = [as_object(piece.get(name)) for piece in pieces for name in ("delta", "message")]
    texts = [*(piece.get("text") for piece in pieces), *({**m, "name": ""} for m in messages)]
    return any(map(_has_text, texts))


def _has_output_messages(event: dict[str, Any]) -> bool:
    block = as_object(event.get("content_block"))
    # A `fallback` block only names the models.
    is_delta = event.get("type") == "content_block_delta"
    return (
        (block.get("type") != "fallback" and _has_text(block))
        or (is_delta and _has_text(event.get("delta")))
        or _has_text(event.get("content"))  # the whole message as one event
    )


def _has_output_responses(event: dict[str, Any]) -> bool:
    item = as_object(event.get("item"))
    item_type = item.get("type")
    if isinstance(item_type, str) and item_type.endswith("_call"):
        return True
    if event.get("type") == "response.output_item.added":
        # OpenAI announces a sealed thought with a text that is not the thought.
        item = {name: item[name] for name in item if name != "encrypted_content"}
    if item_type == "mcp_list_tools":
        return False
    members = ("delta", "part", "text", "refusal", "arguments", "partial_image_b64", "output")
    output = as_object(event.get("response")).get("output")
    return _has_text(item) or _has_text(output) or any(_has_text(event.get(n)) for n in members)


# By the name of the dialect. Any event without an error is output at other endpoints.
_HAS_OUTPUT: dict[str, Callable[[dict[str, Any]], bool]] = {
    chat.NAME: _has_output_chat,
    completions.NAME: _has_output_chat,
    messages.NAME: _has_output_messages,
    responses.NAME: _has_output_responses,
}
