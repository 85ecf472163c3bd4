"""What the platform lends beside fetch: a rate limit, a cache, and a queue's messages.

Its objects are handed in, so that this room knows the platform by their methods alone. A call can
do without a limit and without a cache: where one fails, a line of the log says so and the call goes
on.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from core.limits import BINDING_TIMEOUT_SECONDS
from core.version import NAME
from redaction.logs import log


def trace_queue_binding(env: Any) -> Any:
    """The binding of the queue for traces, or None."""
    return getattr(env, "TRACE_QUEUE", None)


class RateLimit:
    """How often a name may come, by the binding `RATE_LIMIT`; where that is None, always.

    `request_id` is of the request that asks.

    https://developers.cloudflare.com/workers/runtime-apis/bindings/rate-limit/
    """

    def __init__(self, binding: Any, request_id: str) -> None:
        self.binding, self.request_id = binding, request_id

    async def is_allowed(self, name: str) -> bool:
        """Count a call by this name. False where it is one too many."""
        if self.binding is None:
            return True
        try:
            answer = await asyncio.wait_for(self.binding.limit(key=name), BINDING_TIMEOUT_SECONDS)
            return bool(answer.success)
        except Exception as error:  # of any kind: a limit must not take the gateway down
            log("rate_limit_failed", request_id=self.request_id, reason=_failure_reason(error))
            return True


class CloudflareCache:
    """What one Cloudflare location keeps of answers, for the calls to one host.

    In: the platform's `caches`, the host, and the request's id. `enabled` says whether anything is
    kept here: on a workers.dev address nothing is, nor after a failure. A key is of letters and
    digits.
    https://developers.cloudflare.com/workers/runtime-apis/cache/
    """

    def __init__(self, caches: Any, host: str, request_id: str) -> None:
        self.caches, self.host, self.request_id = caches, host, request_id
        self.enabled = not host.endswith(".workers.dev")

    async def match(self, key: str) -> Any:
        """The platform's response that is kept under a key, or None."""
        return await self._call("match", key)

    async def put(self, key: str, response: Any) -> None:
        """Keep the platform's response under a key for as long as its `cache-control` says."""
        await self._call("put", key, response)

    async def _call(self, method: str, key: str, *response: Any) -> Any:
        # A cache entry is an address's, and no client may get it by asking for that address.
        # Nor does one: a named cache is apart from the one that requests and `fetch` are answered
        # from, and this Worker, which has no such path, runs before either.
        # https://developers.cloudflare.com/workers/reference/how-the-cache-works/#cache-api
        address = f"https://{self.host}/.cache/{key}"

        async def asked() -> Any:
            cache = await self.caches.open(NAME)
            return await getattr(cache, method)(address, *response)

        if not self.enabled:
            return None
        try:
            return await asyncio.wait_for(asked(), BINDING_TIMEOUT_SECONDS)
        except Exception as error:  # of any kind: it is as if nothing were kept
            self.enabled = False  # so that a call waits for it and says so once
            log("cache_failed", request_id=self.request_id, reason=_failure_reason(error))
            return None


@dataclass(frozen=True)
class CloudflareQueueMessage:
    """A message of a queue. Of `ack` and `retry` the first that is called counts."""

    body: str | bytes
    attempts: int
    platform: Any

    def ack(self) -> None:
        self.platform.ack()

    def retry(self, seconds: int) -> None:
        self.platform.retry(delaySeconds=seconds)


def queue_messages(batch: Any) -> list[CloudflareQueueMessage]:
    """The messages of a batch, as the SDK hands it to the `queue` handler."""
    return [CloudflareQueueMessage(_message_body(m.body), m.attempts, m) for m in batch.messages]


def _message_body(body: Any) -> str | bytes:
    # Whatever somebody else has put into the queue must not fail the batch that it is in.
    return bytes(body) if isinstance(body, memoryview) else str(body)


def _failure_reason(error: Exception) -> str:
    return "no answer" if isinstance(error, TimeoutError) else str(error)
