"""Events and replies that look like errors, and errors in rare forms."""

import json
from typing import Any

from dialects.registry import read_reply

CHAT = "/v1/chat/completions"
JSON, STREAM = "application/json", "text/event-stream"


def events(*payloads: Any) -> bytes:
    return "".join(f"data: {json.dumps(payload)}\n\n" for payload in payloads).encode()


def chunk(content: str) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": content}}]}


def test_a_message_before_content_is_no_error() -> None:
    body = events({"message": "Searching"}, {"title": "A chat"}, chunk("Hi"))
    assert read_reply(CHAT, body + b"data: [DONE]\n\n", STREAM, True).error is None
    after = events({"message": "Searching"}, chunk("Hi"), {"message": "Out of memory"})
    assert read_reply(CHAT, after, STREAM, True).error == "Out of memory"
