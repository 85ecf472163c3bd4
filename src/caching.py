"""Replies that are kept for the same request of the same caller, where its config asks for it."""

import hashlib
import json
from enum import StrEnum

import rewriting
from attempts import Request
from config import Settings
from provider_table import CREDENTIALS
from redaction import is_secret
from runtime import Platform, Reply
from vocabulary import Capture, Ending

FORCE_REFRESH = "x-portkey-cache-force-refresh"
# Headers that say what is asked for, beside what steers the gateway and the provider's own ones.
_ASKING = ("content-type", "accept", *CREDENTIALS.values())
_ASKING_PREFIXES = ("openai-", "anthropic-", "x-portkey-")
# Of what steers the gateway, these say nothing of what is asked for.
_TELLING = (
    *(FORCE_REFRESH, "x-portkey-trace", "x-portkey-trace-id", "x-portkey-span-id"),
    *("x-portkey-parent-span-id", "x-portkey-span-name"),
)


class Status(StrEnum):
    """What the cache did for a request, in Portkey's words."""

    HIT = "HIT"
    MISS = "MISS"
    REFRESH = "REFRESH"
    DISABLED = "DISABLED"


class Cache:
    """The cache for one request whose config asks for one. `status` is None where none does."""

    def __init__(self, request: Request, settings: Settings, platform: Platform) -> None:
        self.platform = platform
        self.max_age = request.config.cache_age if request.config else 0
        self.status: Status | None = None
        self.key = ""
        if not self.max_age:
            return
        self.status = Status.DISABLED
        if platform.cache_enabled and _is_whole(request, settings):
            refresh = request.call.headers.get(FORCE_REFRESH, "").strip().lower() == "true"
            self.status = Status.REFRESH if refresh else Status.MISS
            self.key = key(request)

    @property
    def keeps(self) -> bool:
        """Whether the reply is one to be kept."""
        return self.status in (Status.MISS, Status.REFRESH)

    async def reply(self) -> Reply | None:
        """The reply that is kept, if there is one."""
        found = await self.platform.cached(self.key) if self.status is Status.MISS else None
        if found:
            self.status = Status.HIT
        return found

    async def keep(self, capture: Capture) -> None:
        """Keep a reply, if it is one that anybody should get again."""
        whole = capture.ending is Ending.COMPLETE and not capture.cut and capture.status == 200
        if self.keeps and whole and "json" in capture.content_type and _is_good(capture.body):
            await self.platform.keep_cached(
                self.key, 200, capture.content_type, capture.body, self.max_age
            )


def key(request: Request) -> str:
    """What is the same for two requests that may share a reply, as a hash in hex: who asks and with
    which credential, and what is asked of whom."""
    call, body = request.call, request.body
    headers = {name: value for name, value in call.headers.items() if _asks(name)}
    said = [
        repr(request.caller),  # with its rights, which may be fewer tomorrow
        repr(request.config),  # a named one may be another tomorrow
        [call.method, call.path, call.query],
        sorted(headers.items()),
    ]
    digest = hashlib.sha256(json.dumps(said).encode() + b"\n")
    digest.update(body.read(body.size) if body else b"")
    return digest.hexdigest()


def _asks(name: str) -> bool:
    """Whether a header says who asks, or what is asked for."""
    if name in _ASKING or (name.startswith(_ASKING_PREFIXES) and name not in _TELLING):
        return True
    # A provider may read a caller's key in a header of its own, but gets no cookie.
    return is_secret(name) and name != "cookie" and not name.startswith("x-portkey-")


def _is_good(reply: bytes) -> bool:
    """Whether a reply is an answer: no error in spite of its status, nor in an encoding that would
    have to be kept with it."""
    try:
        return not rewriting.members(reply).get("error")
    except ValueError:
        return False


def _is_whole(request: Request, settings: Settings) -> bool:
    """Whether a request is for one whole reply, and small enough to be looked at."""
    body = request.body
    if request.call.method != "POST" or not body or body.size > settings.max_capture_bytes:
        return False
    try:
        return rewriting.members(body.read(body.size)).get("stream") in (None, False)
    except ValueError:
        return False
