"""Tests of `renderable_part`: each part of a content becomes a text or an image by URL."""

from typing import Any

import pytest

from tests.unit.dialects.untyped import renderable_part

PNG = "iVBORw0KGgoAAAANSUhEUg=="  # 16 bytes
INLINE = f"data:image/png;base64,{PNG}"
URL = "https://example.org/a.png"


def text(value: str, **members: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **members}


def image(**detail: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": URL, **detail}}


def anthropic(kind: str, media_type: str, data: str, **members: Any) -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": kind, "source": source, **members}


INLINE_IMAGE = anthropic("image", "image/png", PNG)

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "a text": (text("a", cache_control={}), text("a", cache_control={})),
    "input_text": ({"type": "input_text", "text": "a"}, {"type": "input_text", "text": "a"}),
    "output_text": ({"type": "output_text", "text": "a", "logprobs": []}, text("a", logprobs=[])),
    "a text of another type": ({"type": "summary_text", "text": "a"}, text("a")),
    "a text that is null": ({"type": "text", "text": None}, text("")),
    # https://platform.openai.com/docs/guides/images-vision
    "an image by URL": (
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        image(detail="low"),
    ),
    "an unknown detail": (
        {"type": "image_url", "image_url": {"url": URL, "detail": "original"}},
        {**image(), "detail": "original"},
    ),
    "an image by URL alone": ({"type": "image_url", "image_url": URL}, image()),
    "an inline image": (
        {"type": "image_url", "image_url": {"url": INLINE, "detail": "low"}},
        text("[image/png, 16 bytes]", detail="low"),
    ),
    "an image in a bucket": (
        {"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}},
        text("[image, gs://bucket/a.png]"),
    ),
    "an image without anything": ({"type": "image_url", "image_url": None}, text("[image_url]")),
    "Responses, by URL": ({"type": "input_image", "image_url": URL}, image()),
    "Responses, inline": (
        {"type": "input_image", "image_url": INLINE},
        text("[image/png, 16 bytes]"),
    ),
    "Responses, by file": ({"type": "input_image", "file_id": "f1"}, text("[image, f1]")),
    "a screenshot": (
        {"type": "computer_screenshot", "image_url": INLINE},
        text("[image/png, 16 bytes]"),
    ),
    # https://docs.anthropic.com/en/docs/build-with-claude/vision
    "Anthropic, inline": (
        {**INLINE_IMAGE, "cache_control": {"type": "ephemeral"}},
        text("[image/png, 16 bytes]", cache_control={"type": "ephemeral"}),
    ),
    "Anthropic, by URL": ({"type": "image", "source": {"type": "url", "url": URL}}, image()),
    "Anthropic, by file": (
        {"type": "image", "source": {"type": "file", "file_id": "f1"}},
        text("[image, f1]"),
    ),
    # https://docs.anthropic.com/en/docs/build-with-claude/citations
    "a PDF": (
        anthropic("document", "application/pdf", PNG, title="T"),
        text("[application/pdf, 16 bytes]", title="T"),
    ),
    "a plain text document": (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a b"}},
        text("a b"),
    ),
    "a document of parts": (
        {
            "type": "document",
            "source": {"type": "content", "content": [text("a"), INLINE_IMAGE]},
            "title": "T",
        },
        text("a\n[image/png, 16 bytes]", title="T"),
    ),
    "a document with an image by URL": (
        {"type": "document", "source": {"type": "content", "content": [text("a"), image()]}},
        text(f"a\n[image, {URL}]"),
    ),
    "a search result": (
        {"type": "search_result", "source": "https://a", "title": "T", "content": [text("a")]},
        text("a", source="https://a", title="T"),
    ),
    # https://platform.openai.com/docs/guides/pdf-files
    "a file": (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": PNG}},
        text("[file, 16 bytes]", filename="a.pdf"),
    ),
    "a file by id": ({"type": "file", "file": {"file_id": "f1"}}, text("[file, f1]")),
    "a file by URL": (
        {"type": "input_file", "file_url": "https://example.org/a.pdf"},
        text("[file, https://example.org/a.pdf]"),
    ),
    # https://platform.openai.com/docs/guides/audio
    "audio": (
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        text("[audio/wav, 4 bytes]"),
    ),
    "a video": (
        {"type": "video_url", "video_url": {"url": "https://example.org/v.mp4"}},
        text("[video, https://example.org/v.mp4]"),
    ),
    # https://modelcontextprotocol.io/specification/2025-06-18/server/tools
    "MCP's image": (
        {"type": "image", "data": PNG, "mimeType": "image/png"},
        text("[image/png, 16 bytes]"),
    ),
    "MCP's resource": (
        {"type": "resource", "resource": {"uri": "file:///a", "text": "a"}},
        text("a", uri="file:///a"),
    ),
    "MCP's binary resource": (
        {"type": "resource", "resource": {"uri": "x", "mimeType": "image/png", "blob": PNG}},
        text("[image/png, 16 bytes]", uri="x"),
    ),
    # https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool
    "a page that was found": (
        {"type": "web_search_result", "url": "https://a", "title": "A", "encrypted_content": PNG},
        text(
            "[A](https://a)",
            url="https://a",
            title="A",
            encrypted_content="[encrypted, 16 bytes]",
        ),
    ),
    "a page that was fetched": (
        {
            "type": "web_fetch_result",
            "url": "https://a",
            "content": anthropic("document", "application/pdf", PNG, title="T"),
        },
        text("[application/pdf, 16 bytes]", title="T", url="https://a"),
    ),
    "the output of a program": (
        {"type": "bash_code_execution_result", "stdout": "a", "stderr": "b", "return_code": 1},
        text("a\nb", return_code=1),
    ),
    "a file that a program wrote": (
        {"type": "code_execution_output", "file_id": "f1"},
        text("[code_execution_output, f1]"),
    ),
    "an error of a tool": (
        {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
        text("[web_search_tool_result_error] max_uses_exceeded"),
    ),
    "a fallback": (
        {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
        text('[fallback: {"from":{"model":"a"},"to":{"model":"b"}}]'),
    ),
    "a compaction": ({"type": "compaction", "content": "Sum"}, text("[compaction]\nSum")),
    "a failed compaction": ({"type": "compaction", "content": None}, text("[compaction]")),
    "thinking in pieces": (
        {"type": "thinking", "thinking": [text("H"), text("m")]},
        text("[thinking]\nH\nm"),
    ),
    "an answer in audio": (
        {"type": "output_audio", "data": PNG, "transcript": "Hi"},
        text("Hi", data="[audio, 16 bytes]"),
    ),
    "audio without a transcript": (
        {"type": "output_audio", "data": PNG, "transcript": ""},
        text("[audio, 16 bytes]"),
    ),
    "audio in an object": (
        {"type": "audio", "audio": {"data": PNG, "transcript": "Hi"}},
        text("[audio, 16 bytes]", transcript="Hi"),
    ),
    "a refusal": ({"type": "refusal", "refusal": "no"}, text("no")),
    "logs": ({"type": "logs", "logs": "2"}, text("2")),
    "a tool": ({"type": "tool_reference", "tool_name": "f"}, text("[tool_reference, f]")),
    "of tomorrow": ({"type": "x", "y": [1]}, text('[x: {"y":[1]}]')),
    "without a type": ({"y": 1}, text('[part: {"y":1}]')),
    "a text without a type": ({"y": "a"}, text("[part] a")),
    "a file without a type": ({"file_id": "f1"}, text("[file, f1]")),
    "a type that is no text": ({"type": ["x"], "text": 1}, text("[part: {\"text\":1}]")),
    "texts that are none": (
        {"type": "x", "text": 1, "content": [{**image(), "text": [2]}, text("a")]},
        text(f"[image, {URL}]\na"),
    ),
    "a string": ("a", text("a")),
    "nothing": ({}, text("")),
    "null": (None, text("null")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_part_becomes_a_text_or_an_image(name: str) -> None:
    part, expected = CASES[name]
    assert renderable_part(part) == expected
    assert renderable_part(expected) == expected


def test_a_part_that_is_nested_too_deep_is_recorded_as_json() -> None:
    part: dict[str, Any] = {"type": "x", "content": "inner"}
    for _ in range(30):
        part = {"type": "x", "content": [part]}
    value = renderable_part(part)["text"]
    assert value.startswith('[x: {"content":[{"type":"x"')
    assert "inner" in value
