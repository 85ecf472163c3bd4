"""The items of an upload, and their grouping by size."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True)
class BatchItem:
    """What a server accepts or refuses separately: an ingestion event, or a span.

    `json_fragments` joined are its JSON text. They are several, so that long input and output need
    not be copied. `alternative` is sent instead where a server refuses the item as malformed.
    """

    id: str
    json_fragments: tuple[str, ...]
    alternative: "BatchItem | None" = None

    @property
    def json(self) -> str:
        """The whole JSON text."""
        return "".join(self.json_fragments)

    @property
    def size_bytes(self) -> int:
        """The size of the JSON text, in bytes of UTF-8."""
        return sum(
            len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
            for text in self.json_fragments
        )


Item = TypeVar("Item")


def group_by_size(
    items: Iterable[Item],
    size: Callable[[Item], int],
    limit_bytes: int,
    max_items: int | None = None,
) -> list[list[Item]]:
    """The items in their order, in groups of at most `limit_bytes` and, if given, `max_items`.

    `size` returns an item's size in bytes. An item larger than the limit is a group of its own.
    """
    groups: list[list[Item]] = []
    free_bytes = 0
    for item in items:
        item_bytes = size(item)
        if not groups or item_bytes > free_bytes or len(groups[-1]) == max_items:
            groups.append([])
            free_bytes = limit_bytes
        groups[-1].append(item)
        free_bytes -= item_bytes
    return groups
