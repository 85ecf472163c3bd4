"""Tests of truncation: values, texts, and the grouping of items by size."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.strict_json import to_json
from export.batch import group_by_size
from redaction.truncation import truncate_text, truncate_value

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=50), inner),
    max_leaves=40,
)


@given(VALUES, st.integers(400, 3000))
def test_a_truncated_value_fits_and_is_valid_json(value, limit):
    truncated = truncate_value(value, limit)
    size = len(to_json(truncated).encode("utf-8", "replace"))
    assert size <= limit
    if len(to_json(value).encode("utf-8", "replace")) <= limit:
        assert truncated == value
    assert json.loads(to_json(truncated)) == truncated


def test_long_texts_are_truncated_first_with_a_note():
    messages: Any = [
        {"role": "user", "content": "word " * 2000},
        {"role": "user", "content": "short"},
    ]
    truncated: Any = truncate_value(messages, 6000)
    first, second = truncated
    assert second == {"role": "user", "content": "short"}
    assert first["content"].startswith("word word")
    assert first["content"].endswith(" of 10000 characters]")


def test_a_list_of_many_small_values_keeps_its_beginning():
    value: Any = [{"n": n} for n in range(1000)]
    truncated: Any = truncate_value(value, 2000)
    assert truncated.startswith('[{"n":0},{"n":1}')
    assert "[cut: " in truncated


@pytest.mark.parametrize("text", ["é" * 900, "😀" * 600, '"' * 900, "\\" * 900, "\ud83d" * 900])
def test_the_limit_is_in_bytes_of_json(text):
    assert len(to_json(truncate_value(text, 1000)).encode("utf-8", "replace")) <= 1000


def test_a_text_is_cut_at_a_space():
    text = "some words and a-key-of-forty-characters-that-goes-on"
    assert truncate_text(text * 20, 1000).count("a-key") == truncate_text(text * 20, 1000).count(
        "goes-on"
    )


def test_the_rest_of_a_text_is_redacted_before_the_note_is_added():
    redacted_texts = []
    truncate_value({"text": "x" * 5000}, 2000, lambda text: redacted_texts.append(text) or "clean")
    assert redacted_texts
    assert all("cut" not in text for text in redacted_texts)


@pytest.mark.parametrize(
    ("sizes", "max_count", "groups"),
    [
        ([], None, []),
        ([4, 6, 1], None, [[4, 6], [1]]),
        ([11, 1, 12], None, [[11], [1], [12]]),
        ([1, 1, 1], 2, [[1, 1], [1]]),
        ([0, 10, 1], 3, [[0, 10], [1]]),
    ],
)
def test_items_are_grouped_by_size_and_count_in_order(sizes, max_count, groups):
    assert group_by_size(sizes, lambda size: size, 10, max_count) == groups
