"""Bindings and caches of the Worker: the rate limit, the response cache, and queue messages.

The runtime's objects are passed in, so that this module imports nothing of the runtime and its
tests run in CPython. Where the rate limit or the cache fails, the failure is logged and the call
goes on without it.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from core.limits import BINDING_TIMEOUT_SECONDS
from core.version import NAME
from redaction.logs import log


def trace_queue_binding(env: Any) -> Any:
    """The binding of the queue for traces; None where the deployment binds none."""
    return getattr(env, "TRACE_QUEUE", None)


class RateLimit:
    """The deployment's rate limit, from the binding `RATE_LIMIT`.

    `binding` is None where none is bound: then every call is allowed. `request_id` is the id of the
    request that is counted, for the log.

    https://developers.cloudflare.com/workers/runtime-apis/bindings/rate-limit/
    """

    def __init__(self, binding: Any, request_id: str) -> None:
        self.binding, self.request_id = binding, request_id

    async def is_allowed(self, name: str) -> bool:
        """Count a call under this name. False where the call is over the limit. Never raises."""
        if self.binding is None:
            return True
        try:
            result = await asyncio.wait_for(self.binding.limit(key=name), BINDING_TIMEOUT_SECONDS)
            return bool(result.success)
        except Exception as error:  # of any kind: a broken rate limit must not stop the gateway
            log("rate_limit_failed", request_id=self.request_id, reason=_failure_reason(error))
            return True


class CloudflareCache:
    """The Cache API for replies to calls of one host. Each Cloudflare location has its own cache.

    `caches` is the runtime's global of that name, `request_id` the id of the request, for the log.
    `enabled` is False on workers.dev hosts, where Cloudflare caches nothing, and after a failure. A
    key consists of letters and digits.
    https://developers.cloudflare.com/workers/runtime-apis/cache/
    """

    def __init__(self, caches: Any, host: str, request_id: str) -> None:
        self.caches, self.host, self.request_id = caches, host, request_id
        self.enabled = not host.endswith(".workers.dev")

    async def match(self, key: str) -> Any:
        """The cached JavaScript `Response` of a key; None where there is none. Never raises."""
        return await self._call("match", key)

    async def put(self, key: str, response: Any) -> None:
        """Cache a JavaScript `Response` under a key, for as long as its `cache-control` allows.
        Never raises."""
        await self._call("put", key, response)

    async def _call(self, method: str, key: str, *response: Any) -> Any:
        # The Cache API requires a URL as the key, but no client can get the entry by requesting
        # that URL. A named cache is separate from the default cache, from which Cloudflare serves
        # requests and `fetch`; and this Worker, which has no such path, runs before either.
        # https://developers.cloudflare.com/workers/reference/how-the-cache-works/#cache-api
        url = f"https://{self.host}/.cache/{key}"

        async def call_cache() -> Any:
            cache = await self.caches.open(NAME)
            return await getattr(cache, method)(url, *response)

        if not self.enabled:
            return None
        try:
            return await asyncio.wait_for(call_cache(), BINDING_TIMEOUT_SECONDS)
        except Exception as error:  # of any kind: the call goes on as if nothing were cached
            # A request waits for a broken cache once, and logs it once.
            self.enabled = False
            log("cache_failed", request_id=self.request_id, reason=_failure_reason(error))
            return None


@dataclass(frozen=True)
class CloudflareQueueMessage:
    """A message that the queue delivers: the `QueueMessage` of `core.platform`.

    `attempts` counts its deliveries, this one included. `platform` is the SDK's message object.
    Only the first call of `ack` or `retry` has an effect.
    """

    body: str | bytes
    attempts: int
    message: Any

    def ack(self) -> None:
        self.message.ack()

    def retry(self, seconds: int) -> None:
        self.message.retry(delaySeconds=seconds)


def queue_messages(batch: Any) -> list[CloudflareQueueMessage]:
    """The messages of a batch, which the SDK passes to the `queue` handler."""
    return [CloudflareQueueMessage(_message_body(m.body), m.attempts, m) for m in batch.messages]


def _message_body(body: Any) -> str | bytes:
    # Another producer's message, of whatever type, must not fail the whole batch.
    return bytes(body) if isinstance(body, memoryview) else str(body)


def _failure_reason(error: Exception) -> str:
    return "no answer" if isinstance(error, TimeoutError) else str(error)
