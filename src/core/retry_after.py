"""The `Retry-After` header: when a server may be called again.

https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
"""

import re
from datetime import UTC, datetime

_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def parse_retry_after(value: str, now: float) -> float | None:
    """Return the number of seconds that a `Retry-After` value asks the client to wait.

    The value is a number of seconds or an HTTP date. `now` is in seconds since the epoch; a date
    before it gives 0. None where the value is malformed.
    """
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    match = _HTTP_DATE.fullmatch(value)
    if match is None or match[2] not in _MONTHS:
        return None
    month = _MONTHS.index(match[2]) + 1
    try:
        date = datetime(
            int(match[3]), month, int(match[1]), *map(int, match.groups()[3:]), tzinfo=UTC
        )
    except ValueError:
        return None
    return max(date.timestamp() - now, 0.0)
