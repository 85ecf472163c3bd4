"""One structured line per event in the platform's log."""

import json
import re
import uuid
from collections.abc import Mapping

from redaction import Redactor, credentials

# Characters of headers and query. A stranger must not make the gateway look through more for what
# an id may not hold.
MOST_SEARCHED = 16_384

_secrets: tuple[str, ...] = ()
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_RAY = re.compile(r"[0-9a-f]{16}(-[A-Z]{3})?")


def request_id(headers: Mapping[str, str], query: str) -> str:
    """What a request is called in the log, in its trace and in the gateway's own answers.

    The client's `x-request-id`, else Cloudflare's `cf-ray`, by which its own logs know the request,
    else a new one. One of the client's that holds a credential, or more than 128 characters, or
    other than visible ASCII, does not count.
    https://developers.cloudflare.com/fundamentals/reference/http-headers/#cf-ray
    """
    said, ray = headers.get("x-request-id", ""), headers.get("cf-ray", "")
    if (
        _REQUEST_ID.fullmatch(said)
        and sum(map(len, headers.values())) + len(query) <= MOST_SEARCHED
        and not any(secret in said for secret in credentials(headers, query))
    ):
        return said
    return ray if _RAY.fullmatch(ray) else uuid.uuid4().hex


def conceal(secrets: tuple[str, ...]) -> None:
    """Keep these values, the deployment's own secrets, out of every line from now on."""
    global _secrets
    _secrets = secrets


def describe(error: BaseException) -> str:
    """Type and place of an error. Its message may quote what a log must not hold."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"


def log(event: str, secrets: tuple[str, ...] = (), **fields: str | int | float | None) -> None:
    """Write one line: the event's name and its fields, as a JSON object.

    The fields carry no content of requests and replies. A line about one request has its
    `request_id`. `secrets` are a request's own credentials, which are taken out of the line as the
    deployment's are.
    """
    line = Redactor((*_secrets, *secrets)).clean({"event": event, **fields})
    print(json.dumps(line))  # in ASCII, which any log takes
