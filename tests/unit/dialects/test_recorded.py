"""Tests with recorded replies: streamed and whole, they give the same expected completion."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from dialects.registry import read_reply

RECORDED = Path(__file__).parent.parent / "recorded"
CASES = {
    str(file.relative_to(RECORDED).with_suffix("")): json.loads(file.read_text())
    for file in sorted(RECORDED.rglob("*.json"))
}
STREAMED_CASES = [name for name, case in CASES.items() if "stream" in case]
WHOLE_CASES = [name for name, case in CASES.items() if "whole" in case]


# Facts of the metadata that are counts of the usage.
COUNTED = {"reasoning_tokens", "citation_tokens", "num_search_queries"}


def stream_body(case: dict[str, Any]) -> bytes:
    return "\n".join([*case["stream"], ""]).encode()


def read_fields(case: dict[str, Any], body: bytes, content_type: str) -> dict[str, Any]:
    """The fields of the completion that have a value, without `is_streamed`, which is checked."""
    completion = read_reply(case["path"], body, content_type, complete=True)
    fields = dataclasses.asdict(completion)
    assert fields.pop("is_streamed") == body.startswith(
        (b"data:", b"event:", b":", b"\xef\xbb\xbf")
    )
    return {name: value for name, value in fields.items() if value not in (None, {}, (), True)}


def expected(case: dict[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in case["expected"].items() if v not in (None, {}, True)}


@pytest.mark.parametrize("name", STREAMED_CASES)
def test_a_recorded_stream_gives_the_expected_completion(name: str) -> None:
    case = CASES[name]
    assert read_fields(case, stream_body(case), "text/event-stream; charset=utf-8") == expected(
        case
    )


@pytest.mark.parametrize("name", WHOLE_CASES)
def test_a_recorded_whole_reply_gives_the_expected_completion(name: str) -> None:
    case = CASES[name]
    assert read_fields(case, json.dumps(case["whole"]).encode(), "application/json") == expected(
        case
    )


@pytest.mark.parametrize("name", STREAMED_CASES)
@pytest.mark.parametrize("line_ending", ["\r\n", "\r"])
def test_a_recorded_stream_with_other_line_endings_gives_the_same(
    name: str, line_ending: str
) -> None:
    case = CASES[name]
    body = stream_body(case).replace(b"\r", b"").replace(b"\n", line_ending.encode())
    assert read_fields(case, body, "text/event-stream") == expected(case)


def first_text(output: Any) -> str | None:
    """The text of the first choice of an output."""
    if isinstance(output, list):
        output = output[0]
    content = output.get("content") if isinstance(output, dict) else output
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    return content if isinstance(content, str) else None


@pytest.mark.parametrize("name", STREAMED_CASES)
def test_a_stream_cut_at_any_byte_gives_the_text_up_to_there(name: str) -> None:
    """With each byte more, the text is the same or longer, and always a beginning of the whole.

    Before the first event is complete, the output is the raw text of the body, which is skipped.
    """
    case = CASES[name]
    body = stream_body(case)
    whole = read_reply(case["path"], body, "text/event-stream", complete=True)
    previous = ""
    for end in range(1, len(body)):
        cut = read_reply(case["path"], body[:end], "text/event-stream", complete=False)
        text = first_text(cut.output)
        if cut.model is None or text is None:
            continue
        assert text.startswith(previous)
        assert (first_text(whole.output) or "").startswith(text)
        # The usage comes after the finish reason.
        facts = {n: v for n, v in whole.metadata.items() if n in cut.metadata or n not in COUNTED}
        assert not (cut.is_finished and cut.metadata != facts)
        previous = text
    assert previous == (first_text(whole.output) or "")


@pytest.mark.parametrize("name", STREAMED_CASES)
def test_a_stream_with_the_content_type_of_json_is_read_as_a_stream(name: str) -> None:
    case = CASES[name]
    assert read_fields(case, stream_body(case), "application/json") == expected(case)


@pytest.mark.parametrize("name", CASES)
def test_each_recorded_case_names_its_source(name: str) -> None:
    assert CASES[name]["source"].startswith("https://")
