"""Bindings and caches of the Worker: variables, the rate limit, the response cache, and queue
messages.

Objects of the runtime are passed in as arguments. So this module imports nothing of the runtime,
and its tests run in CPython. A failure of the rate limit or of the cache is logged, and the call
continues without it.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from core.limits import BINDING_TIMEOUT_SECONDS
from core.strict_json import JsonValue
from core.version import NAME
from redaction.logs import RequestLog


def trace_queue_binding(env: Any) -> Any:
    """The binding of the queue for traces, from the Worker's `env`; None where the deployment binds
    no queue."""
    return getattr(env, "TRACE_QUEUE", None)


class CloudflareEnvironment:
    """The Worker's variables, secrets and bindings by name, read from its `env`: the `Environment`
    of `core.platform`."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def get(self, name: str, /) -> JsonValue:
        value = getattr(self._env, name, None)
        # A variable that wrangler.toml defines as JSON arrives as a JavaScript object.
        to_py = getattr(value, "to_py", None)
        return to_py() if to_py else value


class RateLimit:
    """The deployment's rate limit, for one request. Each Cloudflare location counts the calls of
    each name separately.

    `binding` is the Worker's binding `RATE_LIMIT`. It is None where none is bound, and then every
    call is allowed. `log` writes lines about the request.

    https://developers.cloudflare.com/workers/runtime-apis/bindings/rate-limit/
    """

    def __init__(self, binding: Any, log: RequestLog) -> None:
        self.binding, self.log = binding, log

    async def is_allowed(self, name: str) -> bool:
        """Count one call for `name`, the name of a gateway key, and return whether it is within the
        limit. Also True where no limit is bound or the binding fails. Never raises."""
        if self.binding is None:
            return True
        try:
            result = await asyncio.wait_for(self.binding.limit(key=name), BINDING_TIMEOUT_SECONDS)
            return bool(result.success)
        except Exception as error:  # of any kind: a broken rate limit must not stop the gateway
            self.log("rate_limit_failed", reason=_failure_reason(error))
            return True


class CloudflareCache:
    """A cache of replies in Cloudflare's Cache API, as one request uses it. Each Cloudflare
    location has its own cache.

    `caches` is the runtime's global of that name, `host` the host that the request is for.
    `log` writes lines about the request. `enabled` is False where nothing is cached: on workers.dev
    hosts, for which Cloudflare caches nothing, and after a failure. Keys consist of letters and
    digits, and are separate for each host.
    https://developers.cloudflare.com/workers/runtime-apis/cache/
    """

    def __init__(self, caches: Any, host: str, log: RequestLog) -> None:
        self.caches, self.host, self.log = caches, host, log
        self.enabled = not host.endswith(".workers.dev")

    async def match(self, key: str) -> Any:
        """The JavaScript `Response` that is cached under `key`. None where there is none, where the
        cache is not `enabled`, and where it fails. Never raises."""
        return await self._call("match", key)

    async def put(self, key: str, response: Any) -> None:
        """Store a JavaScript `Response` under `key`, replacing any that is there. Its
        `cache-control` header determines how long it is cached. Its body is consumed.

        Stores nothing where the cache is not `enabled`. A failure is logged and sets `enabled` to
        False. Never raises.
        """
        await self._call("put", key, response)

    async def _call(self, method: str, key: str, *response: Any) -> Any:
        # The Cache API requires a URL as the key, but no client can get the entry by requesting
        # that URL. A named cache is separate from the default cache, from which Cloudflare serves
        # requests and `fetch`. And this Worker, which has no such path, runs before any cache.
        # https://developers.cloudflare.com/workers/reference/how-the-cache-works/#cache-api
        url = f"https://{self.host}/.cache/{key}"

        async def call_cache() -> Any:
            cache = await self.caches.open(NAME)
            return await getattr(cache, method)(url, *response)

        if not self.enabled:
            return None
        try:
            return await asyncio.wait_for(call_cache(), BINDING_TIMEOUT_SECONDS)
        except Exception as error:  # of any kind: the call continues as if nothing were cached
            # A request waits for a broken cache once, and logs it once.
            self.enabled = False
            self.log("cache_failed", reason=_failure_reason(error))
            return None


@dataclass(frozen=True)
class CloudflareQueueMessage:
    """A message that the queue delivers to this Worker: the `QueueMessage` of `core.platform`.

    `attempts` is the number of its deliveries, including this one. `message` is the SDK's message
    object. `ack` removes the message from the queue; `retry` has it delivered again after that many
    seconds. Only the first call of either has an effect.
    """

    body: str | bytes
    attempts: int
    message: Any

    def ack(self) -> None:
        self.message.ack()

    def retry(self, seconds: int) -> None:
        self.message.retry(delaySeconds=seconds)


def queue_messages(batch: Any) -> list[CloudflareQueueMessage]:
    """The messages of a batch as the gateway handles them, in order. `batch` is the object that
    Cloudflare passes to a Worker's `queue` handler."""
    return [CloudflareQueueMessage(_message_body(m.body), m.attempts, m) for m in batch.messages]


def _message_body(body: Any) -> str | bytes:
    # Another producer may send a message of any type. It must not fail the whole batch.
    return cast("memoryview[int]", body).tobytes() if isinstance(body, memoryview) else str(body)


def _failure_reason(error: Exception) -> str:
    return "no answer" if isinstance(error, TimeoutError) else str(error)
