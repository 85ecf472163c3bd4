"""Functions of the dialects without their types, for tests that pass literals of any shape to them
and look into the JSON that they return."""

from typing import Any

from dialects import (
    content_parts,
    errors,
    message_blocks,
    reasoning,
    registry,
    rendering,
    response_events,
    response_items,
    tools,
)

read_request: Any = registry.read_request
read_reply: Any = registry.read_reply
find_error: Any = errors.find_error
renderable_part: Any = content_parts.renderable_part
ContentBlocks: Any = message_blocks.ContentBlocks
to_chat_messages: Any = message_blocks.to_chat_messages
ResponseItems: Any = response_events.ResponseItems
items_to_messages: Any = response_items.items_to_messages
take_reasoning: Any = reasoning.take_reasoning
countable_output: Any = rendering.countable_output
flat_tools: Any = tools.flat_tools
renderable_tool_calls: Any = tools.renderable_tool_calls
renderable_tools: Any = tools.renderable_tools
without_credentials: Any = tools.without_credentials
