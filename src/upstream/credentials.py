"""Which credential an attempt sends: the caller's, one from its config, or the deployment's.

A caller's credential goes to the provider that the request names, and to no other. A key of the
deployment is used only for a caller with a gateway key, and only where the deployment itself
configures the destination: not for a host or an account that the caller names.
"""

from dataclasses import replace
from urllib.parse import unquote_plus

from core.secret_names import is_secret_name
from core.types import Call, Refusal
from settings.gateway_keys import GatewayKey, is_provider_credential
from settings.load import Settings
from settings.provider_overrides import ProviderRouting
from settings.provider_table import (
    ACCOUNT_PARAMETERS,
    CREDENTIAL_HEADERS,
    CUSTOM_HOST_HEADER,
    URL_PARAMETERS,
)
from settings.routing_configs import Target
from upstream.target_request import default_provider, provider_in_model

# Headers that name a host or a parameter of a provider's URL, such as an account.
_TARGET_HEADERS = {CUSTOM_HOST_HEADER, *(header for header, _ in URL_PARAMETERS.values())}

_ACCOUNT_HEADERS = [URL_PARAMETERS[name][0] for name in ACCOUNT_PARAMETERS]

# Headers with a secret's name that `without_foreign_credentials` keeps: credential headers are
# handled separately, and an idempotency key is no secret.
_SEPARATELY_HANDLED_HEADERS = {*CREDENTIAL_HEADERS.values(), "idempotency-key"}

# Values of `credential_provider` that are not a provider's slug.
ANY_PROVIDER, UNKNOWN_PROVIDER = "*", "?"


def credential_provider(
    call: Call, config: Target, named: str, model: str, rules: ProviderRouting
) -> str | None:
    """Return the slug of the provider that the credential in the client's headers is for. None
    where the headers contain no credential for a provider.

    The client may name the provider: in its headers (`named`, else "") or in `model`. Otherwise it
    is the one that all targets of `config` have in common, where a target without a provider has
    the call's default one. `model` is the body's model where it may name a provider ("@groq/…"),
    else "".

    Two results are not slugs. `ANY_PROVIDER`: the config has no list of targets, so the request can
    call only one provider. `UNKNOWN_PROVIDER`: the targets have several providers, and nothing
    names the one that the credential is for.
    """
    if not any(
        is_provider_credential(call.headers.get(name, "")) for name in CREDENTIAL_HEADERS.values()
    ):
        return None
    if not config.targets:
        return ANY_PROVIDER
    named = named or provider_in_model(model, rules)
    if named:
        return named
    listed = {leaf.provider or default_provider(call, rules) for leaf in config.leaves}
    return listed.pop() if len(listed) == 1 else UNKNOWN_PROVIDER


def with_target_credential(
    call: Call,
    target: Target,
    slug: str,
    caller: GatewayKey | None,
    provider_of_credential: str | None,
    settings: Settings,
) -> Call | Refusal:
    """Return a copy of the call, which has the headers of `target`, with the credential that is
    sent to it. `slug` is the provider that is called.

    The credential is the target's own `api_key`; else the client's, if it is for this provider;
    else the key that the deployment stores for the target or its provider. A stored key is never
    sent to a custom host. Where none of these exists, no credential is sent: some providers need
    none.

    Returns a `Refusal` where the client's credential is for another provider and no other can be
    used. It also refuses to use a stored key where `caller` is None, which means that the call has
    no gateway key, and where the client's headers select the account.

    `provider_of_credential` is the result of `credential_provider`.
    """
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
        # Some providers require no key; the others refuse the call themselves.
        return call
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


def with_target_headers(call: Call, target: Target) -> Call:
    """A copy of the call with a target's `x-portkey-*` headers set over the client's. Where the
    target has a provider, it also replaces the provider, host and URL parameters that the client
    named."""
    if not (target.provider or target.headers):
        return call
    headers = call.headers
    if target.provider:
        # The host and the account in the request's headers are for the provider that the request
        # names, which may be another one.
        headers = {name: value for name, value in headers.items() if name not in _TARGET_HEADERS}
        headers["x-portkey-provider"] = target.provider
    return replace(call, headers={**headers, **target.headers})


def without_foreign_credentials(call: Call) -> Call:
    """A copy of the call without the headers and query members whose names suggest a secret: they
    may contain another provider's key. Credential headers, `idempotency-key` and `x-portkey-*`
    headers stay."""
    headers = {
        name: value
        for name, value in call.headers.items()
        if name in _SEPARATELY_HANDLED_HEADERS
        or name.startswith("x-portkey-")
        or not is_secret_name(name)
    }
    pairs = (pair for pair in call.query.split("&") if pair)
    kept = (
        pair for pair in pairs if not is_secret_name(unquote_plus(pair.partition("=")[0]).lower())
    )
    return replace(call, headers=headers, query="&".join(kept))


def _with_bearer_key(call: Call, key: str) -> Call:
    """A copy of the call with `Authorization: Bearer <key>` as its only credential header."""
    others = {
        name: value
        for name, value in call.headers.items()
        if name not in CREDENTIAL_HEADERS.values()
    }
    return replace(call, headers={**others, "authorization": f"Bearer {key}"})
