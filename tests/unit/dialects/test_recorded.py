"""Recorded replies, streamed and whole, against the one completion that both must give."""

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
STREAMED = [name for name, case in CASES.items() if "stream" in case]
WHOLE = [name for name, case in CASES.items() if "whole" in case]


def streamed(case: dict[str, Any]) -> bytes:
    return "\n".join([*case["stream"], ""]).encode()


def read(case: dict[str, Any], body: bytes, content_type: str) -> dict[str, Any]:
    """The completion without the fields that hold nothing, and without how it came."""
    completion = read_reply(case["path"], body, content_type, complete=True)
    fields = dataclasses.asdict(completion)
    assert fields.pop("streamed") == body.startswith((b"data:", b"event:", b":", b"\xef\xbb\xbf"))
    return {name: value for name, value in fields.items() if value not in (None, {}, (), True)}


def expected(case: dict[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in case["expected"].items() if v not in (None, {}, True)}


@pytest.mark.parametrize("name", STREAMED)
def test_streamed(name: str) -> None:
    case = CASES[name]
    assert read(case, streamed(case), "text/event-stream; charset=utf-8") == expected(case)


@pytest.mark.parametrize("name", WHOLE)
def test_whole(name: str) -> None:
    case = CASES[name]
    assert read(case, json.dumps(case["whole"]).encode(), "application/json") == expected(case)


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends_do_not_matter(name: str, line_end: str) -> None:
    case = CASES[name]
    body = streamed(case).replace(b"\r", b"").replace(b"\n", line_end.encode())
    assert read(case, body, "text/event-stream") == expected(case)


def said(output: Any) -> str | None:
    """The text of the first answer."""
    if isinstance(output, list):
        output = output[0]
    content = output.get("content") if isinstance(output, dict) else output
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    return content if isinstance(content, str) else None


@pytest.mark.parametrize("name", STREAMED)
def test_cut_at_every_byte(name: str) -> None:
    """A cut stream gives the answer as far as it had come, and each byte adds to it or to nothing.
    Before its first event is whole there is only its text."""
    case = CASES[name]
    body = streamed(case)
    whole = read_reply(case["path"], body, "text/event-stream", complete=True)
    before = ""
    for end in range(1, len(body)):
        cut = read_reply(case["path"], body[:end], "text/event-stream", complete=False)
        text = said(cut.output)
        if cut.model is None or text is None:
            continue
        assert text.startswith(before)
        assert (said(whole.output) or "").startswith(text)
        assert not (cut.finished and cut.metadata != whole.metadata)
        before = text
    assert before == (said(whole.output) or "")


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_sent_as_json_is_a_stream(name: str) -> None:
    case = CASES[name]
    assert read(case, streamed(case), "application/json") == expected(case)


@pytest.mark.parametrize("name", CASES)
def test_each_case_names_its_source(name: str) -> None:
    assert CASES[name]["source"].startswith("https://")
