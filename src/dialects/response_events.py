"""Output items of OpenAI's Responses API, accumulated from the events of a stream.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from core.json_values import as_object, as_text, drop_empty, object_items
from core.limits import MAX_OPEN_ITEMS
from core.strict_json import JsonObject, JsonValue
from dialects.deltas import accumulate, finalize

# For each group of event types, such as `response.output_text.delta` and `.done`: the type of the
# item, the item's list, the type of the part in that list, and the part's member with the text.
_PART_EVENTS = {
    "output_text": ("message", "content", "output_text", "text"),
    "refusal": ("message", "content", "refusal", "refusal"),
    "reasoning_text": ("reasoning", "content", "reasoning_text", "text"),
    "reasoning_summary_text": ("reasoning", "summary", "summary_text", "text"),
    "reasoning": ("reasoning", "content", "reasoning_text", "text"),  # OpenRouter
    "audio.transcript": ("message", "content", "output_audio", "transcript"),
}

# For each group of event types that contain whole parts: the type of the item, and its list.
_WHOLE_PART_EVENTS = {
    "content_part": ("message", "content"),
    "reasoning_summary_part": ("reasoning", "summary"),
}

# For each group of event types: the type of the item, and its member with the text.
_MEMBER_EVENTS = {
    "function_call_arguments": ("function_call", "arguments"),
    "mcp_call_arguments": ("mcp_call", "arguments"),
    "custom_tool_call_input": ("custom_tool_call", "input"),
    "code_interpreter_call_code": ("code_interpreter_call", "code"),
}


class ResponseItems:
    """The output items of a streamed response.

    An item is added, changed by deltas, and done. Other servers leave out the indices, or the event
    that adds an item; a stream that is cut may have only the `done` event of a text or of the
    arguments of a call.
    """

    def __init__(self) -> None:
        self._items: list[tuple[int, JsonObject]] = []
        self._by_index: dict[int, JsonObject] = {}
        self._by_id: dict[str, JsonObject] = {}

    def add(self, event: JsonObject) -> None:
        """Add an event of an item. Events of other types change nothing."""
        _, _, kind = (as_text(event.get("type")) or "").partition("response.")
        group, _, state = kind.rpartition(".")
        if group == "output_item":
            self._set_item(event, as_object(event.get("item")), is_new=state == "added")
        elif group in _PART_EVENTS:
            item_type, list_name, part_type, member = _PART_EVENTS[group]
            part = _part_at(self._item_of(event, item_type), list_name, part_type, event)
            _add_text(part, member, event, state)
        elif group in _MEMBER_EVENTS:
            item_type, member = _MEMBER_EVENTS[group]
            item = self._item_of(event, item_type)
            item.update(drop_empty({"name": event.get("name")}))
            _add_text(item, member, event, state)
        elif group in _WHOLE_PART_EVENTS:
            item_type, list_name = _WHOLE_PART_EVENTS[group]
            whole = drop_empty(as_object(event.get("part")))
            item_type = "reasoning" if whole.get("type") == "reasoning_text" else item_type
            part = _part_at(self._item_of(event, item_type), list_name, whole.get("type"), event)
            part.update(whole)
        elif kind == "output_text.annotation.added":
            part = _part_at(self._item_of(event, "message"), "content", "output_text", event)
            accumulate(part, {"annotations": [event.get("annotation")]})
        elif kind == "image_generation_call.partial_image":
            # The whole image replaces it, unless the stream is cut before.
            item = self._item_of(event, "image_generation_call")
            item.update(drop_empty({"result": event.get("partial_image_b64")}))
        elif group == "apply_patch_call_operation_diff":
            operation = _object_in(self._item_of(event, "apply_patch_call"), "operation")
            _add_text(operation, "diff", event, state)
        elif group == "shell_call_command":
            index = str(event.get("command_index"))
            commands = _object_in(self._item_of(event, "shell_call"), "commands")
            _add_text(commands, index, {**event, index: event.get("command")}, state)
        elif kind == "shell_call_output_content.done":
            self._item_of(event, "shell_call_output")["output"] = event.get("output")

    def finish(self) -> list[JsonValue]:
        """The items in the form of a whole response, in the order of their index. An item without
        an index follows the one that was before it."""
        ordered = sorted(self._items, key=lambda entry: entry[0])
        return [_finished_item(item) for _, item in ordered if item]

    def _item_of(self, event: JsonObject, item_type: str) -> JsonObject:
        """The item of this type that an event belongs to. A new one where there is none."""
        known = self._known_item(event, item_type)
        if known is not None:
            return known
        new = {"type": item_type, "id": as_text(event.get("item_id"))}
        role = {"role": "assistant"} if item_type == "message" else {}
        return self._append(event, drop_empty(new) | role)

    def _set_item(self, event: JsonObject, item: JsonObject, is_new: bool) -> None:
        """Set the members of an item, which is sent when it is added and again when it is done.

        What deltas have accumulated is kept where the item's own member is empty. An item that is
        added with the index of another one, or with neither index nor id, is a new item.
        """
        item_id = as_text(item.get("id"))
        event = {**event, "item_id": item_id or event.get("item_id")}
        known = self._known_item(event, item.get("type"))
        if known is not None and is_new:
            ids = {item_id, as_text(known.get("id"))} - {None}
            is_other = len(ids) > 1 or (not item_id and _index_of(event) is None)
            known = None if is_other else known
        if known is None:
            known = self._append(event, {})
        known.update(without_blank_parts(item) if known else drop_empty(item))

    def _known_item(self, event: JsonObject, item_type: JsonValue) -> JsonObject | None:
        """The item of an event, by its id, else by its index, or where it has no index, the last
        item if one of the two has no id. None where that is of another type than `item_type`. All
        calls of tools count as one type."""
        item_id = as_text(event.get("item_id"))
        candidates = [self._by_id.get(item_id or "")]
        index = _index_of(event)
        if index is not None:
            candidates.append(self._by_index.get(index))
        elif self._items and not (item_id and self._items[-1][1].get("id")):
            candidates += [item for _, item in self._items[-1:] if item]
        for item in candidates:
            if item is not None and _general_type(item.get("type")) in (
                None,
                _general_type(item_type),
            ):
                return item
        return None

    def _append(self, event: JsonObject, item: JsonObject) -> JsonObject:
        """Append a new item, which is to be found by the event's index and id."""
        index = _index_of(event)
        if index is not None:
            self._by_index[index] = item
            position = index
        else:
            position = self._items[-1][0] if self._items else 0
        if item_id := as_text(event.get("item_id")):
            self._by_id[item_id] = item
        self._items.append((position, item))
        return item


