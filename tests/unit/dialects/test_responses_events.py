"""Tests of the items of Responses streams whose events are incomplete or odd."""

from typing import Any

import pytest

from dialects import responses
from dialects.responses import read_reply
from tests.unit.dialects.untyped import ResponseItems, items_to_messages


def event(kind: str, **members: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **members}


def message(*texts: str) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text} for text in texts]
    return {"type": "message", "role": "assistant", "content": parts}


CALL = {"type": "function_call", "id": "f1", "call_id": "c1", "name": "look"}

SHELL = {"type": "shell_call", "id": "s", "call_id": "c1"}
PATCH = {"type": "apply_patch_call", "id": "p", "call_id": "c1"}

# name: (events, items)
EVENTS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "deltas without any index": (
        [event("output_text.delta", delta="a"), event("output_text.delta", delta="b")],
        [message("ab")],
    ),
    "deltas by the id of their item": (
        [
            event("output_text.delta", item_id="m1", delta="a"),
            event("output_text.delta", item_id="m2", delta="x"),
            event("output_text.delta", item_id="m1", delta="b"),
        ],
        [{**message("ab"), "id": "m1"}, {**message("x"), "id": "m2"}],
    ),
    "another type without any index": (
        [
            event("reasoning_text.delta", delta="a"),
            event("output_text.delta", delta="b"),
            event("refusal.delta", delta="c"),
        ],
        [
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "a"}]},
            {
                **message("b"),
                "content": [
                    {"type": "output_text", "text": "b"},
                    {"type": "refusal", "refusal": "c"},
                ],
            },
        ],
    ),
    "a text that is whole in its last event": (
        [event("output_text.done", output_index=0, content_index=0, text="ab")],
        [message("ab")],
    ),
    "a text whose last event repeats it": (
        [
            event("output_text.delta", output_index=0, content_index=0, delta="a"),
            event("output_text.delta", output_index=0, content_index=1, delta="c"),
            event("output_text.done", output_index=0, content_index=0, text="ab"),
        ],
        [message("ab", "c")],
    ),
    "a part that is whole": (
        [
            event(
                "content_part.added", output_index=0, content_index=0, part={"type": "output_text"}
            ),
            event(
                "content_part.done",
                output_index=0,
                content_index=0,
                part={"type": "output_text", "text": "ab", "annotations": []},
            ),
        ],
        [message("ab")],
    ),
    "a part of the reasoning that is whole": (
        [
            event(
                "reasoning_summary_part.done",
                item_id="r",
                summary_index=0,
                part={"type": "summary_text", "text": "a"},
            ),
            event("reasoning_summary_text.done", item_id="r", summary_index=1, text="b"),
            event("content_part.done", item_id="r", part={"type": "reasoning_text", "text": "c"}),
        ],
        [
            {
                "type": "reasoning",
                "id": "r",
                "summary": [
                    {"type": "summary_text", "text": "a"},
                    {"type": "summary_text", "text": "b"},
                ],
                "content": [{"type": "reasoning_text", "text": "c"}],
            }
        ],
    ),
    "arguments in their last event": (
        [
            event("output_item.added", output_index=0, item={**CALL, "arguments": ""}),
            event("function_call_arguments.done", output_index=0, arguments="{}"),
        ],
        [{**CALL, "arguments": "{}"}],
    ),
    "an item that is added after its deltas": (
        [
            event("function_call_arguments.delta", output_index=0, delta="{}"),
            event("output_item.added", output_index=0, item={**CALL, "arguments": ""}),
        ],
        [{**CALL, "arguments": "{}"}],
    ),
    "an item that is done without what its deltas had": (
        [
            event("output_item.added", output_index=0, item={**CALL, "arguments": ""}),
            event("function_call_arguments.delta", output_index=0, delta="{}"),
            event("output_item.done", output_index=0, item={**CALL, "arguments": ""}),
        ],
        [{**CALL, "arguments": "{}"}],
    ),
    "an item with another id when it is done": (
        [
            event("output_item.added", output_index=0, item={**CALL, "id": "x"}),
            event("output_item.done", output_index=0, item={**CALL, "arguments": "{}"}),
        ],
        [{**CALL, "arguments": "{}"}],
    ),
    "items of one index": (
        [
            event("output_item.added", output_index=0, item={**CALL, "id": "x", "call_id": "c0"}),
            event("function_call_arguments.delta", output_index=0, item_id="x", delta="1"),
            event("output_item.added", output_index=0, item=CALL),
            event("function_call_arguments.delta", output_index=0, item_id="f1", delta="2"),
            event("output_text.delta", output_index=0, delta="a"),
        ],
        [
            {**CALL, "id": "x", "call_id": "c0", "arguments": "1"},
            {**CALL, "arguments": "2"},
            message("a"),
        ],
    ),
    "an image that is not finished": (
        [event("image_generation_call.partial_image", output_index=0, partial_image_b64="AAAA")],
        [{"type": "image_generation_call", "result": "AAAA"}],
    ),
    "an annotation": (
        [
            event("output_text.delta", delta="a"),
            event("output_text.annotation.added", annotation={"url": "u"}),
        ],
        [
            {
                **message("a"),
                "content": [{"type": "output_text", "text": "a", "annotations": [{"url": "u"}]}],
            }
        ],
    ),
    "an item without an id, and deltas with one": (
        [
            event("output_item.added", item={**CALL, "id": None}),
            event("function_call_arguments.delta", item_id="f1", delta="{"),
            event("function_call_arguments.delta", item_id="f1", delta="}"),
        ],
        [{"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}],
    ),
    "items without ids and indices": (
        [
            event("output_item.added", item=message()),
            event("output_text.delta", item_id=None, delta="a"),
            event("output_item.done", item=message("a")),
            event("output_item.added", item=message()),
            event("output_text.delta", delta="b"),
            event("output_item.done", item=message("b")),
        ],
        [message("a"), message("b")],
    ),
    "malformed events": (
        [
            {"type": None},
            {"type": "keepalive"},
            event("output_item.added", item=None),
            event("output_text.delta", output_index="x", content_index=[], delta=None),
            event("content_part.done", part="x", item_id=5),
            event("in_progress"),
        ],
        [{**message(), "content": [{"type": "output_text"}, {}]}],
    ),
    "commands of a shell": (
        [
            event("output_item.added", output_index=0, item={**SHELL, "action": {"commands": []}}),
            event("shell_call_command.added", output_index=0, command_index=0, command=""),
            event("shell_call_command.delta", output_index=0, command_index=0, delta="l"),
            event("shell_call_command.delta", output_index=0, command_index=1, delta="pw"),
            event("shell_call_command.delta", output_index=0, command_index=0, delta="s"),
            event("shell_call_command.done", output_index=0, command_index=1, command="pwd"),
        ],
        [{**SHELL, "action": {"commands": ["ls", "pwd"]}}],
    ),
    "the output of a shell": (
        [event("shell_call_output_content.done", item_id="o", output=[{"stdout": "a"}])],
        [{"type": "shell_call_output", "id": "o", "output": [{"stdout": "a"}]}],
    ),
    "a patch": (
        [
            event("output_item.added", output_index=0, item={**PATCH, "operation": {"diff": ""}}),
            event("apply_patch_call_operation_diff.delta", output_index=0, delta="-a"),
            event("apply_patch_call_operation_diff.delta", output_index=0, delta="+b"),
        ],
        [{**PATCH, "operation": {"diff": "-a+b"}}],
    ),
    "reasoning of OpenRouter": (
        [event("reasoning.delta", item_id="r", delta="a"), event("reasoning.delta", delta="b")],
        [{"type": "reasoning", "id": "r", "content": [{"type": "reasoning_text", "text": "ab"}]}],
    ),
    "the transcript of audio": (
        [event("audio.transcript.delta", delta="a"), event("audio.transcript.delta", delta="b")],
        [{**message(), "content": [{"type": "output_audio", "transcript": "ab"}]}],
    ),
    "an item that is done without its text": (
        [
            event("output_text.delta", output_index=0, delta="a"),
            event("output_item.done", output_index=0, item={**message(""), "status": "completed"}),
        ],
        [{**message("a"), "status": "completed"}],
    ),
    "malformed events of a shell": (
        [
            event("output_item.added", output_index=0, item={**SHELL, "action": 5, "commands": 5}),
            event("shell_call_command.delta", output_index=0, command_index={}, delta=5),
            event("apply_patch_call_operation_diff.done", output_index=1, diff=[1]),
            event("shell_call_output_content.done", output_index=2, output=5),
        ],
        [
            {**SHELL, "action": {"commands": [5]}},
            {"type": "apply_patch_call", "operation": {}},
            {"type": "shell_call_output", "output": 5},
        ],
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_no_item_is_lost(name: str) -> None:
    events, expected = EVENTS[name]
    items = ResponseItems()
    for each in events:
        items.add(each)
    assert items.finish() == expected


def test_many_parts_are_read_in_linear_time() -> None:
    items = ResponseItems()
    for index in range(20_000):
        items.add(event("output_text.delta", output_index=0, content_index=index, delta="a"))
        items.add(event("output_text.delta", output_index=0, content_index=index, delta="b"))
    [item] = items.finish()
    assert [part["text"] for part in item["content"]] == ["ab"] * 20_000


def test_reasoning_without_a_text_is_no_message() -> None:
    """OpenAI sends such items between searches where nothing is stored.
    https://platform.openai.com/docs/guides/reasoning#encrypted-reasoning-items"""
    empty = {"type": "reasoning", "summary": []}
    sealed = {**empty, "encrypted_content": "gAAAAA"}
    assert items_to_messages([empty]) == []
    redacted = [{"type": "redacted_thinking", "data": "[encrypted, 4 bytes]"}]
    assert items_to_messages([empty, sealed, message("a")]) == [
        {"role": "assistant", "content": "a", "redacted_thinking": redacted}
    ]
    assert items_to_messages([sealed]) == [
        {"role": "assistant", "content": None, "redacted_thinking": redacted}
    ]
    summary = {**sealed, "summary": [{"type": "summary_text", "text": "Hm"}]}
    assert items_to_messages([summary]) == [
        {"role": "assistant", "content": None, "thinking": [{"type": "thinking", "content": "Hm"}]}
    ]


@pytest.mark.parametrize(
    "members",
    [
        {"content": "Hm"},
        {"content": ["Hm"], "summary": []},
        {"summary": "Hm"},
        {"summary": ["Hm", None, 5]},
        {"content": {"type": "reasoning_text", "text": "Hm"}},
    ],
)
def test_reasoning_in_texts_is_thinking(members: dict[str, Any]) -> None:
    assert items_to_messages([{"type": "reasoning", **members}, message("a")]) == [
        {"role": "assistant", "content": "a", "thinking": [{"type": "thinking", "content": "Hm"}]}
    ]


def test_an_empty_message_after_others_is_left_out() -> None:
    """The stream is cut after the item was added, or the model wrote nothing after its calls."""
    empty = {"type": "message", "role": "assistant", "status": "in_progress", "content": []}
    call = {**CALL, "arguments": "{}"}
    assert len(items_to_messages([call, empty, message("")])) == 1
    assert len(items_to_messages([call, empty, call])[0]["tool_calls"]) == 2
    assert items_to_messages([empty]) == [{"role": "assistant", "content": None}]


def test_messages_of_two_phases_stay_apart() -> None:
    items = [{**message(text), "phase": text} for text in ("commentary", "final_answer")]
    assert items_to_messages(items) == [
        {"role": "assistant", "content": text, "phase": text}
        for text in ("commentary", "final_answer")
    ]


# https://platform.openai.com/docs/api-reference/responses/object
CALLS: dict[str, tuple[dict[str, Any], str, str, Any]] = {
    "web search": (
        {
            "type": "web_search_call",
            "action": {"query": "x", "sources": [{"type": "url", "url": "https://a"}]},
        },
        "web_search",
        '{"query":"x"}',
        "https://a",
    ),
    "file search": (
        {"type": "file_search_call", "queries": ["x"], "results": [{"file_id": "f", "text": "a"}]},
        "file_search",
        '{"queries":["x"]}',
        [{"type": "text", "text": "a", "file_id": "f"}],
    ),
    "code interpreter": (
        {
            "type": "code_interpreter_call",
            "code": "1+1",
            "outputs": [{"type": "logs", "logs": "2"}],
        },
        "code_interpreter",
        '{"code":"1+1"}',
        "2",
    ),
    "image generation": (
        {
            "type": "image_generation_call",
            "result": "iVBORw0KGgoAAAANSUhEUg==",
            "output_format": "png",
            "revised_prompt": "a cat",
        },
        "image_generation",
        '{"output_format":"png","revised_prompt":"a cat"}',
        "[image/png, 16 bytes]",
    ),
    "MCP": (
        {"type": "mcp_call", "server_label": "s", "name": "roll", "arguments": "{}", "output": "6"},
        "roll",
        "{}",
        "6",
    ),
    "shell": (
        {"type": "shell_call", "action": {"commands": ["ls"]}},
        "shell",
        '{"commands":["ls"]}',
        None,
    ),
    "patch": (
        {"type": "apply_patch_call", "operation": {"type": "update_file"}},
        "apply_patch",
        '{"operation":{"type":"update_file"}}',
        None,
    ),
    "of tomorrow": (
        {"type": "x_call", "y": 1, "result": {"z": 2}},
        "x",
        '{"y":1}',
        '[part: {"z":2}]',
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_call_of_a_built_in_tool_is_a_tool_call(name: str) -> None:
    item, tool_name, arguments, result = CALLS[name]
    call, *results = items_to_messages([{"id": "i", "status": "completed", **item}])
    [tool_call] = call["tool_calls"]
    assert tool_call["id"] == "i"
    assert tool_call["function"] == {"name": tool_name, "arguments": arguments}
    assert [answer["content"] for answer in results] == ([] if result is None else [result])
    assert all((a["role"], a["tool_call_id"]) == ("tool", "i") for a in results)


@pytest.mark.parametrize(
    ("output", "content"),
    [
        ("7", "7"),
        ([{"stdout": "a", "stderr": "", "outcome": {"type": "exit"}}],
         [{"type": "text", "text": "a", "outcome": {"type": "exit"}}]),
        ({"type": "computer_screenshot", "image_url": "https://a/b.png"},
         [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]),
        (None, None),
    ],
)  # fmt: skip
def test_the_output_of_a_tool_is_a_message(output: Any, content: Any) -> None:
    item = {"type": "x_call_output", "call_id": "c", "output": output}
    assert items_to_messages([item]) == [{"role": "tool", "tool_call_id": "c", "content": content}]


def test_facts_beside_the_output_of_a_tool_are_kept() -> None:
    patch = {"type": "apply_patch_call_output", "id": "i", "call_id": "c", "output": "No file."}
    answer = {"role": "tool", "tool_call_id": "c", "content": "No file."}
    assert items_to_messages([{**patch, "status": "failed"}]) == [{"status": "failed", **answer}]
    assert items_to_messages([{**patch, "status": "completed", "x": None}]) == [answer]


def test_the_approval_of_a_call_is_the_users() -> None:
    item = {"type": "mcp_approval_response", "approve": True, "approval_request_id": "r"}
    assert items_to_messages([item]) == [{**item, "role": "user"}]


@pytest.mark.parametrize("output", [[], [message("")], [message("a")]])
def test_items_that_the_last_event_lacks_are_kept(output: list[Any]) -> None:
    items = [message("a"), {**CALL, "arguments": "{}"}]
    done = [event("output_item.done", output_index=i, item=item) for i, item in enumerate(items)]
    last = event("completed", response={"status": "completed", "output": output})
    assert responses.fold([*done, last])["output"] == items


def test_a_response_that_is_one_event_is_read() -> None:
    reply = {"object": "response", "model": "m", "status": "completed", "output": [message("a")]}
    assert responses.fold([reply]) == reply


def test_an_output_that_is_null_is_none() -> None:
    completion = read_reply({"object": "response", "status": "queued", "output": None})
    assert (completion.output, completion.notes) == (None, ())


def test_what_tools_have_used_and_filters_that_struck_are_metadata() -> None:
    """https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter-annotations"""
    used = {"input_tokens": 0, "output_tokens": 272, "output_tokens_details": {"image_tokens": 272}}
    unused = {"num_requests": 0, "details": {"x": 0}}
    struck = {"filtered": True, "severity": "high"}
    results = {"hate": struck, "sexual": {"filtered": False}}
    reply = {
        "output": [message("a")],
        "tool_usage": {"image_gen": used, "web_search": unused, "x": None},
        "content_filters": [{"blocked": True, "content_filter_results": results}, None],
    }
    assert read_reply(reply).metadata == {
        "tool_usage": {"image_gen": used},
        "content_filter": {"hate": struck},
    }


def test_many_calls_are_merged_in_linear_time() -> None:
    [merged] = items_to_messages([{**CALL, "arguments": "{}"}] * 50_000)
    assert len(merged["tool_calls"]) == 50_000


def test_tools_that_a_server_lists_are_available() -> None:
    tools = [{"name": "roll", "description": None, "input_schema": {"type": "object"}}]
    item = {"id": "l", "type": "mcp_list_tools", "server_label": "dice", "tools": tools}
    assert items_to_messages([item]) == [
        {
            "role": "assistant",
            "content": "[mcp_list_tools, dice: roll]",
            "type": "mcp_list_tools",
            "server_label": "dice",
            "tools": [{"type": "function", "name": "roll", "parameters": {"type": "object"}}],
        }
    ]


def test_an_empty_item_in_the_last_event_does_not_replace_what_came_before() -> None:
    empty = {"id": "m", "type": "message", "role": "assistant", "content": []}
    deltas = [event("output_text.delta", item_id="m", delta="ab")]
    for last_output, content in (([], "ab"), ([empty], "ab"), ([message("whole")], "whole")):
        last = event("completed", response={"status": "completed", "output": last_output})
        output = read_reply(responses.fold([*deltas, last])).output
        assert output == {"role": "assistant", "content": content}
