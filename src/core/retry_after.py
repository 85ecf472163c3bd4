"""The `Retry-After` header: when a server wants to be asked again.

https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
"""

import re
from datetime import UTC, datetime

_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def parse_retry_after(value: str, now: float) -> float | None:
    """How many seconds from `now`, which is in seconds since the epoch; None for a bad value."""
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    date = _HTTP_DATE.fullmatch(value)
    if date is None or date[2] not in _MONTHS:
        return None
    month = _MONTHS.index(date[2]) + 1
    try:
        then = datetime(int(date[3]), month, int(date[1]), *map(int, date.groups()[3:]), tzinfo=UTC)
    except ValueError:
        return None
    return max(then.timestamp() - now, 0.0)
