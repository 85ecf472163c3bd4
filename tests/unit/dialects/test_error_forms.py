"""Events and replies that look like errors, and errors in rare forms."""

import json
from typing import Any

import pytest

from dialects.registry import read_reply

CHAT = "/v1/chat/completions"
JSON, STREAM = "application/json", "text/event-stream"


def events(*payloads: Any) -> bytes:
    return "".join(f"data: {json.dumps(payload)}\n\n" for payload in payloads).encode()


def chunk(content: str) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": content}}]}


WATSONX = {"code": "model_not_supported", "message": "No such model", "more_info": "https://x"}


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        # AWS, in front of its APIs
        ({"Message": "User is not authorized"}, "User is not authorized"),
        # https://cloud.ibm.com/apidocs/watsonx-ai
        (
            {"errors": [WATSONX], "trace": "t", "status_code": 404},
            "model_not_supported: No such model (more_info: https://x)",
        ),
    ],
)
def test_errors_of_gateways_are_recognised(reply: dict[str, Any], message: str) -> None:
    assert read_reply(CHAT, json.dumps(reply).encode(), JSON, True).error == message


@pytest.mark.parametrize(
    "reply", [{"detail": "ok"}, {"status_msg": "success"}, {"Message": "Hello"}, {"errors": []}]
)
def test_a_text_of_success_is_no_error_at_other_endpoints(reply: dict[str, Any]) -> None:
    assert read_reply("/v1/other", json.dumps(reply).encode(), JSON, True).error is None


def test_a_message_before_content_is_no_error() -> None:
    body = events({"message": "Searching"}, {"title": "A chat"}, chunk("Hi"))
    assert read_reply(CHAT, body + b"data: [DONE]\n\n", STREAM, True).error is None
    after = events({"message": "Searching"}, chunk("Hi"), {"message": "Out of memory"})
    assert read_reply(CHAT, after, STREAM, True).error == "Out of memory"
