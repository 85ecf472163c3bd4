"""The queue's binding, and the messages that it brings.

The platform's objects are handed in, so that this room knows them by their methods alone.
"""

from dataclasses import dataclass
from typing import Any


def trace_queue(env: Any) -> Any:
    """The binding of the queue for traces, or None."""
    return getattr(env, "TRACE_QUEUE", None)


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
