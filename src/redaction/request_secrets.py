"""Which values of a request are credentials, and which headers may be recorded."""

import base64
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote_plus

from core import strict_json
from core.limits import MIN_OPAQUE_SECRET_CHARS, MIN_SECRET_CHARS
from core.secret_names import is_secret_name
from core.strict_json import JsonObject, JsonValue
from redaction.redactor import REDACTED
from settings.gateway_keys import PORTKEY_PLACEHOLDER
from settings.provider_table import URL_PARAMETERS
from settings.routing_configs import CONFIG_HEADER, CONFIG_NAME

# `x-portkey-*` headers that contain no secret. Any other may contain one: a config, for example,
# may contain the keys of providers.
RECORDED_HEADERS = frozenset(
    f"x-portkey-{name}"
    for name in (
        *("provider", "user-id", "session-id", "metadata", "trace"),
        *("trace-id", "span-id", "parent-span-id", "span-name"),
        *("cache", "cache-force-refresh", "retry-count", "retry-attempts", "request-timeout"),
        # Sent by Portkey's client about itself.
        *("package-version", "runtime", "runtime-version", "strict-open-ai-compliance"),
    )
)

# Headers with parts of a provider's URL are not recorded, but contain no secret either. An Azure
# deployment often has the name of its model, which must not be removed from a trace.
_NOT_SECRET_HEADERS = RECORDED_HEADERS | {header for header, _ in URL_PARAMETERS.values()}

_SEPARATOR = re.compile(r"""[\s,;="':]+""")


def recorded_headers(headers: Mapping[str, str]) -> JsonObject:
    """The `x-portkey-*` headers of a request, as a trace records them: {lower-case name: value}.
    The value of a header that is not in `RECORDED_HEADERS` is `REDACTED`, since it may contain a
    secret. `headers` are all headers of the request by lower-case name."""
    return {
        name: value if name in RECORDED_HEADERS else REDACTED
        for name, value in headers.items()
        if name.startswith("x-portkey-")
    }


def secrets_of_request(headers: Mapping[str, str], query: str) -> tuple[str, ...]:
    """All values in a request's headers and query that are taken for credentials, and their parts,
    such as the key in "Bearer key". `headers` are keyed by lower-case name.

    A value is taken for a credential where its name indicates one (`is_secret_name`). In the query
    and in an `x-portkey-*` header that may contain a secret, any other value of at least
    `MIN_OPAQUE_SECRET_CHARS` is too; of JSON in such a header, only the members whose names
    indicate a credential. Values shorter than `MIN_SECRET_CHARS` are left out: they are
    placeholders such as "none" or "test", which also occur in ordinary text.
    """
    found: set[str] = set()
    for name, value in headers.items():
        if name.startswith("x-portkey-"):
            # A config's name is no secret: it is one that the deployment defines, or the call is
            # refused.
            is_config_name = name == CONFIG_HEADER and CONFIG_NAME.fullmatch(value.strip())
            if name not in _NOT_SECRET_HEADERS and not is_config_name:
                found.update(_secrets_in(value, is_secret_name(name.removeprefix("x-portkey-"))))
        elif is_secret_name(name):
            found.update(_header_parts(value))
    for pair in re.split("[&;]", query) if query else ():
        name, _, value = pair.rpartition("=")
        if is_secret_name(unquote_plus(name).lower()) or len(value) >= MIN_OPAQUE_SECRET_CHARS:
            found.update((value, unquote_plus(value)))
    return tuple(value for value in found - {PORTKEY_PLACEHOLDER} if len(value) >= MIN_SECRET_CHARS)


def _header_parts(value: str) -> Iterator[str]:
    """A header's value, its parts, and for HTTP's Basic scheme also the decoded credential. Parts
    are separated as in "Bearer key", "a=1; b=2" and 'Token token="key"'."""
    yield value
    for part in _SEPARATOR.split(value):
        yield part
        yield from _basic_credentials(part)


def _basic_credentials(encoded: str) -> tuple[str, ...]:
    """("user:password", "password") for a credential of HTTP's Basic scheme in base64. Empty where
    `encoded` is not such a credential."""
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return ()
    return (pair, pair.partition(":")[2]) if ":" in pair else ()


def _secrets_in(value: str, is_secret: bool) -> Iterator[str]:
    """The values in a header's value that are taken for credentials, and their parts. `is_secret`
    is True where the header's name indicates a credential.

    In a JSON object or list these are the texts and integers below a member whose name indicates
    one, at any depth; all of them if `is_secret`. Any other value is itself taken for a credential
    if `is_secret` or if it has at least `MIN_OPAQUE_SECRET_CHARS`.
    """
    try:
        nested = strict_json.parse(value)
    except ValueError:
        nested = value
    if not isinstance(nested, dict | list):
        if is_secret or len(value) >= MIN_OPAQUE_SECRET_CHARS:
            yield from _header_parts(value)
            yield str(nested)  # without the quotes of a JSON string
        return
    pending: list[tuple[bool, JsonValue]] = [(is_secret, nested)]
    while pending:
        is_secret, item = pending.pop()
        if isinstance(item, dict):
            pending.extend(
                (is_secret or is_secret_name(str(name).lower()), member)
                for name, member in item.items()
            )
        elif isinstance(item, list):
            pending.extend((is_secret, element) for element in item)
        elif isinstance(item, str | int) and is_secret:
            yield from _header_parts(str(item))
