"""Every protocol that the gateway asks of the runtime it runs in.

`cloudflare/` implements them; tests implement them in plain Python. Nothing else in `src/` knows
which runtime it is.
"""

from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from core.memory_budget import Reservation
from core.types import Capture, HttpResponse, UpstreamCall

# The body of a queue message: JSON text, or the same gzipped.
MessageBody = str | bytes


class Environment(Protocol):
    """The Worker's variables, secrets and bindings by name."""

    def get(self, name: str, /) -> Any:
        """The value: text as Cloudflare gives it, or what wrangler's JSON bindings parsed. None
        where the name is not set."""
        ...


class TraceQueue(Protocol):
    """The producer's end of the queue for traces."""

    async def send(self, bodies: Sequence[MessageBody]) -> None:
        """Send these messages together. Raises `NetworkError`, and then none is sent."""
        ...


class QueueMessage(Protocol):
    """A message that the queue delivers. `attempts` counts its deliveries, this one included."""

    @property
    def body(self) -> MessageBody: ...
    @property
    def attempts(self) -> int: ...
    def ack(self) -> None:
        """Remove the message from the queue."""
        ...

    def retry(self, seconds: int) -> None:
        """Deliver the message again, after this time."""
        ...


class IsolatePlatform(Protocol):
    """What any job of the isolate may use, with or without a request of a client."""

    @property
    def queue(self) -> TraceQueue | None:
        """The deployment's queue for traces, None where none is bound."""
        ...

    def now(self) -> float:
        """Seconds since the epoch. The clock of a Worker advances only at I/O."""
        ...

    def random(self) -> float:
        """A number from 0 to 1."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> HttpResponse:
        """The whole response to a request of the gateway's own, within `timeout` seconds. Redirects
        are not followed. Raises `NetworkError`."""
        ...

    async def gzip(self, data: bytes) -> bytes: ...

    async def gunzip(self, data: bytes, limit: int) -> bytes:
        """Raises ValueError for what is not gzip, and for more than `limit` bytes unpacked."""
        ...


class ClientConnection(Protocol):
    """The connection to the client of one request."""

    def client_left(self) -> bool:
        """Whether the client is known to have closed the connection."""
        ...


class StrategyPlatform(ClientConnection, Protocol):
    """What the strategy of a request needs: pauses, and whether the client is still there."""

    def random(self) -> float:
        """A number from 0 to 1."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class RequestBody(Protocol):
    """The body of the client's request, held by the runtime."""

    @property
    def size_bytes(self) -> int:
        """The size of the whole body, also after `truncate`."""
        ...

    def read(self, limit: int, start: int = 0) -> bytes:
        """At most `limit` bytes from `start` on."""
        ...

    def truncate(self, limit: int) -> None:
        """Release the memory of all but the first `limit` bytes."""
        ...

    def with_content(self, data: bytes) -> "RequestBody":
        """Another body, of these bytes."""
        ...


class UpstreamReply(Protocol):
    """A provider's response, or a cached one, held by the runtime. Its head has arrived."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str:
        """A header's value by its lower-case name, "" where there is none."""
        ...

    def relay(self, headers: tuple[tuple[str, str], ...]) -> Any:
        """The runtime's response for the client: the provider's own, with `headers` added.

        Raises `NetworkError` for a reply that cannot be passed on, such as a status of 999.
        """
        ...

    def relay_and_capture(
        self, headers: tuple[tuple[str, str], ...], limit: int, reservation: Reservation
    ) -> tuple[Any, Awaitable[Capture]]:
        """The same, and beside it the capture of at most `limit` bytes of the body, and of no more
        than `reservation` can reserve. The capture never raises."""
        ...

    async def capture_discarded(self, limit: int, reservation: Reservation) -> Capture:
        """The capture of a reply that no client gets. It ends after a few seconds at most, with
        what has arrived until then."""
        ...

    async def cancel(self) -> None:
        """End a reply that neither a client nor a trace needs."""
        ...


class RequestPlatform(IsolatePlatform, ClientConnection, Protocol):
    """What the gateway may use while it handles one request of a client."""

    async def read_body(self, limit: int) -> RequestBody:
        """The request's body. Raises `BodyTooLarge` for more than `limit` bytes, `NetworkError`
        where it does not arrive whole."""
        ...

    async def fetch(
        self, upstream: UpstreamCall, body: Any, timeout: float | None
    ) -> UpstreamReply:
        """Call a provider, with a body from `read_body`, or with None stream the request's own.

        Raises `NetworkError`, and `UpstreamTimeout` after `timeout` seconds without a reply.
        """
        ...

    async def is_within_rate_limit(self, name: str) -> bool:
        """Count a call of this name against the deployment's rate limit. False where it is one too
        many; True where no limit is bound."""
        ...

    @property
    def is_cache_enabled(self) -> bool:
        """Whether replies can be cached for the host that the request is for."""
        ...

    async def read_cache(self, key: str) -> UpstreamReply | None:
        """The cached reply of a key."""
        ...

    async def write_cache(
        self, key: str, status: int, content_type: str, body: bytes, max_age: int
    ) -> None:
        """Cache a reply for at most `max_age` seconds."""
        ...

    def run_after_response(self, name: str, job: Coroutine[Any, Any, None]) -> None:
        """Let a job go on after the response has been sent (`waitUntil`). Its failure is logged
        under its name."""
        ...
