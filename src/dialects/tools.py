"""Tools and tool calls in the forms that Langfuse renders, without credentials.

Langfuse requires a name for each tool, and for each call an id, a name and arguments as a text.
Where one is missing, it shows the whole observation as JSON.
https://github.com/langfuse/langfuse/blob/v4.16.0/packages/shared/src/utils/IORepresentation/chatML/types.ts
"""

import re

from core.json_values import as_list, as_object, as_text, drop_empty, object_items
from core.strict_json import JsonObject, JsonValue, to_json

# Members of a tool that may serve as its name. An MCP server has a label, a tool of the provider's
# own only a type.
_NAME_MEMBERS = ("name", "server_label", "mcp_server_name", "type")

# Types that Langfuse requires of members of a tool.
_DEFINITION_TYPES: dict[str, type[str] | type[JsonObject]] = {
    "description": str,
    "parameters": dict,
}

# Members of a call in OpenAI's own form.
_CALL_MEMBERS = frozenset({"id", "type", "function"})
_FUNCTION_MEMBERS = frozenset({"name", "arguments"})

_ARGUMENT_MEMBERS = ("arguments", "input", "args")


def tool_call(
    call_id: JsonValue, name: JsonValue, arguments: JsonValue, /, **members: JsonValue
) -> JsonObject:
    """A tool call in the form of OpenAI's chat: id, type "function", and a `function` of name and
    arguments, followed by the `members` that are not empty.

    A value that is not a string becomes its JSON text, and None becomes "".
    """
    function: JsonObject = {"name": _to_text(name), "arguments": _to_text(arguments)}
    call: JsonObject = {"id": _to_text(call_id), "type": "function", "function": function}
    return {**call, **drop_empty(members), **call}


def renderable_tool_calls(calls: JsonValue) -> list[JsonObject]:
    """Convert the `tool_calls` of a chat message, as `tool_call` does. `calls` is a list of calls,
    or a single one; a value that is not an object becomes the arguments of one.

    A call may have its name and arguments in `function`, in `custom`, or beside its id. Its other
    members are kept, except for `index`.
    """
    return [
        _renderable_tool_call(call if isinstance(call, dict) else {"arguments": call})
        for call in (calls if isinstance(calls, list) else [calls])
    ]


def _renderable_tool_call(call: JsonObject) -> JsonObject:
    function = call.get("function")
    if call.keys() == _CALL_MEMBERS and isinstance(function, dict):
        texts = [call["id"], call["type"], *function.values()]
        if function.keys() == _FUNCTION_MEMBERS and set(map(type, texts)) == {str}:
            return call  # nearly all are of this form
    container = next((n for n in ("function", "custom") if isinstance(call.get(n), dict)), None)
    members = as_object(call[container]) if container else call
    argument_name = next((n for n in _ARGUMENT_MEMBERS if members.get(n) is not None), "arguments")
    read = ("name", *_ARGUMENT_MEMBERS)
    unread = {name: value for name, value in members.items() if name not in read}
    converted = tool_call(call.get("id"), members.get("name"), members.get(argument_name))
    if container:
        converted["function"] = {**as_object(converted["function"]), **drop_empty(unread)}
        unread = call
    return converted | {
        name: value
        for name, value in unread.items()
        if name not in ("id", "type", "index", "function", "custom")
    }


def renderable_tools(tools: list[JsonValue], schema: str = "parameters") -> list[JsonObject]:
    """Convert the definitions of tools in a request, so that each has a name.

    `schema` is the name of the member that has the JSON schema of a function's parameters, such as
    "input_schema". A tool with that member gets the form of OpenAI's chat, in which a `function`
    has name, description and parameters. The tools of a namespace are listed like all others, with
    the member `namespace`: https://platform.openai.com/docs/guides/tools-tool-search
    """
    result: list[JsonObject] = []
    for tool in tools:
        members = as_object(tool)
        inner_tools = members.get("tools")
        if members.get("type") == "namespace" and isinstance(inner_tools, list):
            namespace = drop_empty({"namespace": members.get("name")})
            inner = renderable_tools(inner_tools, schema)
            result += [{**inner_tool, **namespace} for inner_tool in inner]
        else:
            result.append(_renderable_tool(tool, schema))
    return result


