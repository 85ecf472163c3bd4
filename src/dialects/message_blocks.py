"""Content blocks of Anthropic's messages: accumulated from the events of a stream, and converted to
messages in the form of OpenAI's chat.

https://docs.anthropic.com/en/docs/build-with-claude/streaming
https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool
"""

from contextlib import suppress

from core import strict_json
from core.json_values import as_object, as_text, drop_empty, object_items
from core.strict_json import JsonObject, JsonValue, to_json
from dialects.content_parts import joined_content, renderable_part, renderable_parts
from dialects.deltas import accumulate, finalize
from dialects.rendering import renderable_message, thinking_part
from dialects.tools import tool_call

# For each member that only one kind of block has in its deltas, the type of that block. Citations
# come first, since their deltas have no text.
_BLOCK_TYPES = {
    "citation": "text",
    "text": "text",
    "thinking": "thinking",
    "signature": "thinking",
    "partial_json": "tool_use",
}

# Types of blocks that a server may start again for each of their tokens.
_RESTARTED_TYPES = ("text", "thinking")


class ContentBlocks:
    """The content blocks of a streamed message.

    Each block has an index of its own, and is started, continued by deltas, and stopped. Other
    servers do not keep to that: llama.cpp starts a block for each token, Ollama starts a second
    block without stopping the first, some proxies number all blocks 0, LiteLLM sends thoughts
    inside of a text block, and vLLM sends a delta before its block is started.
    """

    def __init__(self) -> None:
        self._blocks: list[tuple[int, JsonObject]] = []
        # The last block of each index, until it is stopped.
        self._open: dict[int, JsonObject] = {}
        self._last_index = 0

    def add(self, event: JsonObject) -> None:
        """Add an event of a block: its start, a delta, or its stop. Others change nothing."""
        index = event.get("index")
        index = index if isinstance(index, int) else self._last_index
        self._last_index = index
        event_type = event.get("type")
        if event_type == "content_block_start":
            self._start(index, as_object(event.get("content_block")))
        elif event_type == "content_block_delta":
            self._continue(index, as_object(event.get("delta")))
        elif event_type == "content_block_stop":
            self._open.pop(index, None)

    def finish(self) -> list[JsonValue]:
        """The blocks in the form of a whole reply, in the order of their index, and where they have
        the same, in the order in which they appeared."""
        ordered = sorted(self._blocks, key=lambda entry: entry[0])
        return [_finished_block(block) for _, block in ordered]

    def _start(self, index: int, start: JsonObject) -> None:
        """Start a block, or continue the open one where `start` is a repeated start of it."""
        block = self._open.get(index)
        same_type = block is not None and block.get("type") == start.get("type")
        if block is None or not same_type or not _is_restart(block, start):
            self._append(index, dict(start))
        else:
            accumulate(
                block, {name: start[name] for name in start if name not in ("input", "type")}
            )

    def _continue(self, index: int, delta: JsonObject) -> None:
        """Add a delta to the open block of its index, or to a new one where that block is of
        another type."""
        expected = next((_BLOCK_TYPES[name] for name in _BLOCK_TYPES if name in delta), None)
        block = self._open.get(index)
        if block is None or (expected and not _is_of_type(block, expected)):
            new_type = expected or (as_text(delta.get("type")) or "").removesuffix("_delta")
            block = self._append(index, drop_empty({"type": new_type}))
        if "citation" in delta:
            accumulate(block, {"citations": [delta["citation"]]})
        else:
            accumulate(block, {name: delta[name] for name in delta if name != "type"})

    def _append(self, index: int, block: JsonObject) -> JsonObject:
        self._blocks.append((index, block))
        self._open[index] = block
        return block


def _is_restart(block: JsonObject, start: JsonObject) -> bool:
    """Whether a start event repeats the start of an open block of the same type. A block with an
    id is repeated with that id."""
    if "id" in start or "id" in block:
        return start.get("id") == block.get("id")
    return block.get("type") in _RESTARTED_TYPES


def _is_of_type(block: JsonObject, expected: str) -> bool:
    """Whether deltas of a type of block can belong to this one. `server_tool_use` and others are
    kinds of "tool_use"; a block of an unknown type may have any deltas."""
    block_type = str(block.get("type"))
    if block_type.endswith("tool_use"):
        return expected == "tool_use"
    return block_type == expected or block_type not in ("text", "thinking")


