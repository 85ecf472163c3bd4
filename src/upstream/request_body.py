"""The models in a request's body, and the requested changes to a body.

A change edits the bytes in place where it can, so that everything else in the body stays as it is.
Large bodies are searched in windows, and parsed only up to `Settings.max_capture_bytes`.
"""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from core import strict_json
from core.limits import MAX_MODEL_CANDIDATES, SCAN_OVERLAP_BYTES, SCAN_WINDOW_BYTES
from core.platform import RequestBody
from core.strict_json import decode_utf8, parse_members, to_json_body
from core.types import Refusal
from settings.load import Settings


def members_or_empty(text: bytes) -> dict[str, Any]:
    """The members of a JSON object as `{name: value}`; `{}` for any other text. Never raises."""
    try:
        return parse_object(text)
    except ValueError:
        return {}


def find_prefixed_model(body: RequestBody | None, settings: Settings) -> str | Refusal:
    """Return the body's model where it begins with "@", since it may name a provider ("@groq/…");
    else "", also for a `body` of None.

    A body is parsed only if its bytes look as if they contain such a model. Returns a `Refusal`
    where such a body is larger than `max_capture_bytes` (413) or is not JSON (400).
    """
    if body is None:
        return ""
    windows = (
        body.read(SCAN_WINDOW_BYTES + SCAN_OVERLAP_BYTES, start)
        for start in range(0, body.size_bytes, SCAN_WINDOW_BYTES)
    )
    if not any(map(may_name_provider, windows)):
        return ""
    # An unreadable body may name a provider, whose credential must not go to another one.
    purpose = "the model's provider. Name it in x-portkey-provider instead of in the model."
    if body.size_bytes > settings.max_capture_bytes:
        return Refusal(413, f"The body is too large to find {purpose}")
    try:
        return prefixed_model(body.read(body.size_bytes))
    except ValueError:
        return Refusal(400, f"The body is no JSON in which to find {purpose}")


def override_body(
    body: RequestBody | None, params: Mapping[str, Any], settings: Settings
) -> RequestBody | Refusal | None:
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
        return body.with_content(override_members(body.read(body.size_bytes), params))
    except ValueError:
        return Refusal(400, "The body must be a JSON object: the config overrides its members.")


def with_stream_usage(body: RequestBody, settings: Settings) -> RequestBody:
    """Return the body, changed to request token usage if it asks for a stream (see
    `add_stream_usage`). The same object is returned where nothing changes, and for a body over
    `max_capture_bytes`."""
    # A body that is too large to be recorded is too large to be copied into Python.
    if body.size_bytes > settings.max_capture_bytes:
        return body
    data = body.read(body.size_bytes)
    changed = add_stream_usage(data)
    return body if changed == data else body.with_content(changed)


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


def prefixed_model(body: bytes) -> str:
    """The top-level `model` of a JSON body where it begins with "@" ("@groq/llama"), else "".

    Raises ValueError for a body that is not JSON.
    """
    request = strict_json.parse(decode_utf8(body))
    model = request.get("model") if isinstance(request, dict) else None
    return model if isinstance(model, str) and model.startswith("@") else ""


def strip_provider_prefix(body: bytes) -> bytes:
    """Return the body with its model changed from "@groq/llama" to "llama": all up to the first
    slash is removed. `body` must be one in which `prefixed_model` finds a model with a slash.

    The prefix is cut out of the bytes where it can be located; otherwise the body is serialised
    anew.
    """
    request = strict_json.parse(decode_utf8(body))
    request["model"] = request["model"].partition("/")[2]
    for match in islice(_PREFIXED_MODEL.finditer(body), MAX_MODEL_CANDIDATES):
        changed = body[: match.start(1)] + body[match.end(1) :]
        # A match may also be another object's model, or the end of another member's name.
        if strict_json.parse(decode_utf8(changed)) == request:
            return changed
    return to_json_body(request)


def override_members(body: bytes, params: Mapping[str, Any]) -> bytes:
    """Return the JSON text of a body with `params` set over the members of its top-level object.
    Members that `params` does not have stay as they are.

    Raises ValueError for a body that is not a JSON object.
    """
    return to_json_body({**parse_object(body), **params})


def parse_object(body: bytes) -> dict[str, Any]:
    """The members of a body's JSON object as `{name: value}`. Raises ValueError for a body that is
    not a JSON object."""
    request = strict_json.parse(decode_utf8(body))
    if not isinstance(request, dict):
        raise ValueError("not a JSON object")
    return request


def all_models(body: bytes) -> list[str]:
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
    for name, value in parse_members(body.decode().removeprefix("\ufeff")):
        if name.casefold() in _MODEL_MEMBERS:
            found += value if isinstance(value, list) else [value]
        elif name.casefold() in _TOOL_MEMBERS:
            found += _models_within(value)
    if not all(isinstance(model, str) for model in found):
        raise ValueError("a model that is no text")
    return found


def _models_within(value: Any) -> list[str]:
    """The strings in members "model" and "models" at any depth of `value`, in which each JSON
    object is a list of (name, value) pairs, as `strict_json.parse_members` returns it.

    A function's parameter schema may define a parameter with such a name: its value there is an
    object, not a string, and is left out.
    """
    found: list[str] = []
    pending = [value]
    while pending:
        item = pending.pop()
        if (
            isinstance(item, tuple)
            and isinstance(item[0], str)
            and item[0].casefold() in _MODEL_MEMBERS
        ):
            models = item[1] if isinstance(item[1], list) else [item[1]]
            found += [model for model in models if isinstance(model, str)]
        if isinstance(item, list | tuple):
            pending += item
    return found


def add_stream_usage(body: bytes) -> bytes:
    """Return the body of a chat completion with `include_usage` set in its `stream_options`, so
    that the last chunk of the stream has the token counts.

    The body is returned unchanged where it is not a JSON object with `"stream": true`, and where it
    sets `include_usage` itself.

    https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options
    """
    if b'"stream"' not in body:
        return body
    try:
        request = strict_json.parse(decode_utf8(body))
    except ValueError:
        return body  # the provider's reply describes the error
    if not isinstance(request, dict) or request.get("stream") is not True:
        return body
    if "stream_options" not in request:
        start, brace, end = body.rpartition(b"}")
        return start + b',"stream_options":{"include_usage":true}' + brace + end
    options = request["stream_options"] or {}
    if not isinstance(options, dict) or "include_usage" in options:
        return body
    request["stream_options"] = {**options, "include_usage": True}
    return to_json_body(request)
