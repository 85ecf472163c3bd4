"""Decides which addresses the gateway may call: base URLs, custom hosts and the paths below them.

A custom host is a base URL that a caller sends. URL parsers often disagree about a hostile text, so
`check_custom_host` does not use a parser. It accepts only plain ASCII in a form that every parser
reads alike, and assembles the URL to call from the parts that it checked. The only IP addresses
that it accepts are those of loopback, in one spelling each. The platform ensures that a host name
does not lead into a private network (`global_fetch_strictly_public` in wrangler.toml).
https://url.spec.whatwg.org/#host-parsing · https://www.iana.org/assignments/special-use-domain-names
"""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from core.safe_path import is_safe_path
from core.types import Refusal
from settings import table

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"

# The last label must begin with a letter: URL parsers take a name that ends in a number for an IP
# address, in odd spellings too (127.1, 0x7f000001).
_NAME = rf"(?:{_LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]"

_HOST = re.compile(_NAME)

_ALLOWED_ENTRY = re.compile(
    rf"(?:(?:\*\.)?{_NAME}|localhost|127\.0\.0\.1|\[::1\])(?::[1-9][0-9]{{0,4}})?"
)

_URL = re.compile(
    r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?"
    r"((?:/[A-Za-z0-9._~-]+)*)/?"
)

# Endings of host names in private networks, and of the services there that return credentials.
_PRIVATE_SUFFIXES = (
    *(".localhost", ".local", ".localdomain", ".internal", ".intranet", ".private"),
    *(".lan", ".home", ".corp", ".arpa"),
)

_DEFAULT_PORTS = {"https": "443", "http": "80"}


def check_base_url(text: str, *, allow_http: bool = False) -> str:
    """Check a base URL that the deployer configured; return it without surrounding white space and
    without "/" at its end.

    Raises ValueError where it is not an https URL, has no host, or has credentials, a query or a
    fragment. An http URL is accepted for loopback hosts and, with `allow_http`, for all hosts.
    """
    text = text.strip().rstrip("/")
    url = urlsplit(text)
    host = url.hostname
    if not host or url.username or url.password or url.query or url.fragment:
        raise ValueError("must be a URL with a host, and without credentials, query or fragment")
    loopback = host in ("localhost", "127.0.0.1", "::1")
    if url.scheme != "https" and not (url.scheme == "http" and (loopback or allow_http)):
        raise ValueError("must be an https URL")
    return text


def parse_allowed_hosts(entries: Collection[str]) -> frozenset[str]:
    """Check the deployer's list of hosts that callers may name as a custom host; return it in lower
    case.

    An entry is an exact host, or `*.example.com` for all names below example.com. It may end in a
    port; without one it allows the default port. Raises ValueError for a malformed name, for a name
    in a private network such as `db.internal`, and for an IP address other than loopback.
    """
    hosts = frozenset(entry.strip().lower().removesuffix(":443") for entry in entries)
    for host in hosts:
        if not _ALLOWED_ENTRY.fullmatch(host) or _is_private_name(host.partition(":")[0]):
            raise ValueError(
                "must be a comma-separated list of public host names, *.example.com for all names "
                f"below one, or for a local run {', '.join(LOOPBACK)}"
            )
    return hosts


def check_custom_host(text: str, allowed: Collection[str]) -> str | Refusal:
    """Check the base URL that a caller sent as a custom host; return the URL to call, or a refusal.

    The URL to call has its host in lower case, no default port and no "/" at its end. The refusal
    has status 400 where the text is not a plain base URL, or is http and not for loopback. It has
    status 403 where `allowed` does not contain the host and port, or the host is private. `allowed`
    is the result of `parse_allowed_hosts`.
    """
    match = _URL.fullmatch(text)
    if not match or not is_safe_path(match[4]):
        return Refusal(
            400,
            "The custom host must be a base URL such as https://llm.example.com/v1: host, port and "
            "path in plain letters, and no credentials, query or fragment.",
        )
    scheme, host, port, path = match[1], match[2].lower(), match[3] or "", match[4]
    name = f"{host}:{port}" if port and port != _DEFAULT_PORTS[scheme] else host
    is_public = _HOST.fullmatch(host) and len(host) <= 253 and not _is_private_name(host)
    is_listed = name in allowed or any(
        entry.startswith("*.") and name.endswith(entry[1:]) for entry in allowed
    )
    if not is_listed or not (is_public or host in LOOPBACK):
        return Refusal(
            403,
            f"The host {name[:128]} is not one that this gateway calls. Whoever runs it names the "
            f"public hosts that it may call in {table.ALLOWED_CUSTOM_HOSTS}.",
            quoted_input=name[:128],
        )
    if scheme == "http" and host not in LOOPBACK:
        return Refusal(400, "The custom host must be an https URL.")
    return f"{scheme}://{name}{path}"


def _is_private_name(host: str) -> bool:
    return host not in LOOPBACK and f".{host}".endswith(_PRIVATE_SUFFIXES)
