"""Where a call goes and what goes along: the policy for URLs, headers and credentials."""

from collections.abc import Mapping

from core.types import Call, Refusal, UpstreamCall
from settings.allowed_hosts import check_custom_host
from settings.gateway_keys import find_gateway_keys, is_provider_credential, strip_bearer
from settings.provider_overrides import ProviderRouting, check_url_parameter, template_parameters
from settings.provider_table import (
    CREDENTIAL_HEADERS,
    CUSTOM_HOST_HEADER,
    URL_PARAMETERS,
    WORKERS_AI_NAMESPACES,
    Provider,
)

PATH_PREFIX = "/v1/"

# Headers that end at the gateway: those that steer it, those of one connection (RFC 9110, 7.6.1),
# those that say where the client is, and those that a browser adds on its own.
_DROPPED_HEADERS = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("host", "content-length", "expect", "accept-encoding"),
        *("forwarded", "via", "x-real-ip", "true-client-ip", "cdn-loop"),
        *("cookie", "origin", "referer", "baggage"),
    )
)

# An encoded stream may be held back until a block is full, and the runtime decodes only some
# encodings, so the client's choice does not go on.
_ACCEPT_ENCODING = ("accept-encoding", "identity")

_DROPPED_HEADER_PREFIXES = ("x-portkey-", "langfuse-", "cf-", "x-forwarded-")


def is_anthropic_path(path: str) -> bool:
    """Whether a path belongs to Anthropic's Messages API (and not to the OpenAI-shaped rest)."""
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def named_provider(call: Call) -> str:
    """The provider that a call's `x-portkey-provider` names, else ""."""
    return call.headers.get("x-portkey-provider", "").strip().lower().removeprefix("@")


def provider_in_model(model: str, rules: ProviderRouting) -> str:
    """The provider that a model such as "@groq/llama-3.3-70b" names, else "": those of Workers AI
    ("@cf/…") name none."""
    if not model.startswith("@"):
        return ""
    prefix, slash, _ = model[1:].lower().partition("/")
    return (
        prefix
        if slash and (prefix in rules.providers or prefix not in WORKERS_AI_NAMESPACES)
        else ""
    )


def resolve_provider(call: Call, rules: ProviderRouting, model: str = "") -> str:
    """The provider of a call: the one that `x-portkey-provider` names, else that of the body's
    `model`, else the path's, else the default. It may be one that nobody knows."""
    by_path = "anthropic" if is_anthropic_path(call.path) else rules.default_provider
    return named_provider(call) or provider_in_model(model, rules) or by_path


def build_upstream_call(
    call: Call, rules: ProviderRouting, model: str = ""
) -> UpstreamCall | Refusal:
    """Where a call goes and what goes along.

    `model` is the body's, if it may name a provider. The name goes from the model where it is the
    provider's; a model that names another provider than the header does is left alone.
    """
    chosen = resolve_provider(call, rules, model)
    provider = rules.providers.get(chosen)
    if provider is None:
        known = ", ".join(sorted(rules.providers))
        name = repr(chosen[:64])
        return Refusal(
            400, f"The provider {name} is not known. Known providers: {known}.", quoted_input=name
        )
    path = call.path.removeprefix(PATH_PREFIX)
    if provider.paths and not _serves_path(path, provider.paths):
        served = ", ".join(PATH_PREFIX + served for served in provider.paths)
        return Refusal(404, f"The provider {chosen} serves only {served}.")
    base_url = _resolve_base_url(call, chosen, provider, rules)
    if isinstance(base_url, Refusal):
        return base_url
    return UpstreamCall(
        provider=chosen,
        method=call.method,
        url=_join_url(base_url, path, call.query),
        headers=forwarded_headers(call.headers, provider, path),
        prefixed_model=model if provider_in_model(model, rules) == chosen else "",
        deployment=_url_parameters(call, rules).get("deployment", "")
        if "{deployment}" in provider.base_url + provider.deployment_url
        else "",
    )


