"""The id of a request."""

import re
import uuid
from collections.abc import Mapping

from core.limits import MAX_REQUEST_ID_SEARCH_CHARS
from redaction.request_secrets import secrets_of_request

_REQUEST_ID = re.compile(r"[!-~]{1,128}")

_RAY = re.compile(r"[0-9a-f]{16}(-[A-Z]{3})?")


def choose_request_id(headers: Mapping[str, str], query: str) -> str:
    """What a request is called in the log, in its trace and in the gateway's own answers.

    The client's `x-request-id`, else Cloudflare's `cf-ray`, by which its own logs know the request,
    else a new one. One of the client's that holds a credential, or more than 128 characters, or
    other than visible ASCII, does not count.
    https://developers.cloudflare.com/fundamentals/reference/http-headers/#cf-ray
    """
    said, ray = headers.get("x-request-id", ""), headers.get("cf-ray", "")
    if (
        _REQUEST_ID.fullmatch(said)
        and sum(map(len, headers.values())) + len(query) <= MAX_REQUEST_ID_SEARCH_CHARS
        and not any(secret in said for secret in secrets_of_request(headers, query))
    ):
        return said
    return ray if _RAY.fullmatch(ray) else uuid.uuid4().hex
