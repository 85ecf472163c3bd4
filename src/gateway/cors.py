"""Which web pages may read what the gateway answers: by default none.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Collection

from core.types import Call

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

ALLOW_ORIGIN = "access-control-allow-origin"


def cors_headers(call: Call, allowed: Collection[str]) -> tuple[tuple[str, str], ...]:
    """The headers that let a page of an allowed origin read the answer to its call."""
    origin = call.headers.get("origin", "")
    if not origin or not ("*" in allowed or origin in allowed):
        return ()
    shared = (
        (ALLOW_ORIGIN, origin),
        ("vary", "origin"),
    )
    if call.method != "OPTIONS":
        return (*shared, ("access-control-expose-headers", "*"))
    return (
        *shared,
        ("access-control-allow-methods", ", ".join(METHODS)),
        # Whatever headers an SDK sends may come; a key is one of them, so "*" would not do.
        (
            "access-control-allow-headers",
            call.headers.get("access-control-request-headers", ""),
        ),
        ("access-control-max-age", "7200"),
    )
