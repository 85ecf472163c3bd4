"""Which values of a request are credentials, and which headers may be recorded."""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from core import strict_json
from core.limits import MIN_OPAQUE_SECRET_CHARS, MIN_SECRET_CHARS
from core.secret_names import is_secret_name
from redaction.redactor import REDACTED
from settings.gateway_keys import PORTKEY_PLACEHOLDER
from settings.provider_table import URL_PARAMETERS
from settings.routing_configs import CONFIG_HEADER, CONFIG_NAME

# x-portkey-* headers that hold no secret. A config holds provider keys, and of a header that is
# not listed here nobody knows what it holds.
RECORDED_HEADERS = frozenset(
    f"x-portkey-{name}"
    for name in (
        *("provider", "user-id", "session-id", "metadata", "trace"),
        *("trace-id", "span-id", "parent-span-id", "span-name"),
        *("cache", "cache-force-refresh", "retry-count", "retry-attempts", "request-timeout"),
        # What Portkey's client says of itself.
        *("package-version", "runtime", "runtime-version", "strict-open-ai-compliance"),
    )
)

# They are not recorded, but hold no secret either: a deployment is often called what its model is.
_NOT_SECRET_HEADERS = RECORDED_HEADERS | {header for header, _ in URL_PARAMETERS.values()}

_SEPARATOR = re.compile(r"""[\s,;="':]+""")


def recorded_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The `x-portkey-*` headers of a request as they may be recorded, by lower-case name."""
    return {
        name: value if name in RECORDED_HEADERS else REDACTED
        for name, value in headers.items()
        if name.startswith("x-portkey-")
    }


def secrets_of_request(headers: Mapping[str, str], query: str) -> tuple[str, ...]:
    """Every value in a request's headers and query that is or may hold a credential."""
    found: set[str] = set()
    for name, value in headers.items():
        if name.startswith("x-portkey-"):
            # A config's name, which is the deployment's, or the request is refused.
            named = name == CONFIG_HEADER and CONFIG_NAME.fullmatch(value.strip())
            if name not in _NOT_SECRET_HEADERS and not named:
                found.update(_secrets_in(value, is_secret_name(name.removeprefix("x-portkey-"))))
        elif is_secret_name(name):
            found.update(_header_parts(value))
    for pair in re.split("[&;]", query) if query else ():
        name, _, value = pair.rpartition("=")
        if is_secret_name(unquote_plus(name).lower()) or len(value) >= MIN_OPAQUE_SECRET_CHARS:
            found.update((value, unquote_plus(value)))
    return tuple(value for value in found - {PORTKEY_PLACEHOLDER} if len(value) >= MIN_SECRET_CHARS)


def _header_parts(value: str) -> Iterator[str]:
    """A header's value, and what it is made of: "Bearer key", "a=1; b=2", 'Token token="key"'."""
    yield value
    for piece in _SEPARATOR.split(value):
        yield piece
        yield from _basic_credentials(piece)


def _basic_credentials(encoded: str) -> tuple[str, ...]:
    """What a credential of HTTP's Basic scheme encodes: "user:password", and the password."""
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return ()
    return (pair, pair.partition(":")[2]) if ":" in pair else ()


def _secrets_in(value: str, secret: bool) -> Iterator[str]:
    """The texts under a secret's name in a JSON value; any other value as a whole, if it is under
    one itself or so long that it may be one."""
    try:
        nested = strict_json.parse(value)
    except ValueError:
        if secret or len(value) >= MIN_OPAQUE_SECRET_CHARS:
            yield from _header_parts(value)
        return
    waiting: list[tuple[bool, Any]] = [(secret, nested)]
    while waiting:
        secret, item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend((secret or is_secret_name(str(k).lower()), v) for k, v in item.items())
        elif isinstance(item, list):
            waiting.extend((secret, element) for element in item)
        elif isinstance(item, str) and secret:
            yield from _header_parts(item)
