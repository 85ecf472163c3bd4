"""The provider, URL and headers of a call: what of a client's request is forwarded, and where."""

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

# Headers that are not forwarded, besides those with a prefix below.
_DROPPED_HEADERS = frozenset(
    (
        # Headers of one connection: RFC 9110, 7.6.1.
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        # Headers that apply only to the client's own request; `fetch` sets those it needs.
        *("host", "content-length", "expect", "accept-encoding"),
        # Headers that proxies add about the client.
        *("forwarded", "via", "x-real-ip", "true-client-ip", "cdn-loop"),
        # Headers that a browser adds on its own, and trace attributes for the gateway.
        *("cookie", "origin", "referer", "baggage"),
    )
)

# Replaces the client's own: an encoded stream may be held back until a block is full, and the
# runtime decodes only some encodings.
_ACCEPT_ENCODING = ("accept-encoding", "identity")

# Prefixes of headers that are not forwarded: those for the gateway, and those that proxies add.
_DROPPED_HEADER_PREFIXES = ("x-portkey-", "langfuse-", "cf-", "x-forwarded-")


def is_anthropic_path(path: str) -> bool:
    """Whether a URL path belongs to Anthropic's Messages API: "/v1/messages", or a path below it.
    Every other path belongs to OpenAI's API."""
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def named_provider(call: Call) -> str:
    """The slug in a call's `x-portkey-provider` header, in lower case and without a leading "@"; ""
    without that header."""
    return call.headers.get("x-portkey-provider", "").strip().lower().removeprefix("@")


def provider_in_model(model: str, rules: ProviderRouting) -> str:
    """The slug in a model such as "@groq/llama-3.3-70b", in lower case; "" for a model without one.

    "@cf/…" and "@hf/…" are names of Workers AI's models and contain no slug, unless the deployment
    defines a provider with that slug. The result may be absent from `rules.providers`.
    """
    if not model.startswith("@"):
        return ""
    prefix, slash, _ = model[1:].lower().partition("/")
    return (
        prefix
        if slash and (prefix in rules.providers or prefix not in WORKERS_AI_NAMESPACES)
        else ""
    )


def default_provider(call: Call, rules: ProviderRouting) -> str:
    """The slug of the provider of a call that names none: "anthropic" for a path of its API, else
    the deployment's default."""
    return "anthropic" if is_anthropic_path(call.path) else rules.default_provider


def resolve_provider(call: Call, named: str, rules: ProviderRouting, model: str = "") -> str:
    """Return the slug of the provider to call: `named`, which is the one in the headers or in the
    target of a config, else the one in `model` ("@groq/…"), else the default one.

    `model` is the body's model where it may name a provider, else "". The result may be absent from
    `rules.providers`.
    """
    return named or provider_in_model(model, rules) or default_provider(call, rules)


def build_upstream_call(
    call: Call, chosen: str, rules: ProviderRouting, model: str = ""
) -> UpstreamCall | Refusal:
    """Return the request to a provider, with its URL and headers. `chosen` is its slug.

    Returns a `Refusal` where the provider is unknown or does not serve the path, where a parameter
    of its URL is missing or malformed, or where the custom host is not allowed.

    `model` is the body's model where it may name a provider ("@groq/…"), else "". It becomes the
    result's `prefixed_model` if it names the provider that is called, so that its prefix is removed
    from the body. Where the header names another provider, the model is sent as it is.
    """
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
    """Return the call's custom host if it names one, else the provider's base URL with its
    parameters filled in. The result may end in a query.

    Returns a `Refusal` where the custom host is not allowed, where the provider has no base URL of
    its own, or where a parameter is missing or malformed.
    """
    custom_host = call.headers.get(CUSTOM_HOST_HEADER, "").strip()
    if custom_host:
        return check_custom_host(custom_host, rules.allowed_custom_hosts)
    if not provider.base_url:
        return Refusal(
            400,
            f"The provider {slug} runs on a host of your own. Name it in {CUSTOM_HOST_HEADER}, "
            "such as https://llm.example.com/v1.",
        )
    parameters = _url_parameters(call, rules)
    template = provider.base_url
    required = template_parameters(template)
    for_deployment = template_parameters(provider.deployment_url)
    # A parameter that only the deployment URL has selects that URL.
    if any(name in parameters for name in for_deployment if name not in required):
        template, required = provider.deployment_url, for_deployment
    for name in required:
        header, variable = URL_PARAMETERS[name]
        if name not in parameters:
            return Refusal(
                400, f"The provider {slug} needs to know its {name}: {header}, or {variable}."
            )
        try:
            check_url_parameter(name, parameters[name])
        except ValueError as error:
            return Refusal(400, f"{header} {error}.")
    return template.format_map(parameters)


