"""The items of an upload, and their grouping by size."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True)
class BatchItem:
    """What a server accepts or refuses separately: an ingestion event, or an OTLP span.

    `id` identifies the item in the server's response. `json_fragments` joined are its JSON text.
    They are several, so that long input and output need not be copied. `alternative` is sent
    instead where a server refuses the item as malformed.
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
    """Divide items, in their order, into groups whose sizes add up to at most `limit_bytes`.

    `size` returns an item's size in bytes. An item larger than the limit is a group of its own.
    `max_items` limits the number of items in a group; None sets no limit.
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
