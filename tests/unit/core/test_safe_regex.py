"""Tests of `safe_regex`: which patterns are accepted, and how matches are replaced."""

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
def test_common_patterns_are_accepted(pattern):
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
def test_slow_or_malformed_patterns_raise_a_value_error(pattern, reason):
    with pytest.raises(ValueError, match=f"pattern 2 .*{reason}"):
        compile_patterns(["fine", pattern])


def test_more_than_twenty_patterns_raise_a_value_error():
    with pytest.raises(ValueError, match="more than 20"):
        compile_patterns(["a"] * 21)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("character", "a1 -.@")
@pytest.mark.parametrize("pattern", [r"\d+X", r"[\w.+-]+@[\w-]+\.[\w.]+", r"\s+$"])
def test_an_accepted_pattern_is_searched_in_linear_time(pattern, character):
    """A search in quadratic time would take an hour."""
    text = character * 800_000
    assert len(replace_matches(text, compile_patterns([pattern]), "")) <= len(text)


@pytest.mark.parametrize("before", [0, 350, 399, 400, 450, 499, 500, 501, 899, 900, 5000])
def test_a_match_is_found_at_any_position(before):
    patterns = compile_patterns([r"\d{3}-\d{4}"])
    text = "x" * before + "555-1234" + "y" * 700 + "555-9876"
    assert replace_matches(text, patterns, "!") == "x" * before + "!" + "y" * 700 + "!"


# Patterns whose matches, with what they look behind and ahead at, have at most 100 characters.
SHORT_MATCHES = [
    r"\d{3}-\d{4}",
    r"(?<=ssn: )\d{9}",
    r"(?<!\d)\d{9}(?!\d)",
    r"\d{9}(?=[ ,])",
    r"\b\d{9}\b",
    r"^\d{9}",
    r"(?m)^\d{9}$",
    r"\A\d{9}|\d{9}\Z",
    r"\B\d{3}\B",
    r"(?<=(?=x)x)\d{9}",
    r"[a-z]{1,100}\d",
]


@pytest.mark.parametrize("pattern", SHORT_MATCHES)
@pytest.mark.parametrize("around", ["ssn: {} ", "x{},", " {}\n", "\n{}\n", "1{}", "{}1", "{}"])
def test_a_search_in_windows_finds_what_a_search_of_the_whole_text_finds(pattern, around):
    (compiled,) = compile_patterns([pattern])
    for offset in (*range(385, 405), *range(490, 505)):
        for filling in ("x", " ", "1"):
            text = filling * offset + around.format("123456789") + filling * 700
            expected = compiled.sub("!", text)
            assert replace_matches(text, [compiled], "!") == expected, (offset, filling)


@pytest.mark.parametrize("pattern", SHORT_MATCHES)
@given(
    st.lists(
        st.sampled_from(
            ["ssn: ", "123456789", "555-1234", " ", ",", "\n", "x", "y" * 90, "z" * 397]
        ),
        max_size=30,
    )
)
def test_any_text_is_searched_as_a_whole_text_would_be(pattern, pieces):
    text = "".join(pieces)
    (compiled,) = compile_patterns([pattern])
    assert replace_matches(text, [compiled], "!") == compiled.sub("!", text)


@pytest.mark.parametrize("pattern", [r"(?=a)", r"\b", r"(?<=a)"])
def test_an_empty_match_does_not_stop_the_search(pattern):
    (compiled,) = compile_patterns([pattern])
    text = "a b" * 400
    assert replace_matches(text, [compiled], "!") == compiled.sub("!", text)


@pytest.mark.parametrize("pattern", known_keys._KEY_PATTERNS.values())
@given(data=st.data())
@settings(max_examples=10)
def test_every_key_contains_the_hint_of_its_pattern(pattern, data):
    key = data.draw(st.from_regex(pattern.replace("0000}", "0}"), fullmatch=True))
    for text in (key, json.dumps([key, {key: 1}])):
        assert pattern in [found.pattern for found in key_patterns_for(text)]
