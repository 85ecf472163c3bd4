"""Prepares JSON values for a trace: placeholders replace inline media, and text replaces what a
JSON writer or reader could not handle."""

import math
import re
from typing import overload

from core.limits import MAX_JSON_INTEGER
from core.strict_json import JsonObject, JsonValue

# https://developer.mozilla.org/en-US/docs/Web/URI/Reference/Schemes/data
# Lengths are bounded, so that a text full of "data:" takes time in proportion to its length.
_DATA_URL = re.compile(
    r"data:([\w.+-]{1,80}/[\w.+-]{1,80})?+(?:;[\w.+-]{1,80}=[^;,\s]{0,200})*+"
    r";base64,([A-Za-z0-9+/_=%-]*+)"
)

_BASE64 = re.compile(r"[A-Za-z0-9+/_=\r\n-]++")

# Members whose value is base64 in any object (OpenAI's files and images), with the text that the
# placeholder has where the object does not name a media type. Only the provider can decrypt the
# reasoning and the search results that are encrypted:
# https://platform.openai.com/docs/guides/reasoning#encrypted-reasoning-items
# https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool
_ALWAYS_MEDIA = {
    "file_data": "file",
    "b64_json": "image",
    "partial_image_b64": "image",
    **dict.fromkeys(("encrypted_content", "encrypted_stdout"), "encrypted"),
}

# Members that may name the media type of another member.
_MEDIA_TYPE_MEMBERS = ("media_type", "mime_type", "mimeType")

# The media type of each value of a member `format` that is one. Other values are not: OpenRouter's
# reasoning, for example, has "openai-responses-v1".
# https://platform.openai.com/docs/api-reference/chat/create (audio)
# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html (all)
_FORMATS = {
    **dict.fromkeys(("wav", "mp3", "flac", "opus", "pcm16", "pcm", "aac", "ogg", "m4a"), "audio"),
    **dict.fromkeys(("g711_ulaw", "g711_alaw", "mpga", "aiff", "amr", "mulaw", "alaw"), "audio"),
    **dict.fromkeys(("png", "jpeg", "jpg", "gif", "webp"), "image"),
    **dict.fromkeys(("mp4", "webm", "mov", "mkv", "mpeg"), "video"),
    **dict.fromkeys(("pdf",), "application"),
}

_TYPES_WITHOUT_TEXT = {int, bool, type(None)}


@overload
def make_presentable(value: JsonObject) -> JsonObject: ...
@overload
def make_presentable(value: JsonValue) -> JsonValue: ...
def make_presentable(value: JsonValue) -> JsonValue:
    """A copy of a JSON value in which a text such as "[image/png, 1234 bytes]" replaces each inline
    image, audio and file.

    These are data URLs anywhere in a string, Anthropic's base64 sources, OpenAI's `input_audio`,
    `file_data` and `b64_json`, generated images, and encrypted reasoning. In all strings, the two
    surrogates of one character are joined, since a stream may have split them, and a lone one
    becomes U+FFFD.
    Infinite numbers, and integers beyond ±`MAX_JSON_INTEGER`, become text.
    """
    if isinstance(value, str):
        return value if value.isascii() and ";base64," not in value else _presentable_text(value)
    if isinstance(value, dict):
        members = {
            name if name.isascii() else _presentable_text(name): make_presentable(member)
            for name, member in value.items()
        }
        for name in value.keys() & _MEDIA_MEMBERS:
            kind, data = _media_type(value, name), value[name]
            if kind and isinstance(data, str) and _BASE64.fullmatch(data):
                members[name] = media_placeholder(kind, data)
        return members
    if isinstance(value, list):
        if set(map(type, value)) <= _TYPES_WITHOUT_TEXT:  # fast, since it may be 100,000 tokens
            return value
        return [make_presentable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    # A JSON reader in JavaScript would round such an integer, or read it as Infinity.
    return str(value) if isinstance(value, int) and abs(value) > MAX_JSON_INTEGER else value


def without_base64(text: str) -> str:
    """A text in which each run of at least 400 base64 characters is replaced by its length, as in
    "[base64, 1200 characters]". For text that cannot be parsed, such as the beginning of a JSON
    body."""
    return _LONG_BASE64.sub(lambda found: f"[base64, {len(found[0])} characters]", text)


_LONG_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{400,}+=*+")

# Members that may contain base64, depending on the object that they are in.
_MEDIA_MEMBERS = {"data", "blob", "result", *_ALWAYS_MEDIA}


def _media_type(members: JsonObject, name: str) -> str | None:
    """The media type of the base64 in an object's member `name`, which is one of `_MEDIA_MEMBERS`:
    "image/png", or where it is not fully known, "image". None where the member is no media."""
    types = (members.get(key) for key in _MEDIA_TYPE_MEMBERS)
    media_type = next((value for value in types if isinstance(value, str)), None)
    if media_type is None or "/" not in media_type:
        media_type = _type_of_format(media_type or members.get("format"))
    if name in ("data", "blob"):  # `blob` is of MCP's resources
        kind = members.get("type")
        if kind == "reasoning.encrypted":  # OpenRouter
            return "encrypted"
        if kind == "text":  # Anthropic's plain text
            return None
        is_audio = kind in ("output_audio", "input_audio", "audio") or "transcript" in members
        return media_type or ("audio" if is_audio else None)
    if name == "result":
        is_image = members.get("type") == "image_generation_call"
        return (_type_of_format(members.get("output_format")) or "image") if is_image else None
    kind = _ALWAYS_MEDIA[name]
    return kind if kind == "encrypted" else media_type or kind


def _type_of_format(name: JsonValue) -> str | None:
    """The media type of a format, such as "audio/wav" of "wav"; None where it is none of media."""
    kind = _FORMATS.get(name) if isinstance(name, str) else None
    return f"{kind}/{name}" if kind else None


def _presentable_text(text: str) -> str:
    """A text in which placeholders replace data URLs, and characters or U+FFFD replace
    surrogates."""
    if ";base64," in text:
        text = _DATA_URL.sub(lambda url: media_placeholder(url[1] or "text/plain", url[2]), text)
    try:
        text.encode()
    except UnicodeEncodeError:  # surrogates, from \u escapes: a single one becomes U+FFFD
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def media_placeholder(media_type: str, data: str) -> str:
    """The text that replaces `data`, which is base64: "[image/png, 1234 bytes]" with its media type
    and its decoded size."""
    size = len(data) * 3 // 4 - data.endswith("=") - data.endswith("==")
    return f"[{media_type}, {max(size, 0)} bytes]"