def without_blank_parts(item: JsonObject) -> JsonObject:
    """The members of an item that are not empty, without lists whose parts have no text. Some
    servers repeat the parts of a streamed item without it."""
    parts = {name: object_items(item.get(name)) for name in ("content", "summary")}
    return {
        name: value
        for name, value in drop_empty(item).items()
        if not parts.get(name) or any(drop_empty(part).keys() - {"type"} for part in parts[name])
    }


def _object_in(item: JsonObject, name: str) -> JsonObject:
    """The object in an item's member, a new one where there is none."""
    value = item.get(name)
    if not isinstance(value, dict):
        value = item[name] = {}
    return value


def _index_of(event: JsonObject) -> int | None:
    index = event.get("output_index")
    return index if isinstance(index, int) else None


def _general_type(item_type: JsonValue) -> JsonValue:
    return "call" if isinstance(item_type, str) and item_type.endswith("_call") else item_type


def _add_text(members: JsonObject, name: str, event: JsonObject, state: str) -> None:
    """Add the delta of an event to a member, or set it to the whole text of a `done` event."""
    if state == "delta":
        accumulate(members, {name: event.get("delta")})
    elif as_text(event.get(name)):
        members[name] = event[name]


def _part_at(
    item: JsonObject, list_name: str, part_type: JsonValue, event: JsonObject
) -> JsonObject:
    """The part of an item's list that an event belongs to: by its index in the list, or where the
    event has none, the last part if it is of this type. A new part where there is none."""
    parts = item.get(list_name)
    if not isinstance(parts, list):
        parts = item[list_name] = []
    index = event.get("summary_index" if list_name == "summary" else "content_index")
    for position in reversed(range(max(len(parts) - MAX_OPEN_ITEMS, 0), len(parts))):
        part = parts[position]
        if not isinstance(part, dict):
            continue
        if index is None:
            if part.get("type") == part_type:
                return part
            break
        if part.get("index", position) == index:
            return part
    parts.append(new := drop_empty({"index": index, "type": part_type}))
    return new


def _finished_item(item: JsonObject) -> JsonObject:
    """An accumulated item in the form of a whole response: its strings are `str`, its parts have no
    index, and the commands of a shell are part of its action."""
    item = finalize(item)
    commands = item.get("commands")
    if isinstance(commands, dict):
        del item["commands"]
        action = as_object(item.get("action"))
        item["action"] = {**action, "commands": action.get("commands") or [*commands.values()]}
    for name in ("content", "summary"):
        parts = item.get(name)
        if isinstance(parts, list):
            item[name] = [
                {n: v for n, v in part.items() if n != "index"} if isinstance(part, dict) else part
                for part in parts
            ]
    return item
