"""Which addresses the gateway may call: base URLs, custom hosts, and the paths below them.

A custom host is a caller's text, and two parsers of URLs seldom agree on a hostile one. So nothing
is parsed here: a text that is not plain ASCII of the one form that every parser reads alike is
refused, and what is called is put together from the parts that were checked. Of IP addresses only
the loopback ones are taken, in one spelling each; where a name leads is the platform's to guard
(`global_fetch_strictly_public` in wrangler.toml).
https://url.spec.whatwg.org/#host-parsing · https://www.iana.org/assignments/special-use-domain-names
"""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from core.safe_path import is_safe_path
from core.types import Refusal

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"

# Names that end in a number are IP addresses to a URL parser, however odd: 127.1, 0x7f000001.
_NAME = rf"(?:{_LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]"

_HOST = re.compile(_NAME)

_ALLOWED_ENTRY = re.compile(
    rf"(?:(?:\*\.)?{_NAME}|localhost|127\.0\.0\.1|\[::1\])(?::[1-9][0-9]{{0,4}})?"
)

_URL = re.compile(
    r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?"
    r"((?:/[A-Za-z0-9._~-]+)*)/?"
)

# Names of somebody's own network, and of the services that hand out its credentials.
_PRIVATE_SUFFIXES = (
    *(".localhost", ".local", ".localdomain", ".internal", ".intranet", ".private"),
    *(".lan", ".home", ".corp", ".arpa"),
)

_DEFAULT_PORTS = {"https": "443", "http": "80"}


def check_base_url(text: str, *, allow_http: bool = False) -> str:
    """A base URL of the deployer's own, without a "/" at its end. Raises ValueError."""
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
    """A checked list of hosts: exact ones, and `*.example.com` for all names below one.

    Each may end in a port; without one it stands for the default port. Raises ValueError.
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
    """The base URL that a caller names, if its host is one of `allowed_hosts`."""
    match = _URL.fullmatch(text)
    if not match or not is_safe_path(match[4]):
        return Refusal(
            400,
            "The custom host must be a base URL such as https://llm.example.com/v1: host, port and "
            "path in plain letters, and no credentials, query or fragment.",
        )
    scheme, host, port, path = match[1], match[2].lower(), match[3] or "", match[4]
    name = f"{host}:{port}" if port and port != _DEFAULT_PORTS[scheme] else host
    public = _HOST.fullmatch(host) and len(host) <= 253 and not _is_private_name(host)
    listed = name in allowed or any(
        entry.startswith("*.") and name.endswith(entry[1:]) for entry in allowed
    )
    if not listed or not (public or host in LOOPBACK):
        return Refusal(
            403,
            f"The host {name[:128]} is not one that this gateway calls. Whoever runs it names the "
            "public hosts that it may call in ALLOWED_CUSTOM_HOSTS.",
            quoted_input=name[:128],
        )
    if scheme == "http" and host not in LOOPBACK:
        return Refusal(400, "The custom host must be an https URL.")
    return f"{scheme}://{name}{path}"


def _is_private_name(host: str) -> bool:
    return host not in LOOPBACK and f".{host}".endswith(_PRIVATE_SUFFIXES)
