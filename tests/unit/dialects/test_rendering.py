"""Tests of inputs and outputs against the rules by which Langfuse renders them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.rendering import renderable_message
from tests.chatml import available_tools, called_tools, render_problems
from tests.unit.dialects import test_recorded as recorded
from tests.unit.dialects import test_requests as requests
from tests.unit.dialects.untyped import countable_output, read_reply, read_request

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
PNG = "iVBORw0KGgoAAAANSUhEUg=="  # 16 bytes
PDF = "JVBERi0xLjcK"  # 9 bytes


def input_of(path: str, body: dict[str, Any]) -> Any:
    return read_request(path, json.dumps(body).encode()).input


def output_of(path: str, reply: dict[str, Any]) -> Any:
    return read_reply(path, json.dumps(reply).encode(), "application/json", True).output


# --- the rules themselves

TEXT_MESSAGE = {"role": "user", "content": "Hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
NOT_RENDERED: dict[str, Any] = {
    "a tool without a name": {"messages": [TEXT_MESSAGE], "tools": [{"type": "web_search"}]},
    "a nested custom tool": {
        "messages": [TEXT_MESSAGE],
        "tools": [{"type": "custom", "custom": {"name": "f"}}],
    },
    "a call without an id": [{"role": "assistant", "tool_calls": [{**CALL, "id": None}]}],
    "calls beside an item without a role": [{"role": "assistant", "tool_calls": [CALL]}, {"a": 1}],
    "a custom call": [
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}
    ],
    "an image with a placeholder": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "[image]"}}]}
    ],
    "an image with another detail": [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "https://a", "detail": "original"}}
            ],
        }
    ],
    "an audio with a placeholder": [
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "[audio]"}}]}
    ],
    "an audio answer": [{"role": "assistant", "content": "Hi", "audio": {"data": "[audio]"}}],
    "thinking that is a text": [{"role": "assistant", "content": "Hi", "thinking": "Hm"}],
    "thinking beside a refusal": [
        {
            "role": "assistant",
            "content": None,
            "thinking": [{"type": "thinking", "content": "Hm"}],
            "refusal": "No.",
        }
    ],
    "a part of another type": [{"role": "user", "content": [{"type": "document", "source": {}}]}],
    "a number": [{"role": "user", "content": 5}],
    "an empty message among others": [TEXT_MESSAGE, {"role": "assistant", "content": None}],
}


@pytest.mark.parametrize("name", NOT_RENDERED)
def test_what_is_not_rendered_is_found(name: str) -> None:
    assert render_problems(NOT_RENDERED[name], "input")


def test_what_is_rendered_has_no_problem() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    value = {
        "messages": [
            TEXT_MESSAGE,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "7"}]},
            {"role": "assistant", "content": None, "refusal": "No."},
        ],
        "tools": [tool],
        "tool_choice": "auto",
    }
    assert render_problems(value, "input") == []
    assert available_tools(value) == ["f"]
    assert called_tools(value["messages"][1]) == ["f"]


# --- what the dialects record

RENDERED_REPLIES = [
    name for name, case in recorded.CASES.items() if case["path"] in (CHAT, MESSAGES, RESPONSES)
]


@pytest.mark.parametrize("name", RENDERED_REPLIES)
def test_a_recorded_output_is_rendered(name: str) -> None:
    output = recorded.CASES[name]["expected"].get("output")
    assert render_problems(output, "output") == []


@pytest.mark.parametrize("name", [n for n in RENDERED_REPLIES if n in recorded.STREAMED_CASES])
def test_the_output_of_a_cut_stream_is_rendered(name: str) -> None:
    case = recorded.CASES[name]
    lines = recorded.stream_body(case).splitlines(keepends=True)
    for count in range(1, len(lines)):
        cut = b"".join(lines[:count])
        output = read_reply(case["path"], cut, "text/event-stream", complete=False).output
        # A message that has only begun is empty.
        assert {problem.rpartition(": ")[2] for problem in render_problems(output, "output")} <= {
            "empty"
        }


# Requests without messages, or with items that no provider accepts.
MALFORMED = {
    *("messages, malformed ones", "messages, none"),
    *("responses, items of all kinds", "responses, a stored prompt"),
}
RENDERED_REQUESTS = [
    name
    for name, (path, _, _) in requests.CASES.items()
    if path in (CHAT, MESSAGES, RESPONSES) and name not in MALFORMED
]


@pytest.mark.parametrize("name", RENDERED_REQUESTS)
def test_a_recorded_input_is_rendered(name: str) -> None:
    path, body, _ = requests.CASES[name]
    assert render_problems(input_of(path, body), "input") == []


# https://platform.openai.com/docs/api-reference/responses/create#responses-create-tools
# https://docs.anthropic.com/en/docs/agents-and-tools/mcp-connector
TOOLS: dict[str, tuple[str, list[Any], list[str]]] = {
    "chat": (
        CHAT,
        [
            {"type": "function", "function": {"name": "f", "parameters": {}}},
            {"type": "custom", "custom": {"name": "exec", "description": "Run", "format": {}}},
            {"type": "web_search"},
            {"type": "function", "function": {}},
            "code_interpreter",
            {},
        ],
        ["f", "exec", "web_search", "function", "code_interpreter", "tool"],
    ),
    "messages": (
        MESSAGES,
        [
            {"name": "f", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search"},
            {"type": "mcp_toolset", "mcp_server_name": "mine"},
            {"type": "of_tomorrow"},
        ],
        ["f", "web_search", "mine", "of_tomorrow"],
    ),
    "responses": (
        RESPONSES,
        [
            {"type": "function", "name": "f", "parameters": {}},
            {"type": "function", "name": "g"},
            {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
            {"type": "mcp", "server_label": "dice", "server_url": "https://example.org"},
            {"type": "web_search_preview"},
            {"type": "code_interpreter", "container": {"type": "auto"}},
            {"type": "local_shell"},
            {"type": "namespace", "name": "crm", "tools": [{"type": "function", "name": "list"}]},
            {"type": "openrouter:web_search", "parameters": {}},
        ],
        [
            *("f", "g", "apply_patch", "dice", "web_search_preview", "code_interpreter"),
            *("local_shell", "list", "openrouter:web_search"),
        ],
    ),
}


@pytest.mark.parametrize("name", TOOLS)
def test_each_tool_of_a_request_has_a_name(name: str) -> None:
    path, tools, names = TOOLS[name]
    member = "input" if path == RESPONSES else "messages"
    value = input_of(path, {member: [TEXT_MESSAGE], "tools": tools})
    assert render_problems(value, "input") == []
    assert available_tools(value) == names


def test_codex_request_is_rendered() -> None:
    """Tools that an item adds, sealed reasoning, and the calls of several kinds of tools."""
    body = {
        "model": "gpt-5.6-sol",
        "instructions": "Be brief.",
        "tools": [{"type": "local_shell"}, {"type": "web_search", "external_web_access": False}],
        "input": [
            {
                "type": "additional_tools",
                "role": "developer",
                "tools": [
                    {"type": "custom", "name": "exec"},
                    {
                        "type": "namespace",
                        "name": "mcp__x",
                        "tools": [{"type": "mcp", "server_label": "y", "authorization": "secret"}],
                    },
                ],
            },
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go"}]},
            {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA" + "c" * 300},
            {"type": "custom_tool_call", "call_id": "c1", "name": "exec", "input": "ls"},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "a.py"},
            {
                "type": "local_shell_call",
                "call_id": "c2",
                "status": "completed",
                "action": {"type": "exec", "command": ["ls"]},
            },
            {"type": "local_shell_call_output", "call_id": "c2", "output": "b.py"},
            {
                "type": "function_call",
                "call_id": "c3",
                "namespace": "n",
                "name": "see",
                "arguments": "{}",
            },
            {
                "type": "function_call_output",
                "call_id": "c3",
                "output": [
                    {"type": "input_text", "text": "A picture:"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
                ],
            },
            {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"},
        ],
    }
    value = input_of(RESPONSES, body)
    assert render_problems(value, "input") == []
    assert available_tools(value) == ["local_shell", "web_search", "exec", "y"]
    assert "secret" not in json.dumps(value)
    assert value["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "[additional_tools: exec, y]"},
        {"role": "user", "content": "Go"},
        {
            "role": "assistant",
            "content": None,
            "redacted_thinking": [{"type": "redacted_thinking", "data": "[encrypted, 228 bytes]"}],
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "exec", "arguments": "ls"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "a.py"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c2",
                    "type": "function",
                    "function": {
                        "name": "local_shell",
                        "arguments": '{"type":"exec","command":["ls"]}',
                    },
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c2", "content": "b.py"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c3",
                    "type": "function",
                    "function": {"name": "see", "arguments": "{}"},
                    "namespace": "n",
                }
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "c3",
            "content": [
                {"type": "input_text", "text": "A picture:"},
                {"type": "text", "text": "[image/png, 16 bytes]"},
            ],
        },
        {
            "role": "assistant",
            "type": "compaction",
            "id": "cmp_1",
            "encrypted_content": "[encrypted, 3 bytes]",
        },
    ]


SOURCE = {"type": "base64", "media_type": "image/png", "data": PNG}
DOCUMENT = {"type": "document", "source": {**SOURCE, "media_type": "application/pdf", "data": PDF}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
FILE = {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}
INLINE = f"data:image/png;base64,{PNG}"
IMAGE_BY_URL = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}

# For each dialect, the parts of a message with media, and the parts that are recorded.
MEDIA: dict[str, tuple[str, list[Any], list[Any]]] = {
    "chat": (
        CHAT,
        [
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": INLINE, "detail": "high"}},
            {"type": "image_url", "image_url": "https://example.org/a.png"},
            AUDIO,
            FILE,
        ],
        [
            {"type": "text", "text": "Look"},
            {"type": "text", "text": "[image/png, 16 bytes]", "detail": "high"},
            IMAGE_BY_URL,
            {"type": "text", "text": "[audio/wav, 4 bytes]"},
            {"type": "text", "text": "[file, 9 bytes]", "filename": "a.pdf"},
        ],
    ),
    "messages": (
        MESSAGES,
        [
            {"type": "text", "text": "Look"},
            {"type": "image", "source": SOURCE},
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            {**DOCUMENT, "title": "Paper"},
            {"type": "container_upload", "file_id": "file_1"},
        ],
        [
            {"type": "text", "text": "Look"},
            {"type": "text", "text": "[image/png, 16 bytes]"},
            IMAGE_BY_URL,
            {"type": "text", "text": "[application/pdf, 9 bytes]", "title": "Paper"},
            {"type": "text", "text": "[container_upload, file_1]"},
        ],
    ),
    "responses": (
        RESPONSES,
        [
            {"type": "input_text", "text": "Look"},
            {"type": "input_image", "image_url": INLINE},
            {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": PDF},
            {"type": "input_file", "file_id": "file-1"},
            AUDIO,
        ],
        [
            {"type": "text", "text": "Look"},
            {"type": "text", "text": "[image/png, 16 bytes]"},
            {
                "type": "image_url",
                "image_url": {"url": "https://example.org/a.png", "detail": "low"},
            },
            {"type": "text", "text": "[file, 9 bytes]", "filename": "a.pdf"},
            {"type": "text", "text": "[file, file-1]"},
            {"type": "text", "text": "[audio/wav, 4 bytes]"},
        ],
    ),
}


@pytest.mark.parametrize("name", MEDIA)
def test_media_do_not_hide_the_text_of_a_message(name: str) -> None:
    path, parts, expected = MEDIA[name]
    member = "input" if path == RESPONSES else "messages"
    value = input_of(path, {member: [{"role": "user", "content": parts}]})
    assert value == [{"role": "user", "content": expected}]
    assert render_problems(value, "input") == []


@pytest.mark.parametrize("name", MEDIA)
def test_media_in_the_result_of_a_tool_are_rendered(name: str) -> None:
    path, parts, expected = MEDIA[name]
    results = {
        CHAT: {"messages": [{"role": "tool", "tool_call_id": "c", "content": parts}]},
        MESSAGES: {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "c", "content": parts}],
                }
            ]
        },
        RESPONSES: {"input": [{"type": "function_call_output", "call_id": "c", "output": parts}]},
    }
    value = input_of(path, results[path])
    assert [part["text"] for part in value[0]["content"] if "text" in part] == [
        part["text"] for part in expected if "text" in part
    ]
    assert (value[0]["role"], value[0]["tool_call_id"]) == ("tool", "c")
    assert render_problems(value, "input") == []


def test_a_system_prompt_with_media_is_rendered() -> None:
    value = input_of(
        MESSAGES, {"system": [{"type": "text", "text": "S"}, DOCUMENT], "messages": [TEXT_MESSAGE]}
    )
    assert render_problems(value, "input") == []


def test_an_audio_answer_is_rendered_by_its_transcript_or_its_size() -> None:
    audio = {"id": "a", "data": "UklGRg==", "expires_at": 1}
    for transcript, content in (("Hello", "Hello"), ("", "[audio, 4 bytes]")):
        message = {"role": "assistant", "audio": {**audio, "transcript": transcript}}
        output = output_of(CHAT, {"choices": [{"message": message}]})
        assert output["content"] == content
        assert output["output_audio"]["data"] == "[audio, 4 bytes]"
        assert render_problems(output, "output") == []
    # The next request refers to it.
    value = input_of(CHAT, {"messages": [{"role": "assistant", "audio": {"id": "a"}}]})
    assert value == [{"role": "assistant", "output_audio": {"id": "a"}}]


def test_calls_of_servers_own_tools_count_as_called() -> None:
    anthropic = output_of(
        MESSAGES,
        {
            "content": [
                {"type": "text", "text": "I search."},
                {
                    "type": "server_tool_use",
                    "id": "s",
                    "name": "web_search",
                    "input": {"query": "x"},
                },
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                {
                    "type": "mcp_tool_use",
                    "id": "m",
                    "name": "echo",
                    "input": {},
                    "server_name": "x",
                },
                {"type": "mcp_tool_result", "tool_use_id": "m", "content": "one"},
                {"type": "text", "text": "Found."},
            ]
        },
    )
    assert [message["role"] for message in anthropic] == [
        *("assistant", "tool", "assistant", "tool", "assistant")
    ]
    assert called_tools(anthropic) == ["web_search", "echo"]
    openai = output_of(
        RESPONSES,
        {
            "output": [
                {"type": "web_search_call", "id": "w", "action": {"query": "x"}},
                {"type": "mcp_call", "id": "m", "name": "roll", "arguments": "{}", "output": "6"},
            ]
        },
    )
    assert called_tools(openai) == ["web_search", "roll"]


# name: (path, members of a message that the provider would not accept)
ODD_MESSAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "a call with members of its own": (
        MESSAGES,
        {"content": [{"type": "tool_use", "id": 5, "call_id": "c", "arguments": {}}]},
    ),
    "a result without an id": (
        MESSAGES,
        {"content": [{"type": "tool_result", "role": 5, "content": "7"}]},
    ),
    "reserved members": (MESSAGES, {"content": "Hi", "audio": 5, "name": [], "tools": {}}),
    "blocks of no type": (MESSAGES, {"content": [{"type": 5, "x": 1}, {"type": None}, "Hi", 5]}),
    "redacted thinking without data": (MESSAGES, {"content": [{"type": "redacted_thinking"}]}),
    "a text that is null": (
        RESPONSES,
        {"content": [{"type": "input_text", "text": None}, {"type": "input_text", "text": "Hi"}]},
    ),
    "a content that is a number": (CHAT, {"content": 5}),
    "no role": (RESPONSES, {"type": "message", "role": None, "content": "Hi"}),
    "no role of another type": (RESPONSES, {"type": "x", "role": None, "audio": {}}),
    "an output without an id": (RESPONSES, {"type": "x_output", "output": "7"}),
    "thinking without a text": (
        RESPONSES,
        {"role": "assistant", "thinking": None, "refusal": "No"},
    ),
    "names that are none": (
        RESPONSES,
        {"type": "mcp_list_tools", "tools": [{"name": 5}], "name": 5},
    ),
}


@pytest.mark.parametrize("name", ODD_MESSAGES)
def test_an_odd_message_is_rendered(name: str) -> None:
    path, message = ODD_MESSAGES[name]
    member = "input" if path == RESPONSES else "messages"
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    others = [call] if path == RESPONSES else [TEXT_MESSAGE]
    body = {member: [{"role": "user", **message}, *others]}
    prompt = read_request(path, json.dumps(body).encode())
    assert render_problems(prompt.input, "input") == []
    assert prompt.notes == ()
    reply = {
        RESPONSES: {"output": body.get("input")},
        MESSAGES: {"content": message.get("content")},
        CHAT: {"choices": [{"message": {"role": "assistant", **message}}]},
    }
    assert render_problems(output_of(path, reply[path]), "output") == []


def test_thinking_is_shown_beside_members_without_content() -> None:
    """https://github.com/langfuse/langfuse/blob/v4.16.0/web/src/features/traces/fns/chatMessageUtils.ts"""
    thoughts = [{"type": "thinking", "content": "Hm"}]
    hidden = {"role": "assistant", "content": None, "thinking": thoughts, "refusal": "No."}
    assert renderable_message(hidden) == {**hidden, "content": ""}
    for shown in (
        {"role": "assistant", "content": None, "thinking": thoughts},
        {"role": "assistant", "content": None, "refusal": "No."},
        {**hidden, "tool_calls": [CALL]},
    ):
        assert renderable_message(shown) == shown
    reply = {"choices": [{"message": {"reasoning": "Hm", "refusal": "No."}}]}
    assert output_of(CHAT, reply) == {**hidden, "content": ""}
    part = {"type": "refusal", "refusal": "No."}
    items = [
        {"type": "reasoning", "summary": [{"text": "Hm"}]},
        {"type": "message", "role": "assistant", "content": [part]},
    ]
    assert output_of(RESPONSES, {"output": items}) == {**hidden, "content": ""}


