"""Tests of the parser of server-sent events, and of the strict JSON parser below it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import strict_json
from dialects.sse import EventStream, parse_events

CASES: dict[str, tuple[str, list[Any]]] = {
    "plain": ('data: {"a":1}\n\ndata: {"a":2}\n\n', [{"a": 1}, {"a": 2}]),
    "no space after the colon": ('data:{"a":1}\n\n', [{"a": 1}]),
    "more space": ('data:  \t{"a":1}  \n\n', [{"a": 1}]),
    "no blank line at the end": ('data: {"a":1}', [{"a": 1}]),
    "one line end at the end": ('data: {"a":1}\n', [{"a": 1}]),
    "CRLF": ('data: {"a":1}\r\n\r\ndata: {"a":2}\r\n\r\n', [{"a": 1}, {"a": 2}]),
    "CR": ('data: {"a":1}\r\rdata: {"a":2}\r\r', [{"a": 1}, {"a": 2}]),
    "mixed": ('data: {"a":1}\r\n\ndata: {"a":2}\n\r\n', [{"a": 1}, {"a": 2}]),
    "byte order mark": ('\ufeffdata: {"a":1}\n\n', [{"a": 1}]),
    "other fields": ('event: x\nid: 1\nretry: 5\ndata: {"a":1}\nevent: y\n\n', [{"a": 1}]),
    "comments": (': ping\n\n: data: {"a":0}\ndata: {"a":1}\n:\n\n', [{"a": 1}]),
    "other names": ('database: {"a":0}\ndata : 0\n data: 0\ndata: {"a":1}\n\n', [{"a": 1}]),
    "data without a colon": ('data\ndata: {"a":1}\n\n', [{"a": 1}]),
    "empty data": ('data:\n\ndata: \n\ndata: {"a":1}\n\n', [{"a": 1}]),
    "data in two lines": ('data: {"a":\ndata: 1}\n\ndata: {"a":2}\n\n', [{"a": 1}, {"a": 2}]),
    "two lines, one empty": ('data:\ndata: {"a":1}\ndata:\n\n', [{"a": 1}]),
    "two lines, comment between": ('data: {"a":\n: x\ndata: 1}\n\n', [{"a": 1}]),
    "two lines, CRLF": ('data: {"a":\r\ndata: 1}\r\n\r\n', [{"a": 1}]),
    "two events, no blank line": ('data: {"a":{}}\ndata: {"b":1}\n\n', [{"a": {}}, {"b": 1}]),
    "two lines, an object in each": ('data: [{"a":1},\ndata: {"b":1}]\n\n', [[{"a": 1}, {"b": 1}]]),
    "two events, many blank lines": (
        'data: {"a":1}\n\n\n\ndata: {"a":2}\n\n',
        [{"a": 1}, {"a": 2}],
    ),
    "line separator is no newline": (
        'data: {"a":"\u2028x\x85\u2029"}\n\n',
        [{"a": "\u2028x\x85\u2029"}],
    ),
    "other values": ('data: 1\n\ndata: "x"\n\ndata: null\n\ndata: []\n\n', [1, "x", None, []]),
    "not quite JSON numbers": ("data: [NaN, -Infinity]\n\n", [["NaN", "-Infinity"]]),
    "nothing": ("", []),
    "only blank lines": ("\n\n\n", []),
}


@pytest.mark.parametrize("name", CASES)
def test_a_stream_is_parsed_to_its_payloads(name: str) -> None:
    text, expected = CASES[name]
    assert parse_events(text.encode()) == EventStream(expected, done=False, notes=())


@pytest.mark.parametrize("end", ["data: [DONE]\n\n", "data:[DONE]", "data: [DONE] \r\n\r\n"])
def test_done_is_not_a_payload(end: str) -> None:
    assert parse_events(b'data: {"a":1}\n\n' + end.encode()) == EventStream([{"a": 1}], True, ())


@pytest.mark.parametrize("malformed", ["1,2", "],[", "{}{}", "1 2", '{"a":1},{"a":2}', "]", '"'])
def test_an_event_with_several_values_or_none_is_noted(malformed: str) -> None:
    """These would parse as several values, or as none, if payloads were joined to one text."""
    events = parse_events(f"data: 1\n\ndata: {malformed}\n\ndata: 3\n\n".encode())
    assert events.payloads == [1, 3]
    assert events.notes == ("stream: 1 of 3 events could not be read",)


def test_incomplete_payloads_do_not_complete_each_other() -> None:
    events = parse_events(b'data: {"a":[1\n\ndata: 2]}\n\ndata: 3,4\n\ndata: 5\n\n')
    assert events.payloads == [5]
    assert events.notes == ("stream: 3 of 4 events could not be read",)


def test_a_stream_cut_inside_an_event_has_a_note_of_its_own() -> None:
    assert parse_events(b'data: {"a":1}\n\ndata: {"a":') == EventStream(
        [{"a": 1}], False, ("stream: cut inside its last event",)
    )
    assert parse_events(b'data: {"a":1}\n\ndata: {"a":\n\n').notes == (
        "stream: 1 of 2 events could not be read",
    )


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    assert parse_events(b'data: {"a":"\xff\xf0\x9f"}\n\n').payloads == [{"a": "��"}]


@pytest.mark.parametrize("depth", [101, 1_000, 200_000])
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}"), ('[{"":', "}]"), ("[", "")])
def test_deeply_nested_json_is_not_parsed(depth: int, start: str, end: str) -> None:
    """The json module would recurse, which ends the interpreter in WebAssembly."""
    text = start * depth + "0" + end * depth
    events = parse_events(f"data: {text}\n\ndata: 1\n\n".encode())
    assert events.payloads == [1]
    with pytest.raises(ValueError, match="deep"):
        strict_json.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100 + "]" * 100,
        '[{"a":' * 50 + "1" + "}]" * 50,
        json.dumps([{"a": [{}, []]}] * 1000),
        json.dumps({"a": "[" * 10_000, "b": '"[\\' * 1000, "c\\": "{" * 1000 + "\\"}),
        json.dumps(["[", '"', "{", "\\", "]"] * 1000, indent=1),
    ],
)
def test_many_brackets_that_are_not_deeply_nested_are_parsed(text: str) -> None:
    assert strict_json.parse(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ['\\"' * 1_000_000, '"[' * 500_000, "[" * 2_000_000, "[]" * 1_000_000, "\\" * 2_000_000],
    ids=["escapes", "strings", "deep", "flat", "backslashes"],
)
@pytest.mark.parametrize("start", ["", '"'])
def test_the_nesting_check_takes_linear_time(text: str, start: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        strict_json.parse("[" * 100 + start + text + "[")


def test_a_number_with_too_many_digits_is_not_parsed() -> None:
    assert parse_events(b"data: " + b"9" * 10_000 + b"\n\ndata: 1\n\n").payloads == [1]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(JSON), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.data())
def test_any_json_values_are_parsed_from_a_stream(
    values: list[Any], line_ending: str, is_indented: bool, data: st.DataObject
) -> None:
    """Any values, compact or in several data lines, with other fields in between."""
    lines: list[str] = []
    for value in values:
        lines += data.draw(st.lists(st.sampled_from([": noise", "event: x", "id: 7", ""])))
        text = json.dumps(value, indent=1 if is_indented else None)
        lines += [*(f"data: {line}" for line in text.split("\n")), ""]
    body = line_ending.join([*lines, ""]).encode()
    assert parse_events(body) == EventStream(values, done=False, notes=())


@given(
    st.binary()
    | st.lists(st.sampled_from(["data:", "\n", "\r", "{", "}", "1", ":"])).map(
        lambda pieces: "".join(pieces).encode()
    )
)
def test_any_bytes_are_parsed_without_an_exception(body: bytes) -> None:
    events = parse_events(body)
    assert isinstance(events.payloads, list)
