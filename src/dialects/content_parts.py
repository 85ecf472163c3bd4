"""Parts of a message's content in the forms that Langfuse renders: texts, and images by URL.

A list with a part of another form is rendered as a table, which hides the texts in it.
https://github.com/langfuse/langfuse/blob/v4.16.0/packages/shared/src/utils/IORepresentation/chatML/types.ts
"""

import re
from collections.abc import Sequence

from core.json_values import as_object, as_text, drop_empty
from core.strict_json import JsonObject, JsonValue, to_json
from dialects.media import make_presentable

# Types of parts whose text the user or the model did not write as a part of the message.
_LABELLED_TYPES = frozenset({"compaction", "thinking", "reasoning"})

# The start of an image's URL that Langfuse can load: of the web, or of its own media storage.
_LOADABLE = re.compile(r"https?:|@@@langfuseMedia:")

_IMAGE_DETAILS = ("low", "high", "auto")

# Members that contain data, or a placeholder for it, in the order in which they are looked for.
_DATA_MEMBERS = ("data", "file_data", "blob", "b64_json")

# Members that refer to data which is not in the part.
_REFERENCE_MEMBERS = ("url", "image_url", "file_url", "uri", "file_id", "tool_name")

# Members that describe data. A placeholder contains what they describe.
_DESCRIPTIVE_MEMBERS = ("type", "media_type", "mime_type", "mimeType", "format")

# A document in the result of a fetched page has this many levels of content. Deeper ones are
# recorded as JSON, since each level takes time in proportion to its size.
_MAX_LEVELS = 4


def renderable_parts(content: JsonValue, level: int = 0) -> list[JsonObject]:
    """The parts of a message's content, each as `renderable_part` returns it. `content` is a list
    of parts, or one part."""
    parts = content if isinstance(content, list) else [content]
    return [renderable_part(part, level) for part in parts]


def joined_content(parts: Sequence[JsonValue]) -> JsonValue:
    """The content of a message with these parts: their list, the text alone where they are one
    plain text, None where there are none. Empty texts are left out."""
    present = [part for part in parts if as_object(part).get("text") != ""]
    if len(present) == 1 and as_object(present[0]).keys() == {"type", "text"}:
        return as_object(present[0])["text"]
    return present or None


def renderable_part(part: JsonValue, level: int = 0) -> JsonObject:
    """Convert a part of a message's content to a text or an image by URL. Never raises.

    The text of an inline image, audio or file is a placeholder such as "[image/png, 1234 bytes]",
    that of a document, a search result or the output of a program the text in it. A part that only
    refers to something becomes a text such as "[file, file-123]", and any other the text of its
    JSON. Further members of the part, such as `cache_control` or `title`, are kept beside the text.
    `level` is the number of parts that this one is nested in.
    """
    if not isinstance(part, dict):
        return {"type": "text", "text": part if isinstance(part, str) else to_json(part)}
    kind, text = part.get("type"), part.get("text")
    if isinstance(text, str):
        return part if kind == "text" or kind == "input_text" else {**part, "type": "text"}
    kind = as_text(kind) or ""
    part = make_presentable(part)
    if ("image" in kind or "image_url" in part) and (image := _image_by_url(part)):
        return image
    text, rest = (
        (_own_text(kind, part, level) if level < _MAX_LEVELS else None)
        or _text_of_data(kind, part)
        or _text_of_json(kind, part)
    )
    own_members: JsonObject = {"type": "text", "text": text}
    return {**own_members, **drop_empty(rest), **own_members}


def _image_by_url(part: JsonObject) -> JsonObject | None:
    """An image in the form of OpenAI's chat, whose URL is in an object `image_url`. None where the
    part has no URL that Langfuse can load."""
    name, members = _object_with_data(part)
    for member in ("url", "image_url"):
        url = members.get(member)
        if isinstance(url, str) and _LOADABLE.match(url):
            rest = _without({**part, **members}, name, member, "type")
            has_known_detail = rest.get("detail") in _IMAGE_DETAILS
            detail = {"detail": rest.pop("detail")} if has_known_detail else {}
            return {**rest, "type": "image_url", "image_url": {"url": url, **detail}}
    return None


