"""The id of a request in the log, in its trace and in the gateway's error responses."""

import re
import uuid
from collections.abc import Mapping

from core.limits import MAX_REQUEST_ID_SEARCH_CHARS
from redaction.request_secrets import secrets_of_request

_REQUEST_ID = re.compile(r"[!-~]{1,128}")

_RAY_ID = re.compile(r"[0-9a-f]{16}(-[A-Z]{3})?")


def choose_request_id(headers: Mapping[str, str], query: str) -> str:
    """Return the id of a request: the client's `x-request-id`, else Cloudflare's `cf-ray`, which
    also identifies the request in Cloudflare's logs, else a new UUID in hex.

    A client's id is used only if it is at most 128 characters of visible ASCII and contains no
    credential of the request. It is not used where headers and query are too long to be searched
    for credentials (`MAX_REQUEST_ID_SEARCH_CHARS`). `headers` are keyed by lower-case name.
    https://developers.cloudflare.com/fundamentals/reference/http-headers/#cf-ray
    """
    client_request_id, ray_id = headers.get("x-request-id", ""), headers.get("cf-ray", "")
    if (
        _REQUEST_ID.fullmatch(client_request_id)
        and sum(map(len, headers.values())) + len(query) <= MAX_REQUEST_ID_SEARCH_CHARS
        and not any(secret in client_request_id for secret in secrets_of_request(headers, query))
    ):
        return client_request_id
    return ray_id if _RAY_ID.fullmatch(ray_id) else uuid.uuid4().hex
