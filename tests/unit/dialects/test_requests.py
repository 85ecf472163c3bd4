"""Tests of `read_request`: the prompt of a request, per endpoint."""

import dataclasses
import json
from typing import Any

import pytest

from dialects.registry import dialect_for_path
from tests.unit.dialects.untyped import read_request

CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
EMBEDDINGS, RESPONSES = "/v1/embeddings", "/v1/responses"

HELLO = [{"role": "user", "content": "Hello"}]
FUNCTION = {"name": "get_weather", "description": "d", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}

# name: (path, body, the fields of the prompt that have a value)
CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    # https://platform.openai.com/docs/api-reference/chat/create
    "chat": (CHAT, {"model": "gpt-4o", "messages": HELLO}, {"model": "gpt-4o", "input": HELLO}),
    "chat, parameters": (
        CHAT,
        {
            "model": "o3",
            "messages": HELLO,
            "temperature": 0.2,
            "max_tokens": 10,
            "max_completion_tokens": 20,
            "top_p": 1,
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
            "seed": 7,
            "n": 2,
            "stop": ["a", "b"],
            "reasoning_effort": "high",
            "verbosity": "low",
            "service_tier": "flex",
            "logprobs": False,
            "logit_bias": {"50256": -100},
            "modalities": ["text", "audio"],
            "audio": {"voice": "ash", "format": "wav"},
            "parallel_tool_calls": False,
            "store": True,
            "top_k": 40,  # vLLM
            "stream": True,
            "stream_options": {"include_usage": True},
            "response_format": {"type": "json_object"},
            "user": "u1",
            "metadata": {"session_id": "s1", "feature": "search"},
            "safety_identifier": "hash",
            "prompt_cache_key": "key",
            "web_search_options": None,
        },
        {
            "model": "o3",
            "input": HELLO,
            "user": "u1",
            "session": "s1",
            "parameters": {
                "temperature": 0.2,
                "max_tokens": 10,
                "max_completion_tokens": 20,
                "top_p": 1,
                "presence_penalty": 0.5,
                "frequency_penalty": -0.5,
                "seed": 7,
                "n": 2,
                "stop": ["a", "b"],
                "reasoning_effort": "high",
                "verbosity": "low",
                "service_tier": "flex",
                "logprobs": False,
                "logit_bias": '{"50256":-100}',
                "modalities": ["text", "audio"],
                "audio": '{"voice":"ash","format":"wav"}',
                "parallel_tool_calls": False,
                "store": True,
                "top_k": 40,
            },
            "metadata": {
                "feature": "search",
                "response_format": {"type": "json_object"},
                "safety_identifier": "hash",
                "prompt_cache_key": "key",
            },
        },
    ),
    "chat, a key in the body": (
        CHAT,
        {"messages": HELLO, "api_key": "sk-secret"},
        {"input": HELLO},
    ),
    "chat, tools": (
        CHAT,
        {"model": "m", "messages": HELLO, "tools": [TOOL], "tool_choice": "auto"},
        {"model": "m", "input": {"messages": HELLO, "tools": [TOOL], "tool_choice": "auto"}},
    ),
    "chat, functions": (
        CHAT,
        {"messages": HELLO, "functions": [FUNCTION], "function_call": {"name": "get_weather"}},
        {
            "input": {
                "messages": HELLO,
                "functions": [FUNCTION],
                "function_call": {"name": "get_weather"},
            }
        },
    ),
    "chat, a list of numbers and one of anything are JSON": (
        CHAT,
        {"messages": HELLO, "a": [1, 2], "b": ["x", 1], "c": [], "d": {}},
        {"input": HELLO, "parameters": {"a": "[1,2]", "b": '["x",1]', "c": [], "d": "{}"}},
    ),
    "chat, an extension too long for a parameter": (
        CHAT,
        {"messages": HELLO, "context": "word " * 300, "rows": [{"a": "b" * 1000}]},
        {
            "input": {
                "messages": HELLO,
                "context": "word " * 300,
                "rows": [{"a": "b" * 1000}],
            }
        },
    ),
    "chat, fields of the wrong type": (
        CHAT,
        {"model": 7, "messages": "Hello", "user": ["u"], "metadata": [1], "stream": "yes"},
        {"input": "Hello", "notes": ("model: not a string", "user: not a string")},
    ),
    "chat, no messages": (
        CHAT,
        {"model": "m", "temperature": 1},
        {"model": "m", "parameters": {"temperature": 1}, "notes": ("messages: missing",)},
    ),
    "chat, an inline image": (
        CHAT,
        {"messages": [{"role": "user", "content": [{"image_url": "data:image/png;base64,AAAA"}]}]},
        {
            "input": [
                {"role": "user", "content": [{"type": "text", "text": "[image/png, 3 bytes]"}]}
            ]
        },
    ),
    "chat, credentials of a remote tool": (
        CHAT,
        {
            "messages": HELLO,
            "tools": [{"type": "mcp", "server_url": "u", "headers": {"Authorization": "Bearer x"}}],
        },
        {
            "input": {
                "messages": HELLO,
                "tools": [
                    {"type": "mcp", "server_url": "u", "headers": "[redacted]", "name": "mcp"}
                ],
            }
        },
    ),
    "not an object": (CHAT, [1], {"input": [1]}),
    # https://platform.openai.com/docs/api-reference/completions/create
    "completion": (
        COMPLETIONS,
        {"model": "m", "prompt": "Say", "echo": True, "best_of": 2, "stop": "\n"},
        {"model": "m", "input": "Say", "parameters": {"echo": True, "best_of": 2, "stop": "\n"}},
    ),
    "completion, several prompts": (
        COMPLETIONS,
        {"prompt": ["a", "b"]},
        {"input": ["a", "b"]},
    ),
    "completion, tokens": (COMPLETIONS, {"prompt": [[1, 2], [3]]}, {"input": [[1, 2], [3]]}),
    "completion, suffix": (
        COMPLETIONS,
        {"prompt": "a", "suffix": "c"},
        {"input": {"prompt": "a", "suffix": "c"}},
    ),
    # https://platform.openai.com/docs/api-reference/embeddings/create
    "embedding": (
        EMBEDDINGS,
        {"model": "e", "input": "text", "dimensions": 256, "encoding_format": "base64"},
        {
            "model": "e",
            "input": "text",
            "parameters": {"dimensions": 256, "encoding_format": "base64"},
        },
    ),
    "embedding, several": (EMBEDDINGS, {"input": ["a", "b"]}, {"input": ["a", "b"]}),
    "embedding, tokens": (EMBEDDINGS, {"input": [1, 2, 3]}, {"input": [1, 2, 3]}),
    # https://docs.anthropic.com/en/api/messages
    "messages": (
        MESSAGES,
        {
            "model": "claude",
            "max_tokens": 10,
            "system": "Be kind.",
            "messages": HELLO,
            "metadata": {"user_id": "u1"},
            "stop_sequences": ["x"],
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "output_config": {"effort": "low", "format": {"type": "json_schema"}},
            "service_tier": "auto",
        },
        {
            "model": "claude",
            "input": [{"role": "system", "content": "Be kind."}, *HELLO],
            "user": "u1",
            "parameters": {
                "max_tokens": 10,
                "stop_sequences": ["x"],
                "thinking_type": "enabled",
                "thinking_budget_tokens": 1024,
                "effort": "low",
                "service_tier": "auto",
            },
            "metadata": {"response_format": {"type": "json_schema"}},
        },
    ),
    "messages, Claude Code": (
        MESSAGES,
        {
            "messages": HELLO,
            "metadata": {"user_id": '{"device_id":"d1","account_uuid":"","session_id":"s1"}'},
        },
        {"input": HELLO, "user": "d1", "session": "s1"},
    ),
    "messages, Claude Code with an account": (
        MESSAGES,
        {
            "messages": HELLO,
            "metadata": {"user_id": '{"device_id":"d1","account_uuid":"a1","session_id":"s1"}'},
        },
        {"input": HELLO, "user": "a1", "session": "s1"},
    ),
    "messages, Claude Code with a separate session": (
        MESSAGES,
        {
            "messages": HELLO,
            "metadata": {"user_id": '{"device_id":"d1","session_id":"s1"}', "session_id": "s2"},
        },
        {"input": HELLO, "user": "d1", "session": "s2"},
    ),
    "messages, a user similar to Claude Code's": (
        MESSAGES,
        {"messages": HELLO, "metadata": {"user_id": '{"session_id":"s1","user":"bob"}'}},
        {"input": HELLO, "user": '{"session_id":"s1","user":"bob"}', "session": "s1"},
    ),
    "messages, a user that is JSON": (
        MESSAGES,
        {"messages": HELLO, "metadata": {"user_id": '{"id":"u1"}'}},
        {"input": HELLO, "user": '{"id":"u1"}'},
    ),
    "messages, a user that is malformed JSON": (
        MESSAGES,
        {"messages": HELLO, "metadata": {"user_id": "{u1", "session_id": "s1"}},
        {"input": HELLO, "user": "{u1", "session": "s1"},
    ),
    "responses, Codex": (
        RESPONSES,
        {"input": "Hello", "client_metadata": {"session_id": "s1", "turn_id": "t1"}},
        {
            "input": HELLO,
            "session": "s1",
            "metadata": {"client_metadata": {"session_id": "s1", "turn_id": "t1"}},
        },
    ),
    "messages, blocks of all kinds": (
        MESSAGES,
        {
            "system": [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
                        {"type": "redacted_thinking", "data": "xx"},
                        {"type": "text", "text": "I look"},
                        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": "ü"}},
                        {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t1", "content": "7"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "t2",
                            "content": [{"type": "text", "text": "no"}],
                            "is_error": True,
                        },
                        {"type": "text", "text": "And?"},
                        {
                            "type": "document",
                            "source": {"type": "url", "url": "https://example.com/a.pdf"},
                        },
                        {"type": "unheard_of", "x": 1},
                    ],
                },
            ],
        },
        {
            "input": [
                {
                    "role": "system",
                    "content": [
                        {"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}
                    ],
                },
                {"role": "user", "content": "Hi"},
                {
                    "role": "assistant",
                    "content": "I look",
                    "thinking": [{"type": "thinking", "content": "Hm", "signature": "sig"}],
                    "redacted_thinking": [{"type": "redacted_thinking", "data": "xx"}],
                    "tool_calls": [
                        {
                            "id": "t1",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a":"ü"}'},
                        },
                        {
                            "id": "t2",
                            "type": "function",
                            "function": {"name": "g", "arguments": "{}"},
                        },
                    ],
                },
                {"role": "tool", "tool_call_id": "t1", "content": "7"},
                {
                    "role": "tool",
                    "tool_call_id": "t2",
                    "content": [{"type": "text", "text": "no"}],
                    "is_error": True,
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "And?"},
                        {"type": "text", "text": "[document, https://example.com/a.pdf]"},
                        {"type": "text", "text": '[unheard_of: {"x":1}]'},
                    ],
                },
            ]
        },
    ),
    "messages, tools": (
        MESSAGES,
        {
            "messages": HELLO,
            "tools": [
                {"name": "get_weather", "description": "d", "input_schema": {"type": "object"}},
                {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
            ],
            "tool_choice": {"type": "any"},
            "mcp_servers": [{"type": "url", "url": "u", "authorization_token": "secret"}],
        },
        {
            "input": {
                "messages": HELLO,
                "tools": [
                    TOOL,
                    {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
                ],
                "tool_choice": {"type": "any"},
                "mcp_servers": [{"type": "url", "url": "u", "authorization_token": "[redacted]"}],
            }
        },
    ),
    "messages, malformed ones": (
        MESSAGES,
        {"system": "S", "messages": ["x", {"role": "user"}, {"role": "user", "content": []}, None]},
        {
            "input": [
                {"role": "system", "content": "S"},
                "x",
                {"role": "user"},
                {"role": "user", "content": []},
                None,
            ]
        },
    ),
    "messages, none": (MESSAGES, {"system": "S"}, {"input": {"system": "S"}}),
    # https://platform.openai.com/docs/api-reference/responses/create
    "responses": (
        RESPONSES,
        {
            "model": "gpt-5",
            "instructions": "Be brief.",
            "input": "Hello",
            "previous_response_id": "resp_0",
            "reasoning": {"effort": "high", "summary": "auto"},
            "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "x"}},
            "max_output_tokens": 5,
            "include": ["reasoning.encrypted_content"],
            "stream": True,
        },
        {
            "model": "gpt-5",
            "input": [{"role": "system", "content": "Be brief."}, *HELLO],
            "parameters": {
                "max_output_tokens": 5,
                "include": ["reasoning.encrypted_content"],
                "reasoning_effort": "high",
                "reasoning_summary": "auto",
                "verbosity": "low",
            },
            "metadata": {
                "response_format": {"type": "json_schema", "name": "x"},
                "previous_response_id": "resp_0",
            },
        },
    ),
    "responses, items of all kinds": (
        RESPONSES,
        {
            "input": [
                {"role": "user", "content": "Hello"},
                {
                    "type": "message",
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "and"},
                        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                    ],
                },
                {"type": "reasoning", "id": "rs", "summary": [{"text": "Hm"}]},
                {
                    "type": "message",
                    "id": "msg",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "I look", "annotations": []}],
                },
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "raw"},
                {"type": "function_call_output", "call_id": "c1", "output": "7"},
                {"type": "custom_tool_call_output", "call_id": "c2", "output": "8"},
                {"type": "item_reference", "id": "x"},
                {"role": "assistant", "content": "One"},
                {"role": "assistant", "content": "Two"},
                "odd",
            ]
        },
        {
            "input": [
                *HELLO,
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "and"},
                        {"type": "text", "text": "[image/png, 3 bytes]"},
                    ],
                },
                {
                    "role": "assistant",
                    "content": "I look",
                    "thinking": [{"type": "thinking", "content": "Hm"}],
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        },
                        {
                            "id": "c2",
                            "type": "function",
                            "function": {"name": "g", "arguments": "raw"},
                        },
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "7"},
                {"role": "tool", "tool_call_id": "c2", "content": "8"},
                {"role": "assistant", "type": "item_reference", "id": "x"},
                {"role": "assistant", "content": "One"},
                {"role": "assistant", "content": "Two"},
                "odd",
            ]
        },
    ),
    "responses, a text after a call is a separate message": (
        RESPONSES,
        {
            "input": [
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"role": "assistant", "content": "Done"},
            ]
        },
        {
            "input": [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        }
                    ],
                },
                {"role": "assistant", "content": "Done"},
            ]
        },
    ),
    "responses, tools": (
        RESPONSES,
        {
            "input": "Hello",
            "tools": [
                {"type": "function", **FUNCTION, "strict": True},
                {"type": "mcp", "server_label": "l", "authorization": "secret", "headers": {}},
            ],
            "tool_choice": "required",
        },
        {
            "input": {
                "messages": HELLO,
                "tools": [
                    {"type": "function", "function": {**FUNCTION, "strict": True}},
                    {
                        "type": "mcp",
                        "server_label": "l",
                        "authorization": "[redacted]",
                        "headers": {},
                        "name": "l",
                    },
                ],
                "tool_choice": "required",
            }
        },
    ),
    "responses, a stored prompt": (
        RESPONSES,
        {"prompt": {"id": "pmpt_1", "variables": {"city": "Rome"}}},
        {"input": {"prompt": {"id": "pmpt_1", "variables": {"city": "Rome"}}}},
    ),
    "any other path": (
        "/v1/rerank",
        {"model": "r", "query": "q", "documents": ["a"], "mcp_servers": [{"headers": "secret"}]},
        {
            "model": "r",
            "input": {
                "model": "r",
                "query": "q",
                "documents": ["a"],
                "mcp_servers": [{"headers": "[redacted]"}],
            },
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_request_gives_the_expected_prompt(name: str) -> None:
    path, body, expected = CASES[name]
    prompt = read_request(path, json.dumps(body).encode())
    fields = dataclasses.asdict(prompt)
    assert {n: v for n, v in fields.items() if v not in (None, {}, (), False)} == expected
    value = json.loads(json.dumps(body))
    assert read_request(path, b"", value=value) == prompt
    assert value == json.loads(json.dumps(body))


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, "/x"])
@pytest.mark.parametrize("body", [b"", b"{", b"hello", b"\xff\xfe", b"--boundary\r\n\r\nabc"])
def test_a_request_that_is_not_json_is_recorded_as_text(path: str, body: bytes) -> None:
    prompt = read_request(path, body)
    assert prompt.input == (body.decode("utf-8", "replace") or None)
    assert prompt.notes[0].startswith("request: ")


def test_a_long_request_that_is_not_json_is_truncated() -> None:
    assert len(read_request(CHAT, b"x " * 500_000).input) == 10_000


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        (CHAT, "chat", "generation"),
        (COMPLETIONS, "completion", "generation"),
        (MESSAGES, "messages", "generation"),
        (EMBEDDINGS, "embedding", "embedding"),
        (RESPONSES, "responses", "generation"),
        ("/v1/messages/count_tokens", "other", "generation"),
        ("/v1/threads/t/messages", "other", "generation"),
        ("", "other", "generation"),
    ],
)
def test_the_path_selects_the_dialect(path: str, name: str, kind: str) -> None:
    dialect = dialect_for_path(path)
    assert name == dialect.name
    assert kind == dialect.observation_type


@pytest.mark.parametrize(
    ("path", "member"),
    [("/v1/chat/completions", {"prompt": "Hi"}), ("/v1/embeddings", {"texts": ["a", "b"]})],
)
def test_content_in_another_member_is_input_and_no_parameter(path: str, member: Any) -> None:
    prompt = read_request(path, json.dumps({"model": "m", **member}).encode())
    assert (prompt.input, prompt.parameters, prompt.notes) == (member, {}, ())
