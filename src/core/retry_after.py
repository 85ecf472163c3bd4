"""The `Retry-After` header: a number of seconds, or a date.

https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
"""

import re
from datetime import UTC, datetime

_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
# The three forms of a date that a recipient must accept, the last two of them obsolete:
# https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats
_HTTP_DATES = [
    re.compile(form, re.ASCII)
    for form in (
        rf"{_DAY}, (?P<day>\d\d) (?P<month>[A-Z][a-z]{{2}}) (?P<year>\d{{4}}) {_TIME} GMT",
        rf"[A-Z][a-z]{{5,8}}, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{{2}})-(?P<year>\d\d) {_TIME} GMT",
        rf"{_DAY} (?P<month>[A-Z][a-z]{{2}}) (?P<day>\d\d| \d) {_TIME} (?P<year>\d{{4}})",
    )
]
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def parse_retry_after(value: str, now: float) -> float | None:
    """The pause in seconds that a `Retry-After` header requires, counted from `now`.

    `value` is the header's value: a number of seconds, or a date. The result is 0.0 where the date
    has passed, and None where the value is empty or malformed. `now` is in seconds since the epoch.
    """
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    date = next((found for form in _HTTP_DATES if (found := form.fullmatch(value))), None)
    if date is None or date["month"] not in _MONTHS:
        return None
    month, day = _MONTHS.index(date["month"]) + 1, int(date["day"])
    hour, minute, second = int(date["hour"]), int(date["minute"]), int(date["second"])
    try:
        then = datetime(_full_year(date["year"], now), month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return max(then.timestamp() - now, 0.0)


def _full_year(year: str, now: float) -> int:
    """The year in full. Two digits are a year of the present century or, where that is more than 50
    years after `now`, of the previous one. `now` is in seconds since the epoch."""
    if len(year) == 4:
        return int(year)
    current = datetime.fromtimestamp(now, UTC).year
    full = current - current % 100 + int(year)
    return full - 100 if full > current + 50 else full
