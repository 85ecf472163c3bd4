"""The `Retry-After` header in all of its forms."""

import pytest

from core.retry_after import parse_retry_after

NOW = 1_795_436_099.25  # Mon, 23 Nov 2026 12:14:59 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        # The three forms of a date: https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats
        ("Mon, 23 Nov 2026 12:15:09 GMT", 9.75),
        ("Monday, 23-Nov-26 12:15:09 GMT", 9.75),
        ("Mon Nov 23 12:15:09 2026", 9.75),
        ("Wed Dec  2 12:14:59 2026", 9 * 24 * 3600 - 0.25),
        # A date that has passed asks for no pause.
        ("Mon, 23 Nov 2026 12:14:09 GMT", 0),
        ("Sun Nov  6 08:49:37 1994", 0),
        # A year of two digits that would be more than 50 years ahead is in the past.
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
        ("Saturday, 23-Nov-76 12:14:59 GMT", 1_577_923_199.75),
    ],
)
def test_a_value_is_read(value, seconds):
    assert parse_retry_after(value, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-1",
        "1.5",
        "9" * 10,
        "Mon, 31 Feb 2026 12:15:09 GMT",
        "Monday, 31-Feb-26 12:15:09 GMT",
        "Mon Feb 31 12:15:09 2026",
        "Mon, 23 Nov 2026 12:15:60 GMT",
        "Mon, 23 Nov 2026 12:15:09 +0100",
        "Mon, 23 Nov 2026 12:15:09",
        "Monday, 23-Nov-2026 12:15:09 GMT",
        "Mon Nov 23 12:15:09 2026 GMT",
        "Mon Nov 3 12:15:09 2026",
        "Mon, 23 Abc 2026 12:15:09 GMT",
    ],
)
def test_a_malformed_value_is_ignored(value):
    assert parse_retry_after(value, NOW) is None
