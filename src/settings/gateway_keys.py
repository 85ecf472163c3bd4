"""Gateway keys: parsing, rights, and authentication of a call.

A key starts with `gw_`. The Worker stores only its SHA-256 (`GATEWAY_API_KEYS`). A key is random
and long, so a plain hash reveals nothing and needs no salt.
"""

import hashlib
import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import unquote_plus

from core.json_values import as_list, as_object
from core.strict_json import JsonObject, JsonValue
from core.types import Call, Refusal

KEY_PREFIX = "gw_"

_KEY_PATTERN = re.compile(r"(?<![A-Za-z0-9_-])gw_[A-Za-z0-9_-]*")

# Portkey's client sends exactly this text as `authorization` where it has no key.
PORTKEY_PLACEHOLDER = "OPENAI_API_KEY"

# The headers in which SDKs send an API key.
KEY_HEADERS = ("x-portkey-api-key", "authorization", "x-api-key", "api-key")

_HASH = re.compile(r"[0-9a-f]{64}")

_ENTRY_MEMBERS = ("hash", "providers", "models", "langfuse")


@dataclass(frozen=True)
class GatewayKey:
    """A key with which a caller may use this deployment, and its rights.

    `name` identifies the caller in traces, and `hash` is the SHA-256 of the key in hex. `providers`
    are the slugs, and `models` the model names, that the key may be used for; None allows all. In
    `models`, `*` stands for any characters. `langfuse` is the name of the Langfuse project for its
    traces, "default" for that of `LANGFUSE_PUBLIC_KEY`.
    """

    name: str
    hash: str = field(repr=False)
    providers: frozenset[str] | None = None
    models: tuple[str, ...] | None = None
    langfuse: str = "default"

    def refusal_for(self, provider: str, models: Collection[str] = ()) -> Refusal | None:
        """Check whether the key may be used for a call. Return None where it may be, and a refusal
        with status 403 otherwise.

        `provider` is the slug of the provider to call. `models` are all models that the call names:
        the key must cover each of them.
        """
        if self.providers is not None and provider not in self.providers:
            allowed = ", ".join(sorted(self.providers))
            return Refusal(403, f"This gateway key does not open {provider}, only {allowed}.")
        # Only "*" is a wildcard in a right. The other special characters of `fnmatch` are escaped,
        # since the name of a model may contain them ("x[1m]").
        patterns = [
            pattern.replace("[", "[[]").replace("?", "[?]") for pattern in self.models or ()
        ]
        for model in models if self.models is not None else ():
            if not any(fnmatchcase(model, pattern) for pattern in patterns):
                allowed = ", ".join(self.models or ())
                name = model[:128]
                return Refusal(
                    403,
                    f"This gateway key does not open the model {name}, only {allowed}.",
                    quoted_input=name,
                )
        return None


def parse_gateway_keys(entries: JsonObject) -> tuple[GatewayKey, ...]:
    """Parse the deployment's gateway keys, as `GATEWAY_API_KEYS` defines them.

    `entries` maps the name of each caller to the SHA-256 of its key in hex, or to an object
    {"hash": …, "providers": […], "models": […], "langfuse": …} of which only "hash" is required.
    Raises ValueError where there is no entry, or a malformed one.
    """
    if not entries:
        raise ValueError("must name at least one caller")
    return tuple(_parse_entry(name, entry) for name, entry in entries.items())


def _parse_entry(name: str, entry: JsonValue) -> GatewayKey:
    """Parse one entry of `GATEWAY_API_KEYS`: a hash in hex, or an object with it and the key's
    rights. Raises ValueError where it is malformed."""
    members: JsonObject = {"hash": entry} if isinstance(entry, str) else as_object(entry)
    key_hash = members.get("hash")
    if not isinstance(key_hash, str) or not _HASH.fullmatch(key_hash):
        raise ValueError("must map each caller's name to the SHA-256 of its key in hex")
    if not members.keys() <= set(_ENTRY_MEMBERS):
        raise ValueError(f"may have these members for a caller: {', '.join(_ENTRY_MEMBERS)}")
    providers, models = (_read_right(members, right) for right in ("providers", "models"))
    langfuse = members.get("langfuse", GatewayKey.langfuse)
    if not isinstance(langfuse, str) or not langfuse:
        raise ValueError("must have the name of a project as a caller's langfuse")
    return GatewayKey(
        name,
        key_hash,
        None if providers is None else frozenset(slug.lower() for slug in providers),
        None if models is None else tuple(models),
        langfuse,
    )