def _own_text(kind: str, part: JsonObject, level: int) -> tuple[str, JsonObject] | None:
    """The text that a part contains, and its other members. None where it contains none.

    `kind` is the part's type: a member of the same name may have the text, as in a refusal.
    """
    output = [text for name in ("stdout", "stderr") if (text := as_text(part.get(name)))]
    if output:
        return "\n".join(output), _without(part, "type", "stdout", "stderr")
    # Documents: https://docs.anthropic.com/en/docs/build-with-claude/citations
    # MCP's resources: https://modelcontextprotocol.io/specification/2025-06-18/server/tools
    for name, content in (
        (kind, None if isinstance(part.get(kind), dict) else part.get(kind)),
        ("content", part.get("content")),
        ("source", as_object(part.get("source")).get("content")),
        ("resource", part.get("resource")),
        ("transcript", part.get("transcript")),
    ):
        if not content:
            continue
        parts = renderable_parts(content, level + 1)
        texts = [
            f"[image, {as_object(item['image_url'])['url']}]"
            if item["type"] == "image_url"
            else as_text(item["text"]) or ""
            for item in parts
        ]
        if any(texts):
            label = [f"[{kind}]"] if kind in _LABELLED_TYPES else []
            inner = _without(parts[0], "type", "text", "image_url") if len(parts) == 1 else {}
            return "\n".join([*label, *texts]), {**inner, **_without(part, "type", name)}
    return None


def _text_of_data(kind: str, part: JsonObject) -> tuple[str, JsonObject] | None:
    """A text for the data that a part contains or refers to, and the part's other members. None
    where there is no data.

    A placeholder, and a plain text document, are returned as they are, a page as a link, and
    another reference as "[type, reference]".
    """
    name, members = _object_with_data(part)
    texts = ((n, as_text(members.get(n))) for n in (*_DATA_MEMBERS, *_REFERENCE_MEMBERS))
    member, text = next(((n, text) for n, text in texts if text), ("", ""))
    if not member:
        return None
    if name is None and member == "url":  # a page that was found: its title and URL are of use
        title = as_text(part.get("title"))
        return f"[{title}]({text})" if title else text, _without(part, "type")
    if member in _REFERENCE_MEMBERS and not text.startswith("["):
        text = f"[{kind.removeprefix('input_').removesuffix('_url') or 'file'}, {text}]"
    described = _without(members, member, *_DESCRIPTIVE_MEMBERS)
    return text, {**described, **_without(part, name, member, *_DESCRIPTIVE_MEMBERS)}


def _text_of_json(kind: str, part: JsonObject) -> tuple[str, JsonObject]:
    """A text with the type of a part and the JSON of its other members. It is not JSON itself,
    since Langfuse would render that as an object."""
    rest = drop_empty(_without(part, "type"))
    if kind == "text" or (not rest and not kind):
        return "", rest
    if not rest:
        return f"[{kind}]", {}
    values = [*rest.values()]
    if len(values) == 1 and isinstance(values[0], str):
        return f"[{kind or 'part'}] {values[0]}", {}
    return f"[{kind or 'part'}: {to_json(rest)}]", {}


def _object_with_data(part: JsonObject) -> tuple[str | None, JsonObject]:
    """The object in a part that has or refers to its data, and the name of that member: Anthropic's
    `source`, or a member with the name of the part's type. (None, part) where there is none."""
    for name in (as_text(part.get("type")), "source", "image_url"):
        value = part.get(name) if name else None
        if isinstance(value, dict):
            return name, value
    return None, part


def _without(members: JsonObject, *names: str | None) -> JsonObject:
    return {name: value for name, value in members.items() if name not in names}
