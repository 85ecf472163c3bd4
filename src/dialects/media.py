"""Values made fit to be shown: inline media replaced by a placeholder, and nothing that would
break a JSON writer."""

import math
import re
from typing import Any

from core.limits import MAX_JSON_INTEGER

# https://developer.mozilla.org/en-US/docs/Web/URI/Reference/Schemes/data; lengths are bounded so
# that a text full of "data:" costs no more than its length.
_DATA_URL = re.compile(
    r"data:([\w.+-]{1,80}/[\w.+-]{1,80})?+(?:;[\w.+-]{1,80}=[^;,\s]{0,200})*+"
    r";base64,([A-Za-z0-9+/_=%-]*+)"
)

_BASE64 = re.compile(r"[A-Za-z0-9+/_=\r\n-]++")

# Members that hold base64 wherever they stand: OpenAI's files and images.
_ALWAYS_MEDIA = {"file_data": "file", "b64_json": "image", "partial_image_b64": "image"}

_MEDIA_TYPES = ("media_type", "mime_type", "mimeType", "format")

_NO_TEXT = {int, bool, type(None)}


def make_presentable(value: Any) -> Any:
    """A JSON value with each inline medium replaced by `[media type, n bytes]`.

    Media are data URLs anywhere in a string, Anthropic's base64 sources, OpenAI's `input_audio`,
    `file_data` and `b64_json`, and generated images. Besides, halves of a character that
    a stream had split are joined, and numbers too large for a float become text.
    """
    if isinstance(value, str):
        return value if value.isascii() and ";base64," not in value else _presentable_text(value)
    if isinstance(value, dict):
        members = {
            name if name.isascii() else _presentable_text(name): make_presentable(member)
            for name, member in value.items()
        }
        for name in value.keys() & _MEDIA_MEMBERS:
            kind = _media_type(value, name)
            if kind and isinstance(value[name], str) and _BASE64.fullmatch(value[name]):
                members[name] = media_placeholder(kind, value[name])
        return members
    if isinstance(value, list):
        if set(map(type, value)) <= _NO_TEXT:  # a hundred thousand tokens, in no time
            return value
        return [make_presentable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    # What a JSON reader in JavaScript would take for another number, or for Infinity.
    return str(value) if isinstance(value, int) and abs(value) > MAX_JSON_INTEGER else value


def without_base64(text: str) -> str:
    """A text, such as the beginning of some JSON, with the length of base64 in its place."""
    return _LONG_BASE64.sub(lambda found: f"[base64, {len(found[0])} characters]", text)


_LONG_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{400,}+=*+")

_MEDIA_MEMBERS = {"data", "result", *_ALWAYS_MEDIA}


def _media_type(members: dict[str, Any], name: str) -> str | None:
    """The media type of a member of an object, None if it holds no medium."""
    kind = next((members[key] for key in _MEDIA_TYPES if isinstance(members.get(key), str)), None)
    if name == "data":
        if kind is None or members.get("type") == "text":  # Anthropic's plain text documents
            return None
        return kind if "/" in kind else f"audio/{kind}"
    if name == "result":
        return "image" if members.get("type") == "image_generation_call" else None
    return kind or _ALWAYS_MEDIA[name]


def _presentable_text(text: str) -> str:
    if ";base64," in text:
        text = _DATA_URL.sub(lambda url: media_placeholder(url[1] or "text/plain", url[2]), text)
    try:
        text.encode()
    except UnicodeEncodeError:  # surrogates, from \u escapes: pairs are joined, single ones marked
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def media_placeholder(kind: str, data: str) -> str:
    """What is shown in place of base64 data."""
    size = len(data) * 3 // 4 - data.endswith("=") - data.endswith("==")
    return f"[{kind}, {max(size, 0)} bytes]"
