"""Changes to a request's body that were asked for; everything else in it stays as it is."""

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
    """What can be read of a JSON object; nothing of anything else."""
    try:
        return parse_object(text)
    except ValueError:
        return {}


def find_prefixed_model(body: RequestBody | None, settings: Settings) -> str | Refusal:
    """The body's model if it may name a provider, else "". Other bodies are not parsed here."""
    if body is None:
        return ""
    pieces = (
        body.read(SCAN_WINDOW_BYTES + SCAN_OVERLAP_BYTES, start)
        for start in range(0, body.size_bytes, SCAN_WINDOW_BYTES)
    )
    if not any(map(may_name_provider, pieces)):
        return ""
    # What can't be read may have named a provider, and its credential must not go to another one.
    where = "the model's provider. Name it in x-portkey-provider instead of in the model."
    if body.size_bytes > settings.max_capture_bytes:
        return Refusal(413, f"The body is too large to find {where}")
    try:
        return prefixed_model(body.read(body.size_bytes))
    except ValueError:
        return Refusal(400, f"The body is no JSON in which to find {where}")


def override_body(
    body: RequestBody | None, params: Mapping[str, Any], settings: Settings
) -> RequestBody | Refusal | None:
    if body is None or not body.size_bytes:
        return body  # a request without a body has no parameters
    if body.size_bytes > settings.max_capture_bytes:
        return Refusal(413, "The body is too large for a config that overrides its parameters.")
    try:
        return body.with_content(override_members(body.read(body.size_bytes), params))
    except ValueError:
        return Refusal(400, "The body must be a JSON object: the config overrides its members.")


def ask_for_stream_usage(body: RequestBody, settings: Settings) -> RequestBody:
    # What is too large to be recorded is too large to be copied for this.
    if body.size_bytes > settings.max_capture_bytes:
        return body
    data = body.read(body.size_bytes)
    changed = request_stream_usage(data)
    return body if changed == data else body.with_content(changed)


# "@groq/llama", of which a slash may be escaped.
_PREFIXED_MODEL = re.compile(rb'"model"\s*:\s*"(@[^"/\\]*\\?/)')

# Where a request for one model names others: itself, and in what calls them on the way.
_MODEL_MEMBERS, _TOOL_MEMBERS = ("model", "models"), ("tools", "plugins")


def may_name_provider(body: bytes) -> bool:
    """Whether a request's body, or a part of it, may have a model that begins with "@"."""
    return b'"@' in body and _PREFIXED_MODEL.search(body) is not None


def prefixed_model(body: bytes) -> str:
    """The model of a request's body where it begins with "@", else "".

    Raises ValueError for a body that can't be read.
    """
    request = strict_json.parse(decode_utf8(body))
    model = request.get("model") if isinstance(request, dict) else None
    return model if isinstance(model, str) and model.startswith("@") else ""


def strip_provider_prefix(body: bytes) -> bytes:
    """A body that `routed_model` found a model in, without what is before its first slash."""
    request = strict_json.parse(decode_utf8(body))
    request["model"] = request["model"].partition("/")[2]
    for place in islice(_PREFIXED_MODEL.finditer(body), MAX_MODEL_CANDIDATES):
        changed = body[: place.start(1)] + body[place.end(1) :]
        # Another object's model may look the same, and so may the end of another member's name.
        if strict_json.parse(decode_utf8(changed)) == request:
            return changed
    return to_json_body(request)


def override_members(body: bytes, params: Mapping[str, Any]) -> bytes:
    """A body with these members in place of its own. Raises ValueError for what is no object."""
    return to_json_body({**parse_object(body), **params})


def parse_object(body: bytes) -> dict[str, Any]:
    """The members of a body's JSON object. Raises ValueError for what is none."""
    request = strict_json.parse(decode_utf8(body))
    if not isinstance(request, dict):
        raise ValueError("not a JSON object")
    return request


def all_models(body: bytes) -> list[str]:
    """Every model that any reader of JSON may find in a body that asks for it: at the top under
    "model" in whichever case, as often as it is there, and in OpenRouter's list of further ones;
    and those that a provider's own tools call.

    Raises ValueError for what is no object in UTF-8, and where one is no text.
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
    """The texts under "model" and "models", however deep. In a schema of a function's parameters
    such a name has an object."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if (
            isinstance(item, tuple)
            and isinstance(item[0], str)
            and item[0].casefold() in _MODEL_MEMBERS
        ):
            models = item[1] if isinstance(item[1], list) else [item[1]]
            found += [model for model in models if isinstance(model, str)]
        if isinstance(item, list | tuple):
            waiting += item
    return found


def request_stream_usage(body: bytes) -> bytes:
    """A streamed request that asks for usage in its last chunk; any other body as it is.

    https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options
    """
    if b'"stream"' not in body:
        return body
    try:
        request = strict_json.parse(decode_utf8(body))
    except ValueError:
        return body  # the provider says what is wrong with it
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
