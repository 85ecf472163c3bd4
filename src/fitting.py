"""Values made to fit into what Langfuse takes, visibly and as valid JSON."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from redaction import to_json

# A cut goes back to the last blank within this many characters, so that it leaves no half of
# something, such as a key, that could no longer be known for what it is.
WORD = 300
SHORTEST_CUT = 100
Item = TypeVar("Item")


def fit(value: Any, limit: int, clean: Callable[[str], str] = str) -> Any:
    """The value, if its JSON text has at most `limit` bytes in UTF-8; else as much as fits.

    Long texts in it are cut first, with a note of their length at the end. Where there are so many
    that this does not help, the beginning of the JSON text takes the value's place. `clean` gets
    what is left of a text before the note is added.
    """
    text = to_json(value)
    if fits(text, limit):
        return value
    longest = limit // 2
    while longest >= SHORTEST_CUT:
        shorter = _shorten(value, longest, clean)
        if fits(to_json(shorter), limit):
            return shorter
        longest //= 4
    size = limit // 2
    while not fits(to_json(beginning := cut_text(text, size, clean)), limit) and size:
        size //= 2
    return beginning


def cut_text(text: str, length: int, clean: Callable[[str], str] = str) -> str:
    """A text of at most `length` characters as it is; of any other the beginning, with a note."""
    if len(text) <= length:
        return text
    blank = max(text.rfind(" ", length - WORD, length), text.rfind("\n", length - WORD, length))
    kept = blank if blank > length // 2 else length
    return f"{clean(text[:kept])}… [cut: {kept} of {len(text)} characters]"


def _shorten(value: Any, length: int, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return cut_text(value, length, clean)
    if isinstance(value, list):
        return [_shorten(item, length, clean) for item in value]
    if isinstance(value, dict):
        return {
            cut_text(name, length, clean): _shorten(item, length, clean)
            for name, item in value.items()
        }
    return value


def fits(text: str, limit: int) -> bool:
    """Whether a text has at most `limit` bytes in UTF-8."""
    # Nearly every text is so short, or so long, that its bytes need not be counted.
    if 4 * len(text) <= limit:
        return True
    return len(text) <= limit and len(text.encode("utf-8", "replace")) <= limit


def grouped(
    items: Iterable[Item], size: Callable[[Item], int], limit: int, most: int | None = None
) -> list[list[Item]]:
    """The items in their order, in groups of at most `limit` bytes and, if given, `most` items.

    An item that is larger than the limit makes a group of its own.
    """
    groups: list[list[Item]] = []
    room = 0
    for item in items:
        taken = size(item)
        if not groups or taken > room or len(groups[-1]) == most:
            groups.append([])
            room = limit
        groups[-1].append(item)
        room -= taken
    return groups