def _read_right(members: JsonObject, right: str) -> list[str] | None:
    """The names that the member `right` of an entry lists; None where the entry has no such member.
    Raises ValueError where it is not a list of names, or empty."""
    if right not in members:
        return None
    names = [name for name in as_list(members[right]) if isinstance(name, str) and name]
    # A malformed right must not become the right to everything.
    if not names or names != members[right]:
        raise ValueError(f"must have a list of names as a caller's {right}")
    return names


def keys_in_headers(call: Call) -> list[str]:
    """The gateway keys that a call sends: the values of `KEY_HEADERS` that start with `gw_`,
    without "Bearer". They need not be valid, and a key is repeated where two headers contain it."""
    values = (strip_bearer(call.headers.get(name, "")) for name in KEY_HEADERS)
    return [value for value in values if value.startswith(KEY_PREFIX)]


def strip_bearer(value: str) -> str:
    """The value of a credential header, without the scheme "Bearer" and surrounding white space."""
    scheme, space, rest = value.strip().partition(" ")
    return rest.strip() if space and scheme.lower() == "bearer" else value.strip()


def is_provider_credential(value: str) -> bool:
    """Whether the value of a credential header may be a provider's key. It may be one if it is not
    empty, not "Bearer" alone, not `PORTKEY_PLACEHOLDER`, and contains no gateway key."""
    key = strip_bearer(value) if value else ""  # most of these headers are empty
    return (
        key.lower() not in ("", "bearer")
        and key != PORTKEY_PLACEHOLDER
        and not find_gateway_keys(value)
    )


def find_gateway_keys(text: str) -> list[str]:
    """All parts of a header's value or a query that look like a gateway key, valid or not: `gw_`
    and the letters, digits, "-" and "_" after it, where none of these is before it."""
    # The quick test comes first, since every header of every call is searched.
    return _KEY_PATTERN.findall(text) if KEY_PREFIX in text else []


def authenticate(
    call: Call, gateway_keys: Collection[GatewayKey] | None, *, anonymous: bool = False
) -> GatewayKey | Refusal | None:
    """Return the deployment's gateway key that a call sends, None where it sends none and needs
    none, or a refusal with status 401.

    `gateway_keys` are the keys of the deployment. A call needs no key where they are None, or where
    `anonymous` is set. Refused are calls without a key that need one, and calls with an invalid
    key, with two different keys, or with a key in the query. An invalid key is refused even where
    none is needed: it was meant for a gateway, and must not be forwarded to a provider.
    """
    sent_keys = keys_in_headers(call)
    contained_keys = [
        key for name in KEY_HEADERS for key in find_gateway_keys(call.headers.get(name, ""))
    ]
    matches = [
        _find_key(key, gateway_keys or ()) for key in dict.fromkeys((*sent_keys, *contained_keys))
    ]
    if not all(matches):
        return Refusal(401, "The gateway key is not valid. Ask whoever runs this gateway for one.")
    if find_gateway_keys(unquote_plus(call.query)):
        return Refusal(401, "A gateway key does not belong in a URL. Send it in a header.")
    if len(matches) > 1:
        return Refusal(401, "The request shows two gateway keys. Send the one that is meant.")
    if sent_keys:
        return matches[0]
    if gateway_keys is None or anonymous:
        return None
    return Refusal(
        401,
        "This gateway asks for a gateway key: send gw_… where your SDK puts its API key, or as "
        "`x-portkey-api-key` beside a provider's key of your own.",
    )


def _find_key(key: str, gateway_keys: Collection[GatewayKey]) -> GatewayKey | None:
    """The one of `gateway_keys` whose hash is that of the text `key`, None where there is none."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    # Every hash is compared in constant time, so that the duration does not reveal a near match.
    matches = [
        gateway_key for gateway_key in gateway_keys if hmac.compare_digest(digest, gateway_key.hash)
    ]
    return matches[0] if matches else None
