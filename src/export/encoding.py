"""Encoding of times and token counts, which both of Langfuse's protocols need."""

import functools
from collections.abc import Mapping
from datetime import UTC, datetime


def to_milliseconds(seconds: float) -> int:
    """Seconds as whole milliseconds, the precision with which Langfuse stores times."""
    return round(seconds * 1000)


@functools.lru_cache(8)  # one observation has the same times in several places
def to_iso_time(seconds: float | None) -> str | None:
    """A time in seconds since the epoch as ISO 8601 in UTC, with milliseconds and the offset that
    Langfuse requires ("2026-01-31T12:00:00.000+00:00"); None for None."""
    if seconds is None:
        return None
    date = datetime.fromtimestamp(to_milliseconds(seconds) / 1000, UTC)
    return date.isoformat(timespec="milliseconds")


def inclusive_usage_counts(usage: Mapping[str, int]) -> dict[str, int]:
    """Token counts as `{"input": …, "output": …, "total": …}`; `{}` for an empty `usage`.

    `usage` has Langfuse's keys, such as `input` and `input_cached_tokens`. `input` and `output` are
    the sums of all counts whose keys begin with that word; `total` is that of `usage`, else the sum
    of both. Langfuse v2 and the OpenTelemetry conventions support only these sums.
    """
    if not usage:
        return {}
    sums = {
        side: sum(count for name, count in usage.items() if name.startswith(side))
        for side in ("input", "output")
    }
    return {**sums, "total": usage.get("total", sum(sums.values()))}
