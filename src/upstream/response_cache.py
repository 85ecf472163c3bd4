"""The cache for replies: which replies are cached, and under which key.

A cached reply goes only to the same caller for the same request, and only where the routing config
enables the cache.
"""

import hashlib
import json
from enum import StrEnum

from core import strict_json
from core.platform import UpstreamReply
from core.secret_names import is_secret_name
from core.strict_json import decode_utf8
from core.types import Capture, Ending
from dialects.errors import find_error
from dialects.registry import is_known_format
from settings.provider_table import CREDENTIAL_HEADERS
from upstream.request_scope import RequestScope

FORCE_REFRESH_HEADER = "x-portkey-cache-force-refresh"

# Headers that belong to the key, since they identify the caller or may change the reply: these
# names, and the prefixes below of headers that configure the gateway or are a provider's own.
_KEY_HEADERS = ("content-type", "accept", *CREDENTIAL_HEADERS.values())

_KEY_HEADER_PREFIXES = ("openai-", "anthropic-", "x-portkey-")

# Headers with such a prefix that do not belong to the key: they change the trace or refresh the
# cache, but not the reply.
_TRACE_ONLY_HEADERS = (
    *(FORCE_REFRESH_HEADER, "x-portkey-trace", "x-portkey-trace-id", "x-portkey-span-id"),
    *("x-portkey-parent-span-id", "x-portkey-span-name"),
)


class CacheStatus(StrEnum):
    """How the cache was used for a request, in the terms of Portkey's `x-portkey-cache-status`.

    `HIT`: the reply is from the cache. `MISS`: the cache has none. `REFRESH`: the client requires a
    new reply, which replaces the cached one. `DISABLED`: the config enables the cache, but it
    cannot be used for this host or this request.
    """

    HIT = "HIT"
    MISS = "MISS"
    REFRESH = "REFRESH"
    DISABLED = "DISABLED"


class ResponseCache:
    """The cache for replies, as one request uses it: `read` comes before the call to a provider,
    and `write` after it.

    `status` is None where the routing config does not enable the cache. `key` identifies the
    request in the cache; it is "" where the cache is not used. `max_age_seconds` is how long a
    reply is cached.
    """

    def __init__(self, scope: RequestScope) -> None:
        self.platform = platform = scope.platform
        self.max_age_seconds = scope.config.cache_age_seconds if scope.config else 0
        self.status: CacheStatus | None = None
        self.key = ""
        self.path = scope.call.path
        if not self.max_age_seconds:
            return
        self.status = CacheStatus.DISABLED
        if platform.is_cache_enabled and _asks_for_whole_reply(scope):
            refresh = scope.call.headers.get(FORCE_REFRESH_HEADER, "").strip().lower() == "true"
            self.status = CacheStatus.REFRESH if refresh else CacheStatus.MISS
            self.key = cache_key(scope)

    @property
    def stores_reply(self) -> bool:
        """Whether the provider's reply has to be captured for the cache. `write` decides whether it
        can be cached."""
        return self.status in (CacheStatus.MISS, CacheStatus.REFRESH)

    async def read(self) -> UpstreamReply | None:
        """Return the cached reply, with which `status` becomes `HIT`. None where there is none,
        where the client requires a new one, or where the cache is not used."""
        cached = (
            await self.platform.read_cache(self.key) if self.status is CacheStatus.MISS else None
        )
        if cached:
            self.status = CacheStatus.HIT
        return cached

    async def write(self, capture: Capture) -> None:
        """Write a captured reply to the cache, if `stores_reply` is True and the capture is a
        complete JSON object with status 200 and without an error. Otherwise do nothing."""
        is_whole = (
            capture.ending is Ending.COMPLETE and not capture.truncated and capture.status == 200
        )
        if (
            self.stores_reply
            and is_whole
            and "json" in capture.content_type
            and _is_cacheable(capture.body, self.path)
        ):
            await self.platform.write_cache(
                self.key, 200, capture.content_type, capture.body, self.max_age_seconds
            )


def cache_key(scope: RequestScope) -> str:
    """Return the key of a request in the cache: a SHA-256 in hex, equal only for requests that may
    share a reply.

    It covers the gateway key with its rights, the routing config, method, path and query, the body,
    and each header that may contain a credential or change the reply.
    """
    call, body = scope.call, scope.body
    headers = {name: value for name, value in call.headers.items() if _is_key_header(name)}
    parts = [
        # The rights of a gateway key and the content of a named config may change; what was cached
        # before such a change must not be used after it.
        repr(scope.caller),
        repr(scope.config),
        [call.method, call.path, call.query],
        sorted(headers.items()),
    ]
    digest = hashlib.sha256(json.dumps(parts).encode() + b"\n")
    digest.update(body.read() if body else b"")
    return digest.hexdigest()


def _is_key_header(name: str) -> bool:
    """Whether the header with this lower-case name belongs to the cache key, because it may contain
    a credential or change the reply."""
    if name in _KEY_HEADERS or (
        name.startswith(_KEY_HEADER_PREFIXES) and name not in _TRACE_ONLY_HEADERS
    ):
        return True
    # Some providers read the caller's key from a header of their own. Cookies are not forwarded.
    return is_secret_name(name) and name != "cookie" and not name.startswith("x-portkey-")


def _is_cacheable(reply: bytes, path: str) -> bool:
    """Whether the body of a reply to a request of this path is a JSON object that has members and
    no error.

    Some errors come with status 200. A body in an encoding that the runtime does not decode is not
    JSON; it could only be cached together with the name of its encoding.
    """
    try:
        value = strict_json.parse(decode_utf8(reply))
    except ValueError:
        return False
    if not isinstance(value, dict) or not value:
        return False
    return not find_error(value, is_known_format(path))


def _asks_for_whole_reply(scope: RequestScope) -> bool:
    """Whether a request is a POST whose body is a JSON object of at most `max_capture_bytes` that
    does not ask for a stream."""
    body = scope.body
    if scope.call.method != "POST" or not body:
        return False
    if body.size_bytes > scope.settings.max_capture_bytes:
        return False
    try:
        return body.members().get("stream") in (None, False)
    except ValueError:
        return False
