"""What the platform lends beside fetch: a rate limit, and a queue's messages.

Its objects are handed in, so that this room knows the platform by their methods alone. A call can
do without a limit: where it fails, a line of the log says so and the call goes on.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from logs import log

# Seconds that a call waits at most. A limit is counted on the machine that the Worker runs on.
LONGEST_WAIT = 3.0


def trace_queue(env: Any) -> Any:
    """The binding of the queue for traces, or None."""
    return getattr(env, "TRACE_QUEUE", None)


class RateLimit:
    """How often a name may come, by the binding `RATE_LIMIT`; where that is None, always.

    https://developers.cloudflare.com/workers/runtime-apis/bindings/rate-limit/
    """

    def __init__(self, binding: Any) -> None:
        self.binding = binding

    async def allows(self, name: str) -> bool:
        """Count a call by this name. False where it is one too many."""
        if self.binding is None:
            return True
        try:
            answer = await asyncio.wait_for(self.binding.limit(key=name), LONGEST_WAIT)
            return bool(answer.success)
        except Exception as error:  # of any kind: a limit must not take the gateway down
            log("rate_limit_failed", reason=_reason(error))
            return True


@dataclass(frozen=True)
class Message:
    """A message of a queue. Of `ack` and `retry` the first that is called counts."""

    body: str | bytes
    attempts: int
    platform: Any

    def ack(self) -> None:
        self.platform.ack()

    def retry(self, seconds: int) -> None:
        self.platform.retry(delaySeconds=seconds)


def messages(batch: Any) -> list[Message]:
    """The messages of a batch, as the SDK hands it to the `queue` handler."""
    return [Message(_body(m.body), m.attempts, m) for m in batch.messages]


def _body(body: Any) -> str | bytes:
    # Whatever somebody else has put into the queue must not fail the batch that it is in.
    return bytes(body) if isinstance(body, memoryview) else str(body)


def _reason(error: Exception) -> str:
    return "no answer" if isinstance(error, TimeoutError) else str(error)
