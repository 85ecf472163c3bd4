"""Tools and their calls in OpenAI's nested shape, which Langfuse renders."""

from typing import Any

from core.strict_json import to_json
from dialects.json_values import object_items


def tool_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A call of a tool; arguments that are no text become JSON."""
    written = arguments if isinstance(arguments, str) else to_json(arguments)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": written}}


def function_tool(tool: Any, schema: str) -> Any:
    """A function tool, whose parameters are its member `schema`; a tool of another kind as it
    is."""
    if not isinstance(tool, dict) or schema not in tool:
        return tool
    names = {"name": "name", "description": "description", schema: "parameters", "strict": "strict"}
    function = {names[name]: tool[name] for name in names if tool.get(name) is not None}
    rest = {name: tool[name] for name in tool if name not in names}
    return {**rest, "type": "function", "function": function}


_CREDENTIAL_MEMBERS = ("authorization", "authorization_token", "headers")


def without_credentials(body: dict[str, Any]) -> dict[str, Any]:
    """A request without what logs in to the remote (MCP) servers that it names.

    https://platform.openai.com/docs/guides/tools-connectors-mcp#authentication
    https://docs.anthropic.com/en/docs/agents-and-tools/mcp-connector
    """
    lists = {name: body[name] for name in ("tools", "mcp_servers") if object_items(body.get(name))}
    return body | {
        name: [
            {n: "[redacted]" if n in _CREDENTIAL_MEMBERS and v else v for n, v in item.items()}
            if isinstance(item, dict)
            else item
            for item in items
        ]
        for name, items in lists.items()
    }
