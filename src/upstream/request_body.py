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
    """The members of a JSON object; an empty dict for any other text."""
    try:
        return parse_object(text)
    except ValueError:
        return {}


def find_prefixed_model(body: RequestBody | None, settings: Settings) -> str | Refusal:
    """The body's model if it may name a provider ("@groq/…"), else "". A refusal where the body may
    have such a model, but is too large or no JSON. Bodies without one are not parsed."""
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
    """The body with a config's `override_params` in place of its own members. An absent or empty
    body stays as it is; a refusal for one that is too large or no JSON object."""
    if body is None or not body.size_bytes:
        return body  # a request without a body has no parameters
    if body.size_bytes > settings.max_capture_bytes:
        return Refusal(413, "The body is too large for a config that overrides its parameters.")
    try:
        return body.with_content(override_members(body.read(body.size_bytes), params))
    except ValueError:
        return Refusal(400, "The body must be a JSON object: the config overrides its members.")


def with_stream_usage(body: RequestBody, settings: Settings) -> RequestBody:
    """The body, with `request_stream_usage` applied unless it is too large for it."""
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
    """Whether a body, or a part of it, may have a model that begins with "@". Does not parse it, so
    that another object's model, or a text that looks like one, counts too."""
    return b'"@' in body and _PREFIXED_MODEL.search(body) is not None


def prefixed_model(body: bytes) -> str:
    """The model of a request's body where it begins with "@", else "".

    Raises ValueError for a body that is not readable as JSON.
    """
    request = strict_json.parse(decode_utf8(body))
    model = request.get("model") if isinstance(request, dict) else None
    return model if isinstance(model, str) and model.startswith("@") else ""


def strip_provider_prefix(body: bytes) -> bytes:
    """The body with the model's provider prefix removed, up to the first slash ("@groq/llama"
    becomes "llama"). Only for a body in which `prefixed_model` finds a model.

    Cuts the prefix out of the bytes where it can; otherwise the body is serialised anew.
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
    """The JSON object of a body, with `params` in place of its members of the same names.

    Raises ValueError for a body that is no JSON object.
    """
    return to_json_body({**parse_object(body), **params})


def parse_object(body: bytes) -> dict[str, Any]:
    """The members of a body's JSON object. Raises ValueError for a body that is no JSON object."""
    request = strict_json.parse(decode_utf8(body))
    if not isinstance(request, dict):
        raise ValueError("not a JSON object")
    return request


def all_models(body: bytes) -> list[str]:
    """Every model that a body names, whichever way a provider's parser reads it.

    These are the members "model" and "models" (OpenRouter's list of fallback models) of the body,
    in any letter case and with repeated ones; and those inside "tools" and "plugins", since a
    provider's own tools may call further models.

    Raises ValueError for a body that is no JSON object in UTF-8, and for a model at the top that is
    no text.
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
    """The texts under "model" and "models" at any depth of a value from `parse_members`.

    A function's parameter schema may define a parameter of that name: its value there is an object,
    not a text, and is left out.
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
    """The body of a streamed chat completion, changed to request token usage in the last chunk. Any
    other body stays as it is, and so does one that sets `include_usage` itself.

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
