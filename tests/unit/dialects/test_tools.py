"""Tests of tools and tool calls: their form, and the removal of credentials."""

from typing import Any

import pytest

from dialects.tools import tool_call
from tests.unit.dialects.untyped import (
    flat_tools,
    renderable_tool_calls,
    renderable_tools,
    without_credentials,
)

PARAMETERS = {"type": "object"}

# name: (the tool of a request, the name of its schema, the recorded tool)
TOOLS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "a function": (
        {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}},
        "parameters",
        {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}},
    ),
    "a function without a name": (
        {"type": "function", "function": {"parameters": PARAMETERS}},
        "parameters",
        {"type": "function", "function": {"name": "function", "parameters": PARAMETERS}},
    ),
    "a flat function": (
        {"type": "function", "name": "f", "parameters": PARAMETERS, "strict": True},
        "parameters",
        {
            "type": "function",
            "function": {"name": "f", "parameters": PARAMETERS, "strict": True},
        },
    ),
    "Anthropic's": (
        {"name": "f", "description": "d", "input_schema": PARAMETERS, "cache_control": {}},
        "input_schema",
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": PARAMETERS},
            "cache_control": {},
        },
    ),
    "a nested custom tool": (
        {"type": "custom", "custom": {"name": "exec", "format": {"type": "text"}}},
        "parameters",
        {"type": "custom", "name": "exec", "format": {"type": "text"}},
    ),
    "a tool with a type": (
        {"type": "web_search", "filters": {}},
        "parameters",
        {"type": "web_search", "filters": {}, "name": "web_search"},
    ),
    "a tool with a type and parameters": (
        {"type": "openrouter:web_search", "parameters": {"max_results": 3}},
        "parameters",
        {
            "type": "openrouter:web_search",
            "parameters": {"max_results": 3},
            "name": "openrouter:web_search",
        },
    ),
    "an MCP server": (
        {"type": "mcp", "server_label": "dice"},
        "parameters",
        {"type": "mcp", "server_label": "dice", "name": "dice"},
    ),
    "Anthropic's MCP server": (
        {"type": "mcp_toolset", "mcp_server_name": "dice"},
        "input_schema",
        {"type": "mcp_toolset", "mcp_server_name": "dice", "name": "dice"},
    ),
    "members of odd types": (
        {"name": 5, "type": "x", "description": ["d"], "parameters": "p"},
        "input_schema",
        {"name": "x", "type": "x", "other_description": ["d"], "other_parameters": "p"},
    ),
    "a text": ("web_search", "parameters", {"type": "web_search", "name": "web_search"}),
    "null": (None, "parameters", {"type": "", "name": "tool"}),
}


@pytest.mark.parametrize("name", TOOLS)
def test_each_tool_has_a_name(name: str) -> None:
    tool, schema, expected = TOOLS[name]
    assert renderable_tools([tool], schema) == [expected]


def test_the_tools_of_a_namespace_are_listed_like_others() -> None:
    """https://platform.openai.com/docs/guides/tools-tool-search"""
    inner = {"type": "function", "name": "list", "defer_loading": True}
    namespace = {"type": "namespace", "name": "crm", "description": "d", "tools": [inner, inner]}
    expected = {**inner, "namespace": "crm"}
    assert renderable_tools([namespace]) == [expected, expected]


def test_tools_of_a_message_are_flat() -> None:
    tools = [{"name": "f", "description": None, "input_schema": PARAMETERS}]
    assert flat_tools(tools, "input_schema") == [
        {"type": "function", "name": "f", "parameters": PARAMETERS}
    ]
    assert flat_tools("all") == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("c", "f", '{"a":1}'), {"id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}),
        (("c", "f", {"a": 1}), {"id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}),
        ((None, None, None), {"id": "", "function": {"name": "", "arguments": ""}}),
        ((7, ["f"], []), {"id": "7", "function": {"name": '["f"]', "arguments": "[]"}}),
    ],
)
def test_a_tool_call_consists_of_texts(values: tuple[Any, ...], expected: dict[str, Any]) -> None:
    assert tool_call(*values) == {"type": "function", **expected}
    members = {"caller": {"x": 1}, "status": None, "id": 5, "name": "x", "call_id": "y"}
    assert tool_call(*values, **members) == {
        "type": "function",
        **expected,
        "caller": {"x": 1},
        "name": "x",
        "call_id": "y",
    }


@pytest.mark.parametrize(
    "call",
    [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "x"}},
        {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}, "index": 0},
        {"id": "c", "name": "f", "arguments": "x"},
        {"id": "c", "name": "f", "args": "x", "type": "tool_call"},
    ],
)
def test_a_call_of_any_form_has_a_function(call: dict[str, Any]) -> None:
    expected = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "x"}}
    assert renderable_tool_calls([call]) == [expected]
    assert renderable_tool_calls(call) == [expected]
    extra = {"extra_content": {"google": {"thought_signature": "s"}}}
    assert renderable_tool_calls([{**call, **extra}]) == [{**expected, **extra}]


def test_calls_that_are_not_objects_are_kept_as_arguments() -> None:
    assert renderable_tool_calls([None, 5]) == [tool_call("", "", ""), tool_call("", "", "5")]


def test_credentials_are_removed_from_all_tools() -> None:
    server = {"type": "mcp", "server_label": "x", "authorization": "secret", "headers": {"a": "b"}}
    redacted = {**server, "authorization": "[redacted]", "headers": "[redacted]"}
    namespace = {"type": "namespace", "name": "n", "tools": [server, "x"]}
    added = {"type": "additional_tools", "tools": [server, namespace]}
    body = {"tools": [server, namespace], "input": [added, "x", {"headers": "kept"}]}
    redacted_namespace = {**namespace, "tools": [redacted, "x"]}
    assert without_credentials(body) == {
        "tools": [redacted, redacted_namespace],
        "input": [
            {**added, "tools": [redacted, redacted_namespace]},
            "x",
            {"headers": "kept"},
        ],
    }
    assert without_credentials({"input": "Hi"}) == {"input": "Hi"}


def test_credentials_in_the_url_of_a_server_are_removed() -> None:
    """https://docs.tavily.com/documentation/mcp has the key in the URL."""
    body = {
        "tools": [
            {"type": "mcp", "server_url": "https://ada:secret@1@example.org:8000/mcp?a=secret"}
        ],
        "mcp_servers": [
            {"url": "https://example.org/mcp?\nkey=secret"},
            {"url": 5},
            {"url": "u@v"},
        ],
    }
    assert without_credentials(body) == {
        "tools": [
            {"type": "mcp", "server_url": "https://[redacted]@example.org:8000/mcp?[redacted]"}
        ],
        "mcp_servers": [{"url": "https://example.org/mcp?[redacted]"}, {"url": 5}, {"url": "u@v"}],
    }


@pytest.mark.parametrize("place", ["environment", "container"])
def test_secrets_of_a_container_are_removed(place: str) -> None:
    """https://developers.openai.com/api/docs/guides/tools-shell"""
    policy = {"type": "allowlist", "domain_secrets": [{"name": "KEY", "value": "secret"}]}
    body = {"tools": [{"type": "shell", place: {"type": "auto", "network_policy": policy}}]}
    redacted = {**policy, "domain_secrets": "[redacted]"}
    assert without_credentials(body) == {
        "tools": [{"type": "shell", place: {"type": "auto", "network_policy": redacted}}]
    }
    unchanged = {"tools": [{place: "id"}, {place: {"network_policy": "x"}}]}
    assert without_credentials(unchanged) == unchanged
