"""Tools and tool calls in OpenAI's nested form, which Langfuse renders, without credentials."""

from typing import Any

from core.strict_json import to_json
from dialects.json_values import object_items


def tool_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A tool call in OpenAI's form. Arguments that are not a string become JSON text."""
    arguments_text = arguments if isinstance(arguments, str) else to_json(arguments)
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments_text},
    }


def function_tool(tool: Any, schema: str) -> Any:
    """A function tool in OpenAI's form. A tool of another type is unchanged.

    `schema` is the name of the member that has the schema of its parameters; a tool without that
    member is not a function tool.
    """
    if not isinstance(tool, dict) or schema not in tool:
        return tool
    new_names = {
        "name": "name",
        "description": "description",
        schema: "parameters",
        "strict": "strict",
    }
    function = {new_names[name]: tool[name] for name in new_names if tool.get(name) is not None}
    other_members = {name: tool[name] for name in tool if name not in new_names}
    return {**other_members, "type": "function", "function": function}


# Members of a tool or an MCP server that contain credentials.
_CREDENTIAL_MEMBERS = ("authorization", "authorization_token", "headers")


def without_credentials(body: dict[str, Any]) -> dict[str, Any]:
    """A request without the credentials for the remote (MCP) servers in `tools` and `mcp_servers`.

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
