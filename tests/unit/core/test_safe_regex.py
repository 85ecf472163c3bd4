import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.safe_regex import compile_patterns, replace_matches
from redaction import known_keys
from redaction.known_keys import key_patterns_for


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{3}-\d{4}",
        r"[\w.+-]+@[\w-]+\.[a-z]{2,16}",
        r"(?:\d{4}[ -]?){3}\d{4}",
        r"(?i)internal-id: \w+",
        r"\b(?:foo|bar)-\d+\b",
    ],
)
def test_patterns_that_people_use(pattern):
    assert compile_patterns([pattern])[0].pattern == pattern


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a+)+b", "too long"),
        (r"(a|aa)+$", "too long"),
        (r"(?:\w{1,16}){1,16}", "too long"),
        (r"(?:a?){16}a{16}", "too long"),
        (r"(?:(?:a|aa){64}){64}", "too long"),
        (r".*.*.*.*x", "too long"),
        (r"(x+)\1", "too long"),
        (r"(?=(a+)+b)c", "too long"),
        (r"\w+\w+#", "too long"),
        (r".*x", "too long"),
        ("[", "no regular expression"),
        ("(?P<n", "no regular expression"),
        ("x{99999999999999}", "no regular expression"),
        ("a*", "matches nothing"),
        ("", "at most 500"),
        ("a" * 501, "at most 500"),
        (7, "at most 500"),
    ],
)
def test_patterns_that_are_refused(pattern, reason):
    with pytest.raises(ValueError, match=f"pattern 2 .*{reason}"):
        compile_patterns(["fine", pattern])


def test_not_too_many():
    with pytest.raises(ValueError, match="more than 20"):
        compile_patterns(["a"] * 21)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("character", "a1 -.@")
@pytest.mark.parametrize("pattern", [r"\d+X", r"[\w.+-]+@[\w-]+\.[\w.]+", r"\s+$"])
def test_what_is_accepted_takes_time_in_proportion(pattern, character):
    """A search that took the square of the length would take an hour."""
    text = character * 800_000
    assert len(replace_matches(text, compile_patterns([pattern]), "")) <= len(text)


@pytest.mark.parametrize("before", [0, 350, 399, 400, 450, 499, 500, 501, 899, 900, 5000])
def test_a_match_is_found_wherever_it_lies(before):
    found = compile_patterns([r"\d{3}-\d{4}"])
    text = "x" * before + "555-1234" + "y" * 700 + "555-9876"
    assert replace_matches(text, found, "!") == "x" * before + "!" + "y" * 700 + "!"


@pytest.mark.parametrize("pattern", known_keys._KEY_PATTERNS.values())
@given(data=st.data())
@settings(max_examples=10)
def test_no_key_goes_by_without_a_hint(pattern, data):
    key = data.draw(st.from_regex(pattern.replace("0000}", "0}"), fullmatch=True))
    for text in (key, json.dumps([key, {key: 1}])):
        assert pattern in [found.pattern for found in key_patterns_for(text)]
