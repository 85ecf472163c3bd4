"""Whose key pays for an attempt: the caller's own, one of its config's, or the deployment's.

A caller's key goes to the provider that the request names, and to no other. A key of the
deployment's is used only for a caller with a gateway key, and only where the deployment itself says
where it goes: not at a host, nor for an account, that a caller names.
"""

from dataclasses import replace
from urllib.parse import unquote_plus

from core.secret_names import is_secret_name
from core.types import Call, Refusal
from settings.gateway_keys import GatewayKey, is_provider_credential
from settings.load import Settings
from settings.provider_table import (
    ACCOUNT_PARAMETERS,
    CREDENTIAL_HEADERS,
    CUSTOM_HOST_HEADER,
    URL_PARAMETERS,
)
from settings.routing_configs import Target
from upstream.target_request import named_provider, provider_in_model, resolve_provider

_TARGET_HEADERS = {CUSTOM_HOST_HEADER, *(header for header, _ in URL_PARAMETERS.values())}

_ACCOUNT_HEADERS = [URL_PARAMETERS[name][0] for name in ACCOUNT_PARAMETERS]

# What has a secret's name, and is none or is seen to by itself.
_SEPARATELY_HANDLED_HEADERS = {*CREDENTIAL_HEADERS.values(), "idempotency-key"}

# Whose the key in a request's headers is, where that is no one provider.
ANY_PROVIDER, UNKNOWN_PROVIDER = "*", "?"


def credential_provider(call: Call, config: Target, model: str, settings: Settings) -> str | None:
    """The provider whose key a request brings in its headers; None where it brings none.

    `ANY` is whichever is asked, of which a request without targets has only one. `NOBODY` is where
    there are several, and nothing says whose the key is.
    """
    if not any(
        is_provider_credential(call.headers.get(name, "")) for name in CREDENTIAL_HEADERS.values()
    ):
        return None
    if not config.targets:
        return ANY_PROVIDER
    named = named_provider(call) or provider_in_model(model, settings.routing)
    if named:
        return named
    default = resolve_provider(call, settings.routing)
    listed = {leaf.provider or default for leaf in config.leaves}
    return listed.pop() if len(listed) == 1 else UNKNOWN_PROVIDER


def with_target_credential(
    call: Call,
    target: Target,
    model: str,
    caller: GatewayKey | None,
    provider_of_credential: str | None,
    settings: Settings,
) -> Call | Refusal:
    """A call as it goes to a target: with the target's headers, and with the one key that is for
    it. The refusal says why there is none.

    `brought` is what `owner` says of the request.
    """
    named = named_provider(call)
    if target.provider or target.headers:
        call = _with_target_headers(call, target)
    slug = resolve_provider(call, settings.routing, model)
    if target.path != Target.path and slug not in (provider_of_credential, named):
        call = _without_foreign_credentials(call)
    if target.api_key:
        return _with_bearer_key(call, target.api_key)
    if provider_of_credential in (ANY_PROVIDER, slug):
        return call
    stored = settings.provider_keys.get(slug)
    if target.secret:
        stored = settings.config_keys[target.secret]
    if stored is None or call.headers.get(CUSTOM_HOST_HEADER, "").strip():
        if provider_of_credential:
            return Refusal(401, f"There is no key for {slug}: that of the request is not for it.")
        return call  # some providers need no key, the others say so
    if caller is None:
        if settings.gateway_keys is None:
            why = "but no gateway keys are configured (GATEWAY_API_KEYS), so it is for nobody"
        else:
            why = "which is only for who shows a gateway key"
        return Refusal(401, f"This gateway holds a key for {slug}, {why}. Send a key of your own.")
    for header in _ACCOUNT_HEADERS:
        if call.headers.get(header, "").strip() and not (
            target.trusted and header in target.headers
        ):
            return Refusal(
                403,
                f"This gateway's key for {slug} is not for what {header} names. Leave that out, or "
                "send a key of your own.",
            )
    return _with_bearer_key(call, stored)


def _with_target_headers(call: Call, target: Target) -> Call:
    """The call with a target's headers."""
    said = call.headers
    if target.provider:
        # The host and the account that a request names are not for whichever provider comes next.
        said = {name: value for name, value in said.items() if name not in _TARGET_HEADERS}
        said["x-portkey-provider"] = target.provider
    return replace(call, headers={**said, **target.headers})


def _without_foreign_credentials(call: Call) -> Call:
    """The call without what may be another provider's key in a header or a query of its own."""
    headers = {
        name: value
        for name, value in call.headers.items()
        if name in _SEPARATELY_HANDLED_HEADERS
        or name.startswith("x-portkey-")
        or not is_secret_name(name)
    }
    pairs = (pair for pair in call.query.split("&") if pair)
    kept = (p for p in pairs if not is_secret_name(unquote_plus(p.partition("=")[0]).lower()))
    return replace(call, headers=headers, query="&".join(kept))


def _with_bearer_key(call: Call, key: str) -> Call:
    """The call with this key, in place of any that is there."""
    others = {
        name: v for name, v in call.headers.items() if name not in CREDENTIAL_HEADERS.values()
    }
    return replace(call, headers={**others, "authorization": f"Bearer {key}"})