def _url_parameters(call: Call, rules: ProviderRouting) -> dict[str, str]:
    """The values for the parameters of base URLs as `{name: value}`, such as Azure's `resource`:
    from the call's headers, else from the deployment's variables. A parameter without a value is
    absent."""
    sent = {
        name: call.headers.get(header, "").strip() for name, (header, _) in URL_PARAMETERS.items()
    }
    return {**rules.url_parameters, **{name: value for name, value in sent.items() if value}}


def _serves_path(path: str, served: tuple[str, ...]) -> bool:
    """Whether `path` is one of the paths in `served`, or below one of them. All are without
    "/v1/"."""
    return any(path == parent or path.startswith(f"{parent}/") for parent in served)


def _join_url(base_url: str, path: str, query: str) -> str:
    """The URL of `path` below `base_url`, with the client's `query`. A query at the end of
    `base_url` is kept, except for members whose names the client's query has too."""
    base_url, _, base_query = base_url.partition("?")
    client_names = {pair.partition("=")[0] for pair in query.split("&")}
    pairs = [
        pair
        for pair in base_query.split("&")
        if pair and pair.partition("=")[0] not in client_names
    ]
    merged = "&".join([*pairs, query] if query else pairs)
    return f"{base_url}/{path}?{merged}" if merged else f"{base_url}/{path}"


def forwarded_headers(
    headers: Mapping[str, str], provider: Provider, path: str
) -> tuple[tuple[str, str], ...]:
    """Return the headers of a request to a provider as (name, value) pairs: those of the client
    that are forwarded, with at most one credential, and those that the provider requires.

    `headers` are the client's by lower-case name. Headers for the gateway, for one connection, and
    those that proxies or browsers add are not forwarded, nor is any header with a gateway key.
    `path` is without "/v1/"; it may be one for which the provider requires a Bearer key.

    A client may send its credential in `authorization`, `x-api-key` or `api-key`; it is forwarded
    in the header that the provider reads. Of several, the one in that header is used, else
    `authorization`, else `x-api-key`. An `authorization` that is not an API key stays there: one
    with another scheme than Bearer, or a token with one of the provider's `bearer_prefixes`.
    """
    # `connection` may name further headers of one connection, which are not forwarded either.
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
        name: value if is_provider_credential(value) else "" for name, value in credentials.items()
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
    sent: Mapping[str, str], credential: str, bearer_prefixes: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Return the header with the client's credential, as a tuple of one (name, value) pair; ()
    where the client sent no credential.

    `sent` maps each credential header to its value, "" where it has none. `credential` is the key
    in `CREDENTIAL_HEADERS` of the header that the provider reads. An `authorization` that is not an
    API key stays in its header: one with another scheme than Bearer, or a token that begins with
    one of `bearer_prefixes`.
    """
    target = CREDENTIAL_HEADERS[credential]
    name = next((name for name in (target, *CREDENTIAL_HEADERS.values()) if sent[name]), None)
    if name is None:
        return ()
    key = strip_bearer(sent[name])
    is_bearer = key != sent[name].strip()
    if name == "authorization" and (not is_bearer or key.startswith(bearer_prefixes)):
        target = name
    if name == target:
        return ((name, sent[name]),)
    return ((target, f"Bearer {key}" if target == "authorization" else key),)
