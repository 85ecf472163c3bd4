"""Access to JSON values of unknown shape."""

from collections.abc import Mapping

from core.strict_json import JsonObject, JsonValue


def as_object(value: JsonValue) -> JsonObject:
    """The value if it is a JSON object, else an empty dict."""
    return value if isinstance(value, dict) else {}


def as_list(value: JsonValue) -> list[JsonValue]:
    """The value if it is a JSON list, else an empty list."""
    return value if isinstance(value, list) else []


def object_items(value: JsonValue) -> list[JsonObject]:
    """The items of a JSON list that are objects. Empty where the value is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: JsonValue) -> str | None:
    """The value if it is a string and not empty, else None."""
    return value if isinstance(value, str) and value else None


def drop_empty(members: Mapping[str, JsonValue]) -> JsonObject:
    """The members whose value is not None, "", [] or {}; 0 and False are kept.

    Whole replies contain empty members that streams leave out.
    """
    return {name: value for name, value in members.items() if value not in (None, "", [], {})}
