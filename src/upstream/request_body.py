"""The models in a request's body, and the requested changes to a body.

A change edits the bytes in place where it can, so that everything else in the body stays as it is.
Large bodies are searched in windows, and parsed only up to `Settings.max_capture_bytes`.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import cast

from core import strict_json
from core.json_body import JsonBody
from core.limits import (
    MAX_KEPT_BODY_BYTES,
    MAX_MODEL_CANDIDATES,
    SCAN_OVERLAP_BYTES,
    SCAN_WINDOW_BYTES,
)
from core.strict_json import (
    JsonObject,
    JsonValue,
    decode_utf8,
    parse_members,
    to_json_body,
)
from core.types import Refusal
from settings.load import Settings


def find_prefixed_model(body: JsonBody | None, settings: Settings) -> str | Refusal:
    """Return the body's model where it begins with "@", since it may name a provider ("@groq/…");
    else "", also for a `body` of None.

    A body is parsed only if its bytes look as if they contain such a model. Returns a `Refusal`
    where such a body is larger than `max_capture_bytes` (413) or is not JSON (400).
    """
    if body is None or not any(map(may_name_provider, _windows(body))):
        return ""
    # An unreadable body may name a provider, whose credential must not go to another one.
    purpose = "the model's provider. Name it in x-portkey-provider instead of in the model."
    if body.size_bytes > settings.max_capture_bytes:
        return Refusal(413, f"The body is too large to find {purpose}")
    try:
        return prefixed_model(body)
    except ValueError:
        return Refusal(400, f"The body is no JSON in which to find {purpose}")


def _windows(body: JsonBody) -> Iterator[bytes]:
    """The bytes of a body in parts that overlap. A short body is one part."""
    if body.size_bytes <= MAX_KEPT_BODY_BYTES:
        yield body.read()
        return
    for start in range(0, body.size_bytes, SCAN_WINDOW_BYTES):
        yield body.content.read(SCAN_WINDOW_BYTES + SCAN_OVERLAP_BYTES, start)


def override_body(
    body: JsonBody | None, params: Mapping[str, JsonValue], settings: Settings
) -> JsonBody | Refusal | None:
    """Return a body with `params`, a config's `override_params`, set over the top-level members of
    its JSON object. None and an empty body are returned as they are.

    Returns a `Refusal` for a body that is larger than `max_capture_bytes` (413) or is not a JSON
    object (400).
    """
    if body is None or not body.size_bytes:
        return body  # a request without a body has no parameters
    if body.size_bytes > settings.max_capture_bytes:
        return Refusal(413, "The body is too large for a config that overrides its parameters.")
    try:
        members = {**body.members(), **params}
    except ValueError:
        return Refusal(400, "The body must be a JSON object: the config overrides its members.")
    return body.changed(to_json_body(members), members)


# Matches a model such as "@groq/llama". The group is the prefix to remove, up to the slash, which
# JSON may escape.
_PREFIXED_MODEL = re.compile(rb'"model"\s*:\s*"(@[^"/\\]*\\?/)')

# Members of a request that name models: its own, and its tools, some of which call further models.
_MODEL_MEMBERS, _TOOL_MEMBERS = ("model", "models"), ("tools", "plugins")


def may_name_provider(body: bytes) -> bool:
    """Whether a body, or a part of one, seems to contain a "model" whose value begins with "@". It
    is searched and not parsed: the model of a nested object, or a text that looks like one, counts
    too."""
    return b'"@' in body and _PREFIXED_MODEL.search(body) is not None


def prefixed_model(body: JsonBody) -> str:
    """The top-level `model` of a JSON body where it begins with "@" ("@groq/llama"), else "".

    Raises ValueError for a body that is not JSON.
    """
    request = body.parse()
    model = request.get("model") if isinstance(request, dict) else None
    return model if isinstance(model, str) and model.startswith("@") else ""


def strip_provider_prefix(body: JsonBody) -> JsonBody:
    """Return the body with its model changed from "@groq/llama" to "llama": all up to the first
    slash is removed. `body` must be one in which `prefixed_model` finds a model with a slash.

    The prefix is cut out of the bytes where it can be located; otherwise the body is serialised
    anew.
    """
    data, request = body.read(), body.members()
    request = {**request, "model": prefixed_model(body).partition("/")[2]}
    for match in islice(_PREFIXED_MODEL.finditer(data), MAX_MODEL_CANDIDATES):
        changed = data[: match.start(1)] + data[match.end(1) :]
        # A match may also be another object's model, or the end of another member's name.
        if strict_json.parse(decode_utf8(changed)) == request:
            return body.changed(changed, request)
    return body.changed(to_json_body(request), request)


def all_models(body: JsonBody) -> list[str]:
    """Return every model that a body names, whichever way a provider's parser reads it.

    Models are in the top-level members "model" and "models" (OpenRouter's list of fallback models),
    and in members of these names inside "tools" and "plugins", since a provider's own tools may
    call further models. Names match in any letter case, and repeated members all count.

    Raises ValueError for a body that is not a JSON object in UTF-8, and for a top-level model that
    is not a string.
    https://openrouter.ai/docs/guides/routing/model-fallbacks
    https://platform.openai.com/docs/guides/tools-image-generation
    """
    found: list[str] = []
    for name, value in parse_members(body.read().decode().removeprefix("\ufeff")):
        if name.casefold() in _MODEL_MEMBERS:
            for model in _as_list(value):
                if not isinstance(model, str):
                    raise ValueError("a model that is no text")
                found.append(model)
        elif name.casefold() in _TOOL_MEMBERS:
            found += _models_within(value)
    return found


def _models_within(value: object) -> list[str]:
    """The strings in members "model" and "models" at any depth of `value`, in which each JSON
    object is a list of (name, value) pairs, as `strict_json.parse_members` returns it.

    A function's parameter schema may define a parameter with such a name: its value there is an
    object, not a string, and is left out.
    """
    found: list[str] = []
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, tuple):
            name, member = cast("tuple[str, object]", item)
            if name.casefold() in _MODEL_MEMBERS:
                found += [model for model in _as_list(member) if isinstance(model, str)]
            pending.append(member)
        elif isinstance(item, list):
            pending += cast("list[object]", item)
    return found


def _as_list(value: object) -> list[object]:
    """The value if it is a list, else a list of it alone."""
    return cast("list[object]", value) if isinstance(value, list) else [value]


def with_stream_usage(body: JsonBody, settings: Settings) -> JsonBody:
    """Return the body of a chat completion with `include_usage` set in its `stream_options`, so
    that the last chunk of the stream has the token counts.

    The same object is returned where the body is over `max_capture_bytes`, where it is not a JSON
    object with `"stream": true`, and where it sets `include_usage` itself.

    https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options
    """
    # A body that is too large to be recorded is too large to be copied into Python.
    if body.size_bytes > settings.max_capture_bytes or b'"stream"' not in body.read():
        return body
    try:
        request = body.members()
    except ValueError:
        return body  # the provider's reply describes the error
    options = request.get("stream_options") or {}
    if request.get("stream") is not True or not isinstance(options, dict):
        return body
    if "include_usage" in options:
        return body
    changed: JsonObject = {**request, "stream_options": {**options, "include_usage": True}}
    if "stream_options" in request:
        return body.changed(to_json_body(changed), changed)
    start, brace, end = body.read().rpartition(b"}")
    data = start + b',"stream_options":{"include_usage":true}' + brace + end
    return body.changed(data, changed)
