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

from vocabulary import Call, Refusal

PREFIX = "gw_"
_KEY = re.compile(r"(?<![A-Za-z0-9_-])gw_[A-Za-z0-9_-]*")
# What Portkey's client sends as `Authorization` where it is given no key: the very words.
PLACEHOLDER = "OPENAI_API_KEY"
HEADERS = ("x-portkey-api-key", "authorization", "x-api-key", "api-key")
_HASH = re.compile(r"[0-9a-f]{64}")
_ENTRY = ("hash", "providers", "models", "langfuse")


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

    def refuse(self, provider: str, models: Collection[str] = ()) -> Refusal | None:
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
                    quote=name,
                )
        return None


def read(entries: Mapping[str, Any]) -> tuple[GatewayKey, ...]:
    """The keys of `GATEWAY_API_KEYS`: names to hashes, or to objects with a hash and rights.

    Raises ValueError.
    """
    if not entries:
        raise ValueError("must name at least one caller")
    return tuple(_read(name, entry) for name, entry in entries.items())


def _read(name: str, entry: Any) -> GatewayKey:
    entry = {"hash": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not _HASH.fullmatch(str(entry.get("hash"))):
        raise ValueError("must map each caller's name to the SHA-256 of its key in hex")
    if not entry.keys() <= set(_ENTRY):
        raise ValueError(f"may have these members for a caller: {', '.join(_ENTRY)}")
    for right in ("providers", "models"):
        listed = entry.get(right)
        # A right that nobody can read must not become the right to everything.
        if right in entry and not (_are_texts(listed) and listed):
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


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def secret_name(provider: str) -> str:
    """The name of the secret that holds a provider's key: "x-ai" has X_AI_API_KEY."""
    return f"{re.sub('[^A-Z0-9]', '_', provider.upper())}_API_KEY"


def offered(call: Call) -> list[str]:
    """The gateway keys that a request shows, in whichever header its SDK puts them."""
    values = (credential(call.headers.get(name, "")) for name in HEADERS)
    return [value for value in values if value.startswith(PREFIX)]


def credential(value: str) -> str:
    """A credential without its scheme, from `Authorization: Bearer …` or from a key header."""
    scheme, space, rest = value.strip().partition(" ")
    return rest.strip() if space and scheme.lower() == "bearer" else value.strip()


def is_providers(value: str) -> bool:
    """Whether a credential's header may hold a provider's key."""
    key = credential(value) if value else ""  # as most of these headers are
    return key.lower() not in ("", "bearer") and key != PLACEHOLDER and not mentioned(value)


def mentioned(text: str) -> list[str]:
    """Everything in a header or a query that looks like a gateway key, however it is wrapped."""
    return _KEY.findall(text) if PREFIX in text else []  # every header of every call is looked at


def identify(
    call: Call, known: Collection[GatewayKey] | None, *, anonymous: bool = False
) -> GatewayKey | Refusal | None:
    """The key that a call shows; None for a call that needs none; else a refusal.

    `known` are the deployment's keys; None asks for none, and neither does `anonymous`. A key that
    is shown must be valid even then: it was meant for a gateway, and must not travel on to a
    provider.
    """
    shown = offered(call)
    hidden = [key for name in HEADERS for key in mentioned(call.headers.get(name, ""))]
    owners = [_owner(key, known or ()) for key in dict.fromkeys((*shown, *hidden))]
    if not all(owners):
        return Refusal(401, "The gateway key is not valid. Ask whoever runs this gateway for one.")
    if mentioned(unquote_plus(call.query)):
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


def _owner(key: str, known: Collection[GatewayKey]) -> GatewayKey | None:
    digest = hashlib.sha256(key.encode()).hexdigest()
    # Every hash is compared, so that the time taken tells nothing about which one came close.
    matches = [
        gateway_key for gateway_key in known if hmac.compare_digest(digest, gateway_key.hash)
    ]
    return matches[0] if matches else None
