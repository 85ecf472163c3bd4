"""Tools and tool calls in OpenAI's nested form, which Langfuse renders, without credentials."""

from typing import Any

from core.strict_json import to_json
from dialects.json_values import object_items


def tool_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A tool call in the form of OpenAI's chat: id, type "function", and a `function` of name and
    arguments. Arguments that are not a string become their JSON text."""
    arguments_text = arguments if isinstance(arguments, str) else to_json(arguments)
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments_text},
    }


def function_tool(tool: Any, schema: str) -> Any:
    """Convert the definition of a function tool to the form of OpenAI's chat, in which a `function`
    has name, description and parameters. A tool of another type is unchanged.

    `schema` is the name of the tool's member with the JSON schema of its parameters, such as
    "input_schema". A tool without that member is not a function tool.
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
    """A copy of a request in which "[redacted]" replaces the credentials for remote (MCP) servers:
    authorization and headers of the items of `tools` and `mcp_servers`.

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
