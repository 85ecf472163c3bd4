"""Tests of `make_presentable`: inline media are replaced by a placeholder with type and size."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.media import make_presentable

PNG = "iVBORw0KGgoAAAANSUhEUg=="  # 16 bytes

CASES: dict[str, tuple[Any, Any]] = {
    # https://platform.openai.com/docs/guides/images-vision
    "OpenAI image_url": (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "image_url", "image_url": {"url": "[image/png, 16 bytes]"}},
    ),
    "Responses input_image": (
        {"type": "input_image", "image_url": f"data:image/jpeg;base64,{PNG}"},
        {"type": "input_image", "image_url": "[image/jpeg, 16 bytes]"},
    ),
    "an image by its address": (
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ),
    # https://platform.openai.com/docs/guides/pdf-files
    "file_data as data URL": (
        {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PNG}"},
        {"filename": "a.pdf", "file_data": "[application/pdf, 16 bytes]"},
    ),
    "file_data bare": (
        {"type": "input_file", "filename": "a.pdf", "file_data": PNG},
        {"type": "input_file", "filename": "a.pdf", "file_data": "[file, 16 bytes]"},
    ),
    # https://platform.openai.com/docs/guides/audio
    "input_audio": (
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "[audio/wav, 4 bytes]", "format": "wav"}},
    ),
    "b64_json": ({"b64_json": PNG}, {"b64_json": "[image, 16 bytes]"}),
    "generated image": (
        {"type": "image_generation_call", "result": PNG},
        {"type": "image_generation_call", "result": "[image, 16 bytes]"},
    ),
    # https://docs.anthropic.com/en/docs/build-with-claude/vision
    "Anthropic image": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": "image/png",
                "data": "[image/png, 16 bytes]",
            },
        },
    ),
    "Anthropic text document": (
        {"source": {"type": "text", "media_type": "text/plain", "data": "Grass is green."}},
        {"source": {"type": "text", "media_type": "text/plain", "data": "Grass is green."}},
    ),
    "Anthropic one-word text document": (
        {"source": {"type": "text", "media_type": "text/plain", "data": "Grass"}},
        {"source": {"type": "text", "media_type": "text/plain", "data": "Grass"}},
    ),
    "Gemini inline data": (
        {"inlineData": {"mimeType": "image/png", "data": PNG}},
        {"inlineData": {"mimeType": "image/png", "data": "[image/png, 16 bytes]"}},
    ),
    "data URLs in a text": (
        f"See ![a](data:image/png;base64,{PNG}) and data:;base64,QQ== or data:text/x;q=1,b",
        "See ![a]([image/png, 16 bytes]) and [text/plain, 1 bytes] or data:text/x;q=1,b",
    ),
    "data URL with parameters": (
        "data:audio/wav;codecs=1;name=a.wav;base64,UklG",
        "[audio/wav, 3 bytes]",
    ),
    "other results and data": (
        {"result": "ok", "data": "ok", "type": "redacted_thinking"},
        {"result": "ok", "data": "ok", "type": "redacted_thinking"},
    ),
    "surrogates": ("a\ud83d\ude00b\ud83d", "a😀b�"),
    "surrogates in a name": ({"\ud83d\ude00": 1}, {"😀": 1}),
    "numbers that JSON cannot represent": (
        [float("inf"), {"a": float("-inf")}],
        ["inf", {"a": "-inf"}],
    ),
    "plain": ({"a": [1, "x", None, True, 2.5]}, {"a": [1, "x", None, True, 2.5]}),
}


@pytest.mark.parametrize("name", CASES)
def test_media_are_replaced_and_other_values_kept(name: str) -> None:
    value, expected = CASES[name]
    assert make_presentable(value) == expected


@pytest.mark.parametrize(
    "text",
    ["a" * 4_000_000, "data:" * 800_000 + ";base64,", "data:a/b;c=" * 300_000 + ";base64,",
     "data:" + "a" * 4_000_000 + ";base64,", ";base64," * 500_000],
    ids=["plain", "many starts", "many parameters", "long type", "many ends"],
)  # fmt: skip
def test_replacing_media_takes_linear_time(text: str) -> None:
    make_presentable({"content": text})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text() | st.sampled_from(["data", "result", "type", "format", "b64_json"]), inner
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_presentable_value_can_be_serialised(value: Any) -> None:
    json.dumps(make_presentable(value), allow_nan=False, ensure_ascii=False).encode()