def flat_tools(tools: JsonValue, schema: str = "parameters") -> list[JsonObject]:
    """The same as `renderable_tools`, but with the members of a `function` beside the others, which
    Langfuse requires of the tools of a single message. Empty where `tools` is not a list."""
    return [
        drop_empty({**tool, "function": None, **as_object(tool.get("function"))})
        for tool in renderable_tools(tools if isinstance(tools, list) else [], schema)
    ]


def _renderable_tool(tool: JsonValue, schema: str) -> JsonObject:
    """Convert one tool that is not a namespace. See `renderable_tools`."""
    if not isinstance(tool, dict):
        return {"type": _to_text(tool), "name": _to_text(tool) or "tool"}
    name = next(filter(None, (as_text(tool.get(n)) for n in _NAME_MEMBERS)), "tool")
    function = tool.get("function")
    if isinstance(function, dict):
        return {**tool, "function": _definition(function, name)}
    rest = {n: value for n, value in tool.items() if n not in ("function", "custom")}
    custom = tool.get("custom")
    if isinstance(custom, dict):  # Langfuse knows the nested form of functions only
        return _definition({**rest, **custom}, name)
    if schema not in tool or not as_text(tool.get("name")):
        return _definition(rest, name)
    new_names = {"description": "description", schema: "parameters", "strict": "strict"}
    function = {new_names[n]: tool[n] for n in new_names if tool.get(n) is not None}
    other_members = {n: value for n, value in rest.items() if n not in ("name", *new_names)}
    return {**other_members, "type": "function", "function": _definition(function, name)}


def _definition(members: JsonObject, name: str) -> JsonObject:
    """The members of a tool's definition, with this name if they have none. A description or
    parameters of a type that Langfuse does not accept get the prefix "other_"."""
    result: JsonObject = {"name": as_text(members.get("name")) or name}
    for member, value in members.items():
        expected_type = _DEFINITION_TYPES.get(member)
        if member != "name":
            fits = value is None or expected_type is None or isinstance(value, expected_type)
            result[member if fits else f"other_{member}"] = value
    return result


def _to_text(value: JsonValue) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else to_json(value)


# Members of a tool or an MCP server that contain credentials.
_CREDENTIAL_MEMBERS = ("authorization", "authorization_token", "headers")

# Parts of the URL of an MCP server that may contain credentials: the user, and the query.
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/?#]*(?=@)|(?<=\?).+", re.DOTALL)


def without_credentials(body: JsonObject) -> JsonObject:
    """A copy of a request in which "[redacted]" replaces the credentials for remote (MCP) servers:
    authorization, headers, and user and query of the URL, of the items of `tools` and `mcp_servers`
    and of tools in an item of the `input` or in a namespace. It also replaces the secrets that the
    container of a tool sends to other servers.

    https://platform.openai.com/docs/guides/tools-connectors-mcp#authentication
    https://docs.anthropic.com/en/docs/agents-and-tools/mcp-connector
    https://developers.openai.com/api/docs/guides/tools-shell
    """
    result = dict(body)
    for name in ("tools", "mcp_servers"):
        items = as_list(body.get(name))
        if object_items(items):
            result[name] = [_without_credentials(item) for item in items]
    items = as_list(body.get("input"))
    if any("tools" in item for item in object_items(items)):
        result["input"] = [_without_nested_credentials(item) for item in items]
    return result


def _without_credentials(item: JsonValue) -> JsonValue:
    """A copy of a tool or a server without its credentials."""
    if not isinstance(item, dict):
        return item
    members = dict(as_object(_without_nested_credentials(item)))
    for name in ("environment", "container"):  # of a shell, of a code interpreter
        place = as_object(members.get(name))
        policy = as_object(place.get("network_policy"))
        if "domain_secrets" in policy:
            members[name] = {**place, "network_policy": {**policy, "domain_secrets": "[redacted]"}}
    for name in ("server_url", "url"):
        url = members.get(name)
        if isinstance(url, str):
            members[name] = _URL_CREDENTIALS.sub("[redacted]", url)
    return {n: "[redacted]" if n in _CREDENTIAL_MEMBERS and v else v for n, v in members.items()}


def _without_nested_credentials(item: JsonValue) -> JsonValue:
    """A copy of an object without the credentials of the tools in its member `tools`."""
    tools = as_object(item).get("tools")
    if not isinstance(item, dict) or not isinstance(tools, list):
        return item
    return {**item, "tools": [_without_credentials(tool) for tool in tools]}
