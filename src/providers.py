"""Where a call goes: the provider table, and the policy for URLs and headers.

Base URLs are from the providers' own documentation, looked up 2026-11.
"""

from collections.abc import Mapping

import keys
from vocabulary import Call, Refusal, UpstreamCall

BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "google": "https://generativelanguage.googleapis.com/v1beta/openai",
    "groq": "https://api.groq.com/openai/v1",
    "mistral-ai": "https://api.mistral.ai/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "x-ai": "https://api.x.ai/v1",
}
PREFIX = "/v1/"

# Headers that end at the gateway: those that steer it, those of one connection (RFC 9110, 7.6.1),
# those that say where the client is, and those that a browser adds on its own.
_DROPPED = frozenset(
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
_DROPPED_PREFIXES = ("x-portkey-", "langfuse-", "cf-", "x-forwarded-")


def speaks_anthropic(path: str) -> bool:
    """Whether a path belongs to Anthropic's Messages API (and not to the OpenAI-shaped rest)."""
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def plan(
    call: Call, default_provider: str, provider_urls: Mapping[str, str]
) -> UpstreamCall | Refusal:
    """Where a call goes and what goes along.

    The provider is the one that `x-portkey-provider` names, else the path's, else
    `default_provider`. `provider_urls` replaces or extends the table. The caller's own credential
    goes to that provider; a gateway key never does.
    """
    table = {**BASE_URLS, **provider_urls}
    by_path = "anthropic" if speaks_anthropic(call.path) else default_provider
    slug = call.headers.get("x-portkey-provider", "").strip().lower().removeprefix("@") or by_path
    base_url = table.get(slug)
    if base_url is None:
        known = ", ".join(sorted(table))
        return Refusal(400, f"The provider {slug[:64]!r} is not known. Known providers: {known}.")
    query = f"?{call.query}" if call.query else ""
    return UpstreamCall(
        provider=slug,
        method=call.method,
        url=f"{base_url}/{call.path.removeprefix(PREFIX)}{query}",
        headers=forwarded_headers(call.headers),
    )


def forwarded_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The client's headers that go on to the provider."""
    # A client may name further headers of its connection; they end here too.
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    forwarded = (
        (name, value)
        for name, value in headers.items()
        if name not in _DROPPED
        and name not in named
        and not name.startswith(_DROPPED_PREFIXES)
        and not keys.mentioned(value)
    )
    return (*forwarded, _ACCEPT_ENCODING)
