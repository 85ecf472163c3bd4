"""Replies that are kept for the same request of the same caller, where its config asks for it."""

import hashlib
import json
from enum import StrEnum

from core.platform import RequestPlatform, UpstreamReply
from core.secret_names import is_secret_name
from core.types import Capture, Ending
from settings.load import Settings
from settings.provider_table import CREDENTIAL_HEADERS
from upstream.attempts import AdmittedRequest
from upstream.request_body import parse_object

FORCE_REFRESH_HEADER = "x-portkey-cache-force-refresh"

# Headers that say what is asked for, beside what steers the gateway and the provider's own ones.
_KEY_HEADERS = ("content-type", "accept", *CREDENTIAL_HEADERS.values())

_KEY_HEADER_PREFIXES = ("openai-", "anthropic-", "x-portkey-")

# Of what steers the gateway, these say nothing of what is asked for.
_TRACE_ONLY_HEADERS = (
    *(FORCE_REFRESH_HEADER, "x-portkey-trace", "x-portkey-trace-id", "x-portkey-span-id"),
    *("x-portkey-parent-span-id", "x-portkey-span-name"),
)


class CacheStatus(StrEnum):
    """What the cache did for a request, in Portkey's words."""

    HIT = "HIT"
    MISS = "MISS"
    REFRESH = "REFRESH"
    DISABLED = "DISABLED"


class ResponseCache:
    """The cache for one request whose config asks for one. `status` is None where none does."""

    def __init__(
        self, request: AdmittedRequest, settings: Settings, platform: RequestPlatform
    ) -> None:
        self.platform = platform
        self.max_age_seconds = request.config.cache_age_seconds if request.config else 0
        self.status: CacheStatus | None = None
        self.key = ""
        if not self.max_age_seconds:
            return
        self.status = CacheStatus.DISABLED
        if platform.is_cache_enabled and _asks_for_whole_reply(request, settings):
            refresh = request.call.headers.get(FORCE_REFRESH_HEADER, "").strip().lower() == "true"
            self.status = CacheStatus.REFRESH if refresh else CacheStatus.MISS
            self.key = cache_key(request)

    @property
    def stores_reply(self) -> bool:
        """Whether the reply is one to be kept."""
        return self.status in (CacheStatus.MISS, CacheStatus.REFRESH)

    async def read(self) -> UpstreamReply | None:
        """The reply that is kept, if there is one."""
        found = (
            await self.platform.read_cache(self.key) if self.status is CacheStatus.MISS else None
        )
        if found:
            self.status = CacheStatus.HIT
        return found

    async def write(self, capture: Capture) -> None:
        """Keep a reply, if it is one that anybody should get again."""
        whole = (
            capture.ending is Ending.COMPLETE and not capture.truncated and capture.status == 200
        )
        if (
            self.stores_reply
            and whole
            and "json" in capture.content_type
            and _is_cacheable(capture.body)
        ):
            await self.platform.write_cache(
                self.key, 200, capture.content_type, capture.body, self.max_age_seconds
            )


def cache_key(request: AdmittedRequest) -> str:
    """What is the same for two requests that may share a reply, as a hash in hex: who asks and with
    which credential, and what is asked of whom."""
    call, body = request.call, request.body
    headers = {name: value for name, value in call.headers.items() if _is_key_header(name)}
    said = [
        repr(request.caller),  # with its rights, which may be fewer tomorrow
        repr(request.config),  # a named one may be another tomorrow
        [call.method, call.path, call.query],
        sorted(headers.items()),
    ]
    digest = hashlib.sha256(json.dumps(said).encode() + b"\n")
    digest.update(body.read(body.size_bytes) if body else b"")
    return digest.hexdigest()


def _is_key_header(name: str) -> bool:
    """Whether a header says who asks, or what is asked for."""
    if name in _KEY_HEADERS or (
        name.startswith(_KEY_HEADER_PREFIXES) and name not in _TRACE_ONLY_HEADERS
    ):
        return True
    # A provider may read a caller's key in a header of its own, but gets no cookie.
    return is_secret_name(name) and name != "cookie" and not name.startswith("x-portkey-")


def _is_cacheable(reply: bytes) -> bool:
    """Whether a reply is an answer: no error in spite of its status, nor in an encoding that would
    have to be kept with it."""
    try:
        return not parse_object(reply).get("error")
    except ValueError:
        return False


def _asks_for_whole_reply(request: AdmittedRequest, settings: Settings) -> bool:
    """Whether a request is for one whole reply, and small enough to be looked at."""
    body = request.body
    if request.call.method != "POST" or not body or body.size_bytes > settings.max_capture_bytes:
        return False
    try:
        return parse_object(body.read(body.size_bytes)).get("stream") in (None, False)
    except ValueError:
        return False
