"""The gateway's own errors, in the format of the API that was called, so that client SDKs raise
their usual exceptions for them.

https://platform.openai.com/docs/guides/error-codes · https://docs.claude.com/en/api/errors
"""

import json

from core.types import Call, GatewayResponse, Refusal
from upstream.target_request import is_anthropic_path

# The error types of OpenAI and of Anthropic by HTTP status.
_ERROR_TYPES = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "authentication_error"),
    403: ("permission_error", "permission_error"),
    404: ("not_found_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_error"),
}

# The error types of both for every other status.
_SERVER_ERROR = ("gateway_error", "api_error")


def error_response(refusal: Refusal, call: Call) -> GatewayResponse:
    """Return a refusal as a JSON error response, in the format of Anthropic's API for a path of
    that API, else in that of OpenAI's.

    It has the status, message and headers of the refusal. Its header `request-id` (Anthropic) or
    `x-request-id` (OpenAI) has the id of the request in the gateway's log.
    """
    openai, anthropic = _ERROR_TYPES.get(refusal.status, _SERVER_ERROR)
    if is_anthropic_path(call.path):
        id_header = "request-id"
        body = {"type": "error", "error": {"type": anthropic, "message": refusal.message}}
    else:
        id_header = "x-request-id"
        error = {"message": refusal.message, "type": openai, "param": None, "code": None}
        body = {"error": error}
    headers = (*refusal.headers, (id_header, call.request_id))
    return GatewayResponse(refusal.status, json.dumps(body), headers=headers)
