"""Changes to a request's body that were asked for; everything else in it stays as it is."""

import json

import strict_json


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
    return json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")
