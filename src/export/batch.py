"""Items of an upload, and how they are grouped."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True)
class BatchItem:
    """A piece of a batch that a server may judge by itself: an ingestion event, or a span.

    `texts` together are its JSON: several, so that what is long in it need not be copied.
    `alternative` is sent in its place where a server refuses it.
    """

    id: str
    json_fragments: tuple[str, ...]
    alternative: "BatchItem | None" = None

    @property
    def json(self) -> str:
        """All of it."""
        return "".join(self.json_fragments)

    @property
    def size_bytes(self) -> int:
        """In bytes of UTF-8."""
        return sum(
            len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
            for text in self.json_fragments
        )


Item = TypeVar("Item")


def group_by_size(
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
