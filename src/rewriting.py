"""Changes to a request's body that were asked for; everything else in it stays as it is."""

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import strict_json

# "@groq/llama", of which a slash may be escaped.
_ROUTED = re.compile(rb'"model"\s*:\s*"(@[^"/\\]*\\?/)')
# Where a request for one model names others: itself, and in what calls them on the way.
_MODELS, _CALLING = ("model", "models"), ("tools", "plugins")
# So many places that look like the model's are tried.
_TRIES = 4


def may_name_provider(body: bytes) -> bool:
    """Whether a request's body, or a part of it, may have a model that begins with "@"."""
    return b'"@' in body and _ROUTED.search(body) is not None


def routed_model(body: bytes) -> str:
    """The model of a request's body where it begins with "@", else "".

    Raises ValueError for a body that can't be read.
    """
    request = strict_json.parse(strict_json.text_of(body))
    model = request.get("model") if isinstance(request, dict) else None
    return model if isinstance(model, str) and model.startswith("@") else ""


def without_provider(body: bytes) -> bytes:
    """A body that `routed_model` found a model in, without what is before its first slash."""
    request = strict_json.parse(strict_json.text_of(body))
    request["model"] = request["model"].partition("/")[2]
    for place in islice(_ROUTED.finditer(body), _TRIES):
        changed = body[: place.start(1)] + body[place.end(1) :]
        # Another object's model may look the same, and so may the end of another member's name.
        if strict_json.parse(strict_json.text_of(changed)) == request:
            return changed
    return _written(request)


def overridden(body: bytes, params: Mapping[str, Any]) -> bytes:
    """A body with these members in place of its own. Raises ValueError for what is no object."""
    return _written({**members(body), **params})


def members(body: bytes) -> dict[str, Any]:
    """The members of a body's JSON object. Raises ValueError for what is none."""
    request = strict_json.parse(strict_json.text_of(body))
    if not isinstance(request, dict):
        raise ValueError("not a JSON object")
    return request


def models(body: bytes) -> list[str]:
    """Every model that any reader of JSON may find in a body that asks for it: at the top under
    "model" in whichever case, as often as it is there, and in OpenRouter's list of further ones;
    and those that a provider's own tools call.

    Raises ValueError for what is no object in UTF-8, and where one is no text.
    https://openrouter.ai/docs/guides/routing/model-fallbacks
    https://platform.openai.com/docs/guides/tools-image-generation
    """
    found: list[str] = []
    for name, value in strict_json.members(body.decode().removeprefix("\ufeff")):
        if name.casefold() in _MODELS:
            found += value if isinstance(value, list) else [value]
        elif name.casefold() in _CALLING:
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
        if isinstance(item, tuple) and isinstance(item[0], str) and item[0].casefold() in _MODELS:
            models = item[1] if isinstance(item[1], list) else [item[1]]
            found += [model for model in models if isinstance(model, str)]
        if isinstance(item, list | tuple):
            waiting += item
    return found


def with_stream_usage(body: bytes) -> bytes:
    """A streamed request that asks for usage in its last chunk; any other body as it is.

    https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options
    """
    if b'"stream"' not in body:
        return body
    try:
        request = strict_json.parse(strict_json.text_of(body))
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
    return _written(request)


def _written(request: dict[str, Any]) -> bytes:
    return json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")
