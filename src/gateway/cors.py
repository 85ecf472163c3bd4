"""Which web pages may read the gateway's responses: by default none.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Collection

from core.types import Call

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

ALLOW_ORIGIN = "access-control-allow-origin"


def cors_headers(call: Call, allowed: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return the CORS headers of the response to a call, with which a browser lets a page of an
    allowed origin read it.

    `allowed` has origins such as "https://app.example.com"; "*" in it allows every origin. The
    result is empty where `allowed` is, and has only `vary` where the call's `origin` is missing or
    not allowed. For OPTIONS, a preflight request, it also has the allowed methods and headers.
    """
    if not allowed:
        return ()
    # Also where the origin is not allowed: else a cache could give a page the response for another.
    vary = ("vary", "origin")
    origin = call.headers.get("origin", "")
    if not origin or not ("*" in allowed or origin in allowed):
        return (vary,)
    shared = ((ALLOW_ORIGIN, origin), vary)
    if call.method != "OPTIONS":
        return (*shared, ("access-control-expose-headers", "*"))
    return (
        *shared,
        ("access-control-allow-methods", ", ".join(METHODS)),
        # All headers that the page's SDK sends are allowed. "*" would not cover `authorization`,
        # in which most SDKs send the key.
        (
            "access-control-allow-headers",
            call.headers.get("access-control-request-headers", ""),
        ),
        ("access-control-max-age", "7200"),
    )
