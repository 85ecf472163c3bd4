"""What the gateway asks of the runtime, for one request. `edge` is what keeps these promises."""

from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol

import delivery
import memory
from vocabulary import Capture, UpstreamCall


class Body(Protocol):
    """A request's body, held by the platform."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def read(self, limit: int, start: int = 0) -> bytes:
        """At most `limit` bytes from `start` on."""
        ...

    def keep(self, limit: int) -> None:
        """Let go of all but the first `limit` bytes; `size` stays."""
        ...

    def replaced(self, data: bytes) -> "Body":
        """A body of these bytes."""
        ...


class Reply(Protocol):
    """A provider's response, held by the platform."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str:
        """A header's value, "" where there is none."""
        ...

    async def captured(self, limit: int, hold: memory.Hold) -> Capture:
        """The same capture as below of a reply that no client gets. It takes no longer than a few
        seconds, and then tells what was there."""
        ...

    async def cancel(self) -> None:
        """Let go of a reply that nobody gets."""
        ...

    def relay(self, headers: tuple[tuple[str, str], ...]) -> Any:
        """The client's response: the provider's own, with `headers` added.

        Raises `NetworkError` for a reply that cannot be passed on.
        """
        ...

    def relay_captured(
        self, headers: tuple[tuple[str, str], ...], limit: int, hold: memory.Hold
    ) -> tuple[Any, Awaitable[Capture]]:
        """The same, and a capture of at most `limit` bytes of it, and as many as `hold` can take.
        The capture never fails."""
        ...


class Platform(delivery.Platform, Protocol):
    """What the gateway asks of the runtime, for one request."""

    async def read_body(self, limit: int) -> Body:
        """The request's body. Raises `BodyTooLarge`."""
        ...

    async def within_limit(self, name: str) -> bool:
        """Whether who is called so may go on, by the deployment's rate limit, if it has one."""
        ...

    @property
    def cache_enabled(self) -> bool:
        """Whether anything can be kept for the host that the request is for."""
        ...

    async def cached(self, key: str) -> Reply | None:
        """The reply that is kept under a key."""
        ...

    async def keep_cached(
        self, key: str, status: int, content_type: str, body: bytes, max_age: int
    ) -> None:
        """Keep a reply for so many seconds, or less."""
        ...

    async def fetch(self, upstream: UpstreamCall, body: Any, timeout: float | None) -> Reply:
        """Call the provider with a body from `read_body`, or with None stream the request's own.

        Raises `NetworkError`, of which `TimedOut` is one, after `timeout` seconds without a reply.
        """
        ...

    def client_left(self) -> bool:
        """Whether the client is known to have closed the connection."""
        ...

    def run_after(self, name: str, job: Coroutine[Any, Any, None]) -> None:
        """Let a job go on after the response; log its failure under its name."""
        ...