def _resolve_base_url(
    call: Call, slug: str, provider: Provider, rules: ProviderRouting
) -> str | Refusal:
    custom_host = call.headers.get(CUSTOM_HOST_HEADER, "").strip()
    if custom_host:
        return check_custom_host(custom_host, rules.allowed_custom_hosts)
    if not provider.base_url:
        return Refusal(
            400,
            f"The provider {slug} runs on a host of your own. Name it in {CUSTOM_HOST_HEADER}, "
            "such as https://llm.example.com/v1.",
        )
    given = _url_parameters(call, rules)
    template = provider.base_url
    needed = template_parameters(template)
    for_deployment = template_parameters(provider.deployment_url)
    if any(name in given for name in for_deployment if name not in needed):
        template, needed = provider.deployment_url, for_deployment
    for name in needed:
        header, variable = URL_PARAMETERS[name]
        if name not in given:
            return Refusal(
                400, f"The provider {slug} needs to know its {name}: {header}, or {variable}."
            )
        try:
            check_url_parameter(name, given[name])
        except ValueError as error:
            return Refusal(400, f"{header} {error}.")
    return template.format_map(given)


def _url_parameters(call: Call, rules: ProviderRouting) -> dict[str, str]:
    """The parameters that a call or a variable gives; the call's own count first."""
    sent = {
        name: call.headers.get(header, "").strip() for name, (header, _) in URL_PARAMETERS.items()
    }
    return {**rules.url_parameters, **{name: value for name, value in sent.items() if value}}


def _serves_path(path: str, served: tuple[str, ...]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in served)


def _join_url(base_url: str, path: str, query: str) -> str:
    """A URL of a base URL, which may end in a query; of a name in both, the client's counts."""
    base_url, _, fixed = base_url.partition("?")
    named = {pair.partition("=")[0] for pair in query.split("&")}
    pairs = [pair for pair in fixed.split("&") if pair and pair.partition("=")[0] not in named]
    whole = "&".join([*pairs, query] if query else pairs)
    return f"{base_url}/{path}?{whole}" if whole else f"{base_url}/{path}"


def forwarded_headers(
    headers: Mapping[str, str], provider: Provider, path: str
) -> tuple[tuple[str, str], ...]:
    """The client's headers that go on to the provider, with at most one credential among them.

    A client may send its credential in `authorization`, `x-api-key` or `api-key`; it goes on in the
    header that the provider reads. Where a client sends several, the one counts that is in that
    header, else `authorization`, else `x-api-key`. What can't be a key stays in `authorization`:
    another scheme than Bearer, and the tokens that the provider reads there. A gateway key is no
    credential, and never goes on.
    """
    # A client may name further headers of its connection; they end here too.
    hop_by_hop = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    forwarded = {
        name: value
        for name, value in headers.items()
        if name not in _DROPPED_HEADERS
        and name not in hop_by_hop
        and not name.startswith(_DROPPED_HEADER_PREFIXES)
        and not find_gateway_keys(value)
    }
    credentials = {name: forwarded.pop(name, "") for name in CREDENTIAL_HEADERS.values()}
    credentials = {
        n: value if is_provider_credential(value) else "" for n, value in credentials.items()
    }
    if path in provider.bearer_paths:
        credential, extra = "bearer", {}
    else:
        credential, extra = provider.credential, provider.headers
    return (
        *{**extra, **forwarded}.items(),
        *_credential_header(credentials, credential, provider.bearer_prefixes),
        _ACCEPT_ENCODING,
    )


def _credential_header(
    sent: Mapping[str, str], credential: str, tokens: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    wanted = CREDENTIAL_HEADERS[credential]
    name = next((name for name in (wanted, *CREDENTIAL_HEADERS.values()) if sent[name]), None)
    if name is None:
        return ()
    key = strip_bearer(sent[name])
    is_bearer = key != sent[name].strip()
    if name == "authorization" and (not is_bearer or key.startswith(tokens)):
        wanted = name
    if name == wanted:
        return ((name, sent[name]),)
    return ((wanted, f"Bearer {key}" if wanted == "authorization" else key),)
