"""Gateway keys: who may use this deployment, and for what.

A key starts with `gw_` and the Worker holds only its SHA-256 (`GATEWAY_API_KEYS`). A key is random
and long, so a plain hash gives nothing away and needs no salt.
"""

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote_plus

from core.types import Call, Refusal

KEY_PREFIX = "gw_"

_KEY_PATTERN = re.compile(r"(?<![A-Za-z0-9_-])gw_[A-Za-z0-9_-]*")

# What Portkey's client sends as `Authorization` where it is given no key: the very words.
PORTKEY_PLACEHOLDER = "OPENAI_API_KEY"

KEY_HEADERS = ("x-portkey-api-key", "authorization", "x-api-key", "api-key")

_HASH = re.compile(r"[0-9a-f]{64}")

_ENTRY_MEMBERS = ("hash", "providers", "models", "langfuse")


@dataclass(frozen=True)
class GatewayKey:
    """A key that opens this deployment.

    `name` is its holder's, as traces show it, and `hash` the SHA-256 of the key in hex. `providers`
    are the only slugs and `models` the only models that it opens, as names in which `*` stands for
    anything; None for all. `langfuse` names the destination of its traces.
    """

    name: str
    hash: str = field(repr=False)
    providers: frozenset[str] | None = None
    models: tuple[str, ...] | None = None
    langfuse: str = "default"

    def refusal_for(self, provider: str, models: Collection[str] = ()) -> Refusal | None:
        """A refusal where the key does not open this provider, or one of these models."""
        if self.providers is not None and provider not in self.providers:
            opened = ", ".join(sorted(self.providers))
            return Refusal(403, f"This gateway key does not open {provider}, only {opened}.")
        # Of what a pattern may hold only "*" is one's own; a model may be called "x[1m]".
        patterns = [
            pattern.replace("[", "[[]").replace("?", "[?]") for pattern in self.models or ()
        ]
        for model in models if self.models is not None else ():
            if not any(fnmatchcase(model, pattern) for pattern in patterns):
                opened = ", ".join(self.models or ())
                name = model[:128]
                return Refusal(
                    403,
                    f"This gateway key does not open the model {name}, only {opened}.",
                    quoted_input=name,
                )
        return None


def parse_gateway_keys(entries: Mapping[str, Any]) -> tuple[GatewayKey, ...]:
    """The keys of `GATEWAY_API_KEYS`: names to hashes, or to objects with a hash and rights.

    Raises ValueError.
    """
    if not entries:
        raise ValueError("must name at least one caller")
    return tuple(_parse_entry(name, entry) for name, entry in entries.items())


def _parse_entry(name: str, entry: Any) -> GatewayKey:
    entry = {"hash": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not _HASH.fullmatch(str(entry.get("hash"))):
        raise ValueError("must map each caller's name to the SHA-256 of its key in hex")
    if not entry.keys() <= set(_ENTRY_MEMBERS):
        raise ValueError(f"may have these members for a caller: {', '.join(_ENTRY_MEMBERS)}")
    for right in ("providers", "models"):
        listed = entry.get(right)
        # A right that nobody can read must not become the right to everything.
        if right in entry and not (_is_text_list(listed) and listed):
            raise ValueError(f"must have a list of names as a caller's {right}")
    langfuse = entry.get("langfuse", GatewayKey.langfuse)
    if not isinstance(langfuse, str) or not langfuse:
        raise ValueError("must have the name of a project as a caller's langfuse")
    return GatewayKey(
        name,
        entry["hash"],
        frozenset(slug.lower() for slug in entry["providers"]) if "providers" in entry else None,
        tuple(entry["models"]) if "models" in entry else None,
        langfuse,
    )


def _is_text_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def keys_in_headers(call: Call) -> list[str]:
    """The gateway keys that a request shows, in whichever header its SDK puts them."""
    values = (strip_bearer(call.headers.get(name, "")) for name in KEY_HEADERS)
    return [value for value in values if value.startswith(KEY_PREFIX)]


def strip_bearer(value: str) -> str:
    """A credential without its scheme, from `Authorization: Bearer …` or from a key header."""
    scheme, space, rest = value.strip().partition(" ")
    return rest.strip() if space and scheme.lower() == "bearer" else value.strip()


def is_provider_credential(value: str) -> bool:
    """Whether a credential's header may hold a provider's key."""
    key = strip_bearer(value) if value else ""  # as most of these headers are
    return (
        key.lower() not in ("", "bearer")
        and key != PORTKEY_PLACEHOLDER
        and not find_gateway_keys(value)
    )


def find_gateway_keys(text: str) -> list[str]:
    """Everything in a header or a query that looks like a gateway key, however it is wrapped."""
    return (
        _KEY_PATTERN.findall(text) if KEY_PREFIX in text else []
    )  # every header of every call is looked at


def authenticate(
    call: Call, known: Collection[GatewayKey] | None, *, anonymous: bool = False
) -> GatewayKey | Refusal | None:
    """The key that a call shows; None for a call that needs none; else a refusal.

    `known` are the deployment's keys; None asks for none, and neither does `anonymous`. A key that
    is shown must be valid even then: it was meant for a gateway, and must not travel on to a
    provider.
    """
    shown = keys_in_headers(call)
    hidden = [key for name in KEY_HEADERS for key in find_gateway_keys(call.headers.get(name, ""))]
    owners = [_find_key(key, known or ()) for key in dict.fromkeys((*shown, *hidden))]
    if not all(owners):
        return Refusal(401, "The gateway key is not valid. Ask whoever runs this gateway for one.")
    if find_gateway_keys(unquote_plus(call.query)):
        return Refusal(401, "A gateway key does not belong in a URL. Send it in a header.")
    if len(owners) > 1:
        return Refusal(401, "The request shows two gateway keys. Send the one that is meant.")
    if shown:
        return owners[0]
    if known is None or anonymous:
        return None
    return Refusal(
        401,
        "This gateway asks for a gateway key: send gw_… where your SDK puts its API key, or as "
        "`x-portkey-api-key` beside a provider's key of your own.",
    )


def _find_key(key: str, known: Collection[GatewayKey]) -> GatewayKey | None:
    digest = hashlib.sha256(key.encode()).hexdigest()
    # Every hash is compared, so that the time taken tells nothing about which one came close.
    matches = [
        gateway_key for gateway_key in known if hmac.compare_digest(digest, gateway_key.hash)
    ]
    return matches[0] if matches else None
