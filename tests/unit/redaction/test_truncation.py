import json

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
def test_it_fits_and_is_json(value, limit):
    fitted = truncate_value(value, limit)
    size = len(to_json(fitted).encode("utf-8", "replace"))
    assert size <= limit
    if len(to_json(value).encode("utf-8", "replace")) <= limit:
        assert fitted == value
    assert json.loads(to_json(fitted)) == fitted


def test_long_texts_are_cut_first_and_say_so():
    messages = [{"role": "user", "content": "word " * 2000}, {"role": "user", "content": "short"}]
    first, second = truncate_value(messages, 6000)
    assert second == {"role": "user", "content": "short"}
    assert first["content"].startswith("word word")
    assert first["content"].endswith(" of 10000 characters]")


def test_of_many_small_things_the_beginning_is_left():
    fitted = truncate_value([{"n": n} for n in range(1000)], 2000)
    assert fitted.startswith('[{"n":0},{"n":1}')
    assert "[cut: " in fitted


@pytest.mark.parametrize("text", ["é" * 900, "😀" * 600, '"' * 900, "\\" * 900, "\ud83d" * 900])
def test_bytes_count_and_not_characters(text):
    assert len(to_json(truncate_value(text, 1000)).encode("utf-8", "replace")) <= 1000


def test_a_cut_goes_back_to_a_blank():
    text = "some words and a-key-of-forty-characters-that-goes-on"
    assert truncate_text(text * 20, 1000).count("a-key") == truncate_text(text * 20, 1000).count(
        "goes-on"
    )


def test_what_is_left_is_cleaned_before_the_note():
    seen = []
    truncate_value({"text": "x" * 5000}, 2000, lambda text: seen.append(text) or "clean")
    assert seen
    assert all("cut" not in text for text in seen)


@pytest.mark.parametrize(
    ("sizes", "most", "groups"),
    [
        ([], None, []),
        ([4, 6, 1], None, [[4, 6], [1]]),
        ([11, 1, 12], None, [[11], [1], [12]]),
        ([1, 1, 1], 2, [[1, 1], [1]]),
        ([0, 10, 1], 3, [[0, 10], [1]]),
    ],
)
def test_groups_keep_to_the_limit_and_to_the_order(sizes, most, groups):
    assert group_by_size(sizes, lambda size: size, 10, most) == groups
