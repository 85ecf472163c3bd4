"""The tables in docs/tracing.md that say where a value of an API stands in the trace: each path
exists, and the value in the trace comes from the value in the request or the reply."""

import copy
import dataclasses
import json
import re
from typing import Any

import pytest

from core.trace_context import read_trace_context
from core.types import Call, Capture, Destination, Ending
from dialects.first_token import FirstTokenSearch
from local.runtime import ROOT
from settings.load import Settings
from tracing import Exchange, observe

PAGE = (ROOT / "docs" / "tracing.md").read_text()
DESTINATION = Destination("default", "https://langfuse.example", "pk-lf-1", "sk-lf-1")
IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M8AAAMBAQDJ"
)

# For each endpoint a request, a whole reply, an event of a stream and an error, which have every
# path in the second column.
EXAMPLES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "request": {
            "model": "m",
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": IMAGE}}],
                }
            ],
            "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        },
        "reply": {
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "Hi",
                        "reasoning_content": "Well.",
                        "tool_calls": [
                            {"id": "c", "function": {"name": "look", "arguments": '{"at": 1}'}}
                        ],
                    },
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 4},
                "cost": 0.5,
            },
        },
        "event": {"choices": [{"index": 0, "delta": {"content": "Hi"}}]},
        "error": {"error": {"message": "Slow down.", "type": "rate_limit"}},
    },
    "/v1/messages": {
        "request": {
            "model": "m",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {
                            "type": "image",
                            "source": {
                                "type": "base64",
                                "media_type": "image/png",
                                "data": IMAGE.partition(",")[2],
                            },
                        },
                    ],
                }
            ],
            "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        },
        "reply": {
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [
                {"type": "thinking", "thinking": "Well.", "signature": "c2ln"},
                {"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}},
            ],
            "stop_reason": "tool_use",
            "usage": {
                "input_tokens": 20,
                "output_tokens": 10,
                "cache_read_input_tokens": 5,
                "cache_creation_input_tokens": 7,
                "cache_creation": {"ephemeral_5m_input_tokens": 7},
                "output_tokens_details": {"thinking_tokens": 4},
                "cost": 0.5,
            },
        },
        "event": {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hi"},
            "content_block": {"type": "text", "text": "Hi"},
        },
        "error": {"type": "error", "error": {"message": "Slow.", "type": "rate_limit_error"}},
    },
    "/v1/responses": {
        "request": {
            "model": "m",
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is this?"},
                        {"type": "input_image", "image_url": IMAGE},
                    ],
                },
            ],
            "tools": [{"type": "function", "name": "look", "parameters": {}}],
        },
        "reply": {
            "object": "response",
            "model": "m",
            "status": "completed",
            "output": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Well."}]},
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at": 1}'},
            ],
            "usage": {
                "input_tokens": 20,
                "output_tokens": 10,
                "input_tokens_details": {"cached_tokens": 5},
                "output_tokens_details": {"reasoning_tokens": 4},
                "cost": 0.5,
            },
        },
        "event": {"type": "response.output_text.delta", "delta": "Hi"},
        "error": {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}},
    },
    "/v1/embeddings": {
        "request": {"model": "m", "input": "Hi"},
        "reply": {
            "object": "list",
            "model": "m",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
            "usage": {"prompt_tokens": 20, "cost": 0.5},
        },
        "error": {"error": {"message": "Slow down.", "type": "rate_limit"}},
    },
}


def table(path: str) -> list[list[str]]:
    """The rows of the table under the heading of an endpoint, without its head."""
    section = PAGE.partition(f"### `{path}`\n")[2].partition("\n###")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


ROWS = [(path, *row) for path in EXAMPLES for row in table(path)]


def paths(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell.partition(";")[0])


def values(value: Any, path: str) -> list[Any]:
    """All values at a path such as "choices[].delta"."""
    found = [value]
    for step in path.split("."):
        name = step.removesuffix("[]")
        found = [item[name] for item in found if isinstance(item, dict) and name in item]
        if step.endswith("[]"):
            found = [inner for item in found if isinstance(item, list) for inner in item]
    return found


def remove(value: Any, path: str) -> None:
    """Remove the members at a path from a JSON value, in place."""
    parent, _, name = path.rpartition(".")
    for item in values(value, parent) if parent else [value]:
        if isinstance(item, dict):
            item.pop(name, None)


def trace(path: str, example: dict[str, Any]) -> dict[str, Any]:
    """The observation of an example. A reply without its error is a whole one; the event is a
    stream, whose first token is looked for."""
    search = FirstTokenSearch(path, "text/event-stream")
    search.feed(f"data: {json.dumps(example.get('event'))}\n\n".encode())
    body, request = (json.dumps(example[name]).encode() for name in ("reply", "request"))
    first_token_at = 1001.0 if search.found else None
    capture = Capture(
        Ending.COMPLETE, 1002.0, 200, "application/json", body, first_token_at=first_token_at
    )
    call = Call("POST", path, "", {})
    exchange = Exchange(
        call, read_trace_context({}), DESTINATION, "p", request, len(request), 1000.0, capture
    )
    observation = dataclasses.asdict(observe(exchange, Settings()))
    for name in ("input", "output"):
        observation[name] = json.loads(observation[name] or "null")
    observation["completion_start_time"] = observation["completion_started_at"]
    return observation


@pytest.mark.parametrize(("path", "name", "sources", "targets"), ROWS)
def test_a_value_stands_where_the_table_says(path: str, name: str, sources: str, targets: str):
    example = copy.deepcopy(EXAMPLES[path])
    if name == "errors":
        example["reply"] = example["error"]
    before = trace(path, example)
    changed = copy.deepcopy(example)
    for source in paths(sources):
        assert any(values(part, source) for part in example.values()), source
        for part in changed.values():
            remove(part, source)
    after = trace(path, changed)
    for target in paths(targets):
        assert any(values(before, target)), target
        assert values(after, target) != values(before, target), target


def test_every_endpoint_with_content_has_every_kind_of_value():
    kinds = {path: {row[0] for row in table(path)} for path in EXAMPLES}
    generating = {*EXAMPLES} - {"/v1/embeddings"}
    required = {"tokens", "cost", "first token", "thinking", "tools", "tool calls", "media"}
    for path in generating:
        assert kinds[path] >= required | {"errors", "finish"}
