"""Gateway keys: who may use this deployment.

A key starts with `gw_` and the Worker holds only its SHA-256 (`GATEWAY_API_KEYS`). A key is random
and long, so a plain hash gives nothing away and needs no salt.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import unquote_plus

from vocabulary import Call, Refusal

PREFIX = "gw_"
_KEY = re.compile(r"(?<![A-Za-z0-9_-])gw_[A-Za-z0-9_-]*")
HEADERS = ("x-portkey-api-key", "authorization", "x-api-key", "api-key")


def offered(call: Call) -> list[str]:
    """The gateway keys that a request shows, in whichever header its SDK puts them."""
    values = (credential(call.headers.get(name, "")) for name in HEADERS)
    return [value for value in values if value.startswith(PREFIX)]


def credential(value: str) -> str:
    """A credential without its scheme, from `Authorization: Bearer …` or from a key header."""
    scheme, space, rest = value.strip().partition(" ")
    return rest.strip() if space and scheme.lower() == "bearer" else value.strip()


def mentioned(text: str) -> list[str]:
    """Everything in a header or a query that looks like a gateway key, however it is wrapped."""
    return _KEY.findall(text)


def refuse(call: Call, keys: Mapping[str, str] | None) -> Refusal | None:
    """A refusal where the call may not use this deployment, else None.

    `keys` maps callers' names to key hashes; None asks for no key. A key that is shown must be
    valid even then: it was meant for a gateway, and must not travel on to a provider.
    """
    shown = offered(call)
    hidden = [key for name in HEADERS for key in mentioned(call.headers.get(name, ""))]
    if not all(_valid(key, keys or {}) for key in (*shown, *hidden)):
        return Refusal(401, "The gateway key is not valid. Ask whoever runs this gateway for one.")
    if mentioned(unquote_plus(call.query)):
        return Refusal(401, "A gateway key does not belong in a URL. Send it in a header.")
    if keys is not None and not shown:
        return Refusal(
            401,
            "This gateway asks for a gateway key. Send it as `x-portkey-api-key: gw_…`, "
            "beside the provider's own key in `Authorization` or `x-api-key`.",
        )
    return None


def _valid(key: str, keys: Mapping[str, str]) -> bool:
    digest = hashlib.sha256(key.encode()).hexdigest()
    # Every hash is compared, so that the time taken tells nothing about which one came close.
    matches = [hmac.compare_digest(digest, known) for known in keys.values()]
    return any(matches)
