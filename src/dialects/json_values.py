"""JSON values of which nothing is known yet."""

from typing import Any


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def object_items(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; nothing if it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: Any) -> str | None:
    """The value if it is a string that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def drop_empty(members: dict[str, Any]) -> dict[str, Any]:
    """The members that hold something: whole replies spell out empty ones, streams leave them
    out."""
    return {name: value for name, value in members.items() if value not in (None, "", [], {})}