def test_odd_messages_of_a_chat_request_are_rendered() -> None:
    messages = [
        {"role": "user", "content": ["a", {"type": "refusal", "refusal": "no"}, None]},
        {"role": "user", "content": 5, "name": 7},
        {"role": "assistant", "content": "x", "thinking": "Hm", "tools": "all"},
        {"role": "assistant", "tool_calls": {"function": {"name": "f", "arguments": {"a": 1}}}},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c", "type": "custom", "custom": {"name": "exec", "input": "ls"}},
                {"id": 1, "name": "g", "arguments": "{}", "index": None},
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "image", "data": PNG}]},
    ]
    value = input_of(CHAT, {"messages": messages})
    assert render_problems(value, "input") == []
    calls = [call["function"] for message in value for call in message.get("tool_calls", [])]
    assert calls == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "exec", "arguments": "ls"},
        {"name": "g", "arguments": "{}"},
    ]
    assert value[0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "no"},
        {"type": "text", "text": "null"},
    ]
    assert (value[2]["thinking"], value[2]["other_tools"]) == (
        [{"type": "thinking", "content": "Hm"}],
        "all",
    )


MEMBER = st.sampled_from(
    [
        *("content", "name", "tool_call_id", "tool_calls", "tools", "thinking", "audio", "type"),
        *(
            "redacted_thinking",
            "additional_kwargs",
            "text",
            "function",
            "id",
            "image_url",
            "source",
        ),
        *("signature", "data", "arguments", "parameters", "description", "url", "custom", "input"),
    ]
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["text", "image", "x", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBER, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(MEMBER, VALUE, max_size=4))
def test_any_message_with_a_role_is_rendered(members: dict[str, Any]) -> None:
    message = renderable_message({"role": "assistant", **members})
    shown_as_table = isinstance(message.get("content"), dict)
    problems = render_problems([message], "input")
    assert problems == [] or shown_as_table
    assert renderable_message(message) == message  # so that it may be applied twice


@pytest.mark.parametrize("model", ["gpt-4o-mini", "openai/gpt-5.4", "us.anthropic.claude-opus-4-6"])
def test_a_plain_answer_is_counted_as_its_text(model: str) -> None:
    """https://github.com/langfuse/langfuse/blob/v4.16.0/worker/src/features/tokenisation/usage.ts"""
    answer = {"role": "assistant", "content": "Hi"}
    assert countable_output(answer, model) == "Hi"
    assert render_problems("Hi", "output") == []
    for other in ({**answer, "refusal": "No"}, {**answer, "content": None}, [answer], None, "x"):
        assert countable_output(other, model) == other
    for uncounted in ("llama-3.3", None, "my-gpt"):
        assert countable_output(answer, uncounted) == answer