def _finished_block(block: JsonObject) -> JsonObject:
    """An accumulated block in the form of a whole reply: its strings are `str`, and the `input` of
    a tool call is the value of its `partial_json`. Where that JSON is cut, it is the text."""
    block = finalize(block)
    input_json = block.pop("partial_json", None)
    if input_json:
        block["input"] = input_json
    if isinstance(input_json, str) and input_json:
        with suppress(ValueError):  # the stream was cut within the JSON
            block["input"] = strict_json.parse(input_json)
    return block


def to_chat_messages(message: JsonValue) -> list[JsonValue]:
    """Convert an Anthropic message to one or more in the form of OpenAI's chat, in the order of its
    blocks.

    Each result of a tool becomes a message of role "tool", whether the client or the provider ran
    the tool. The other blocks stay in messages of the original role. A message whose content is not
    a list of blocks keeps it as it is.
    """
    members = as_object(message)
    content = members.get("content")
    if not isinstance(content, list):
        return [renderable_message(message)]
    messages: list[JsonValue] = []
    blocks: list[JsonValue] = []
    for block in content:
        if _block_type(block).endswith("tool_result"):
            if blocks:
                messages.append(_to_chat_message(members, blocks))
                blocks = []
            messages.append(_tool_message(as_object(block)))
        else:
            blocks.append(block)
    is_empty = all(drop_empty(as_object(block)) == {"type": "text"} for block in blocks)
    if not is_empty or not messages:
        messages.append(_to_chat_message(members, blocks) if blocks else message)
    return [renderable_message(chat_message) for chat_message in messages]


def _block_type(block: JsonValue) -> str:
    return as_text(as_object(block).get("type")) or ""


def _tool_message(block: JsonObject) -> JsonObject:
    """The result of a tool as a message of role "tool". Members such as `is_error` are kept."""
    content: JsonValue = block.get("content")
    if isinstance(content, list | dict):
        content = [*renderable_parts(content)]
    rest = {n: v for n, v in block.items() if n not in ("type", "tool_use_id", "content")}
    answer: JsonObject = {
        "role": "tool",
        "tool_call_id": block.get("tool_use_id"),
        "content": content,
    }
    return {**answer, **rest, **answer}


def _to_chat_message(message: JsonObject, blocks: list[JsonValue]) -> JsonObject:
    """Convert a message whose content is these blocks, none of them a tool's result.

    Thinking and tool calls become members beside the content, the provider's own tools included.
    Where such a tool has called a tool of the client, and waits for its result, the call of the
    provider's tool is a member `server_tool_use`: the tool calls of a message without results are
    those that the client answers.
    """
    separate: dict[str, list[JsonValue]] = {
        name: [] for name in ("thinking", "redacted_thinking", "tool_calls", "server_tool_use")
    }
    callers = {
        as_text(as_object(block.get("caller")).get("tool_id"))
        for block in object_items(blocks)
        if block.get("type") == "tool_use"  # a call of the provider's own tool is answered here
    }
    content: list[JsonValue] = []
    for block in blocks:
        members, block_type = as_object(block), _block_type(block)
        if block_type == "thinking":
            separate["thinking"].append(thinking_part(members.get("thinking"), members))
        elif block_type == "redacted_thinking":
            separate["redacted_thinking"].append(block)
        elif block_type == "server_tool_use" and as_text(members.get("id")) in callers - {None}:
            separate["server_tool_use"].append(block)
        elif block_type.endswith("tool_use"):
            separate["tool_calls"].append(_tool_call(members))
        elif block_type == "text":
            content.append(renderable_part(drop_empty(members)))
        else:
            content.append(renderable_part(block))
    return {**message, "content": joined_content(content), **drop_empty(separate)}


def _tool_call(block: JsonObject) -> JsonObject:
    """The call of a tool, with its further members, such as `caller` or `server_name`."""
    tool_input = block.get("input")
    arguments = tool_input if isinstance(tool_input, str) else to_json(tool_input or {})
    rest = {n: v for n, v in block.items() if n not in ("type", "id", "name", "input")}
    return tool_call(block.get("id"), block.get("name"), arguments, **rest)
