"""Values as both of Langfuse's protocols write them."""

import functools
from collections.abc import Mapping
from datetime import UTC, datetime


def to_milliseconds(seconds: float) -> int:
    """A time in whole milliseconds, as Langfuse keeps it."""
    return round(seconds * 1000)


@functools.lru_cache(8)  # each is written several times
def to_iso_time(seconds: float | None) -> str | None:
    """A time as Langfuse reads it, which refuses one without an offset."""
    if seconds is None:
        return None
    date = datetime.fromtimestamp(to_milliseconds(seconds) / 1000, UTC)
    return date.isoformat(timespec="milliseconds")


def inclusive_usage_counts(usage: Mapping[str, int]) -> dict[str, int]:
    """The counts of input and output with all of their parts, and the total; empty without usage.

    Langfuse v2 and the OpenTelemetry conventions know only such sums.
    """
    if not usage:
        return {}
    sums = {
        side: sum(count for name, count in usage.items() if name.startswith(side))
        for side in ("input", "output")
    }
    return {**sums, "total": usage.get("total", sum(sums.values()))}
