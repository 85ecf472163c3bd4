"""The protocols that the gateway requires of its runtime.

`cloudflare/` implements them; tests implement them in plain Python. Nothing else in `src/` depends
on the runtime.
"""

from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import Protocol

from core.memory_budget import Reservation
from core.strict_json import JsonValue
from core.types import Capture, HttpResponse, UpstreamCall

# The body of a queue message: a JSON text, or a JSON text in UTF-8 that is gzipped.
MessageBody = str | bytes


class Environment(Protocol):
    """The Worker's variables, secrets and bindings by name."""

    def get(self, name: str, /) -> JsonValue:
        """The variable, secret or binding with this name; None where there is none.

        Variables and secrets are texts. A JSON variable of wrangler.toml, or a binding such as
        `CF_VERSION_METADATA`, is a Python value, such as a dict.
        """
        ...


class TraceQueue(Protocol):
    """The queue for traces, as its producer uses it."""

    async def send(self, bodies: Sequence[MessageBody]) -> None:
        """Put messages with these bodies into the queue, all or none.

        Raises `NetworkError` where the queue does not accept them within some seconds. Cloudflare
        limits their number and size (`MAX_QUEUE_SEND_MESSAGES`, `MAX_QUEUE_SEND_BYTES`).
        """
        ...


class QueueMessage(Protocol):
    """A message that the queue delivers to this Worker. Only the first call of `ack` or `retry` has
    an effect.

    `body` need not be one that this gateway sent: the queue may have other producers. `attempts` is
    the number of deliveries, including this one.
    """

    @property
    def body(self) -> MessageBody: ...
    @property
    def attempts(self) -> int: ...
    def ack(self) -> None:
        """Remove the message from the queue for good."""
        ...

    def retry(self, seconds: int) -> None:
        """Return the message to the queue, which delivers it again after this number of seconds."""
        ...


class IsolatePlatform(Protocol):
    """The part of the runtime that does not depend on a client's request: clock, timers, HTTP, gzip
    and the queue. Also for the consumer of the queue, which has no such request."""

    @property
    def queue(self) -> TraceQueue | None:
        """The queue for observations that are not delivered to Langfuse directly. None where the
        deployment binds no queue."""
        ...

    def now(self) -> float:
        """Seconds since the epoch. The clock of a Worker advances only at I/O."""
        ...

    def random(self) -> float:
        """A random number from 0 up to, but not including, 1."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> HttpResponse:
        """Send a request of the gateway's own, such as an upload to Langfuse, and return the whole
        response. The response may have any status, such as that of a redirect, which is not
        followed.

        Raises `NetworkError` where no response arrives, where it is not complete within `timeout`
        seconds, and where it is larger than `MAX_UPLOAD_RESPONSE_BYTES`.
        """
        ...

    async def gzip(self, data: bytes) -> bytes: ...

    async def gunzip(self, data: bytes, limit: int) -> bytes:
        """Unpack gzip data. Raises ValueError where `data` is not valid gzip, or has more than
        `limit` bytes when unpacked."""
        ...


class ClientConnection(Protocol):
    """The connection to the client of one request."""

    def client_left(self) -> bool:
        """Whether the client has closed the connection, as far as the runtime has noticed."""
        ...


class StrategyPlatform(ClientConnection, Protocol):
    """The part of the runtime that `upstream.strategy` needs to choose among targets and to wait
    before retries."""

    def random(self) -> float:
        """A random number from 0 up to, but not including, 1."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class RequestBody(Protocol):
    """The complete body of a request, in the runtime's memory rather than in Python's."""

    @property
    def size_bytes(self) -> int:
        """The size of the body as the client sent it, also after `truncate`."""
        ...

    def read(self, limit: int, start: int = 0) -> bytes:
        """A copy of at most `limit` bytes of the body, from the index `start` on. Fewer, or b"",
        where the body ends before that."""
        ...

    def truncate(self, limit: int) -> None:
        """Keep only the first `limit` bytes, and release the memory of the rest."""
        ...

    def with_content(self, data: bytes) -> "RequestBody":
        """A new body with these bytes. This one does not change."""
        ...


class FirstTokenSearch(Protocol):
    """The search for the first event with output of the model, in a body that arrives in pieces.

    `found` becomes True with the piece that completes the event. `notes` name a search that ended
    without having seen the whole stream.
    """

    found: bool
    notes: tuple[str, ...]

    def feed(self, piece: bytes) -> bool:
        """Search the next piece of the body. Returns False where no further piece has to be
        searched. Never raises."""
        ...


class UpstreamReply(Protocol):
    """A provider's response, or one from the cache. Status and headers have arrived; the body is a
    stream in the runtime, which can be used only once: relayed, captured or cancelled."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str:
        """The value of the header with this lower-case name; "" where the reply has none."""
        ...

    def relay(self, headers: tuple[tuple[str, str], ...]) -> object:
        """The runtime's response object for the client: status, headers and body of the provider's
        reply.

        `headers` are pairs (name, value) that are set over the provider's headers; a `vary` is
        added to the provider's. The provider's `access-control-allow-origin` is removed.

        Raises `NetworkError` where the runtime cannot represent the reply, such as a status of 999.
        """
        ...

    def relay_and_capture(
        self,
        headers: tuple[tuple[str, str], ...],
        limit: int,
        reservation: Reservation,
        first_token: FirstTokenSearch,
    ) -> tuple[object, Awaitable[Capture]]:
        """A pair: the runtime's response object for the client, and an awaitable of the capture.

        The response has status, headers and body of the provider's reply. `headers` are pairs
        (name, value) that are set over the provider's headers; a `vary` is added to the provider's.
        The provider's `access-control-allow-origin` is removed.

        The body is split: the client gets all of it, and the capture keeps its first `limit` bytes,
        or fewer where `reservation` cannot reserve more. `first_token` is fed with each chunk of a
        stream until it has seen enough. Reading for the capture starts when the awaitable is
        awaited. It returns when the reply has ended for the client too, and never
        raises.

        Raises `NetworkError` where the runtime cannot represent the reply, such as a status of 999.
        """
        ...

    async def capture_discarded(self, limit: int, reservation: Reservation) -> Capture:
        """Capture the beginning of a reply that is not relayed, such as an error before a retry,
        and cancel the rest.

        Reads at most `limit` bytes, never more than `MAX_DISCARDED_BYTES` or than `reservation` can
        reserve. Returns after `DISCARDED_TIMEOUT_SECONDS` at the latest, with what has arrived by
        then.
        """
        ...

    async def cancel(self) -> None:
        """Cancel a reply without reading its body, so that the provider stops sending it."""
        ...


class RequestLog(Protocol):
    """The log, for lines about one request."""

    def __call__(self, event: str, **fields: str | int | float | None) -> None:
        """Write one line: a JSON object of `event`, the request's id and `fields`, without a
        credential of the request or the deployment. `fields` must not contain content of requests
        and replies."""
        ...


class RequestPlatform(IsolatePlatform, ClientConnection, Protocol):
    """The runtime as the gateway uses it while it handles one request of a client."""

    @property
    def log(self) -> RequestLog: ...

    async def read_body(self, limit: int) -> RequestBody:
        """Read the whole body of the client's request; empty where it has none. Can be called once.

        Raises `BodyTooLarge` where it has more than `limit` bytes, and `NetworkError` where it does
        not arrive completely.
        """
        ...

    async def fetch(
        self, upstream: UpstreamCall, body: RequestBody | None, timeout: float | None
    ) -> UpstreamReply:
        """Call a provider, and return its reply as soon as status and headers have arrived. The
        reply may have any status, such as that of a redirect, which is not followed.

        `body` is the `RequestBody` to send. With None, the body of the client's request is streamed
        to the provider unread.

        Raises `NetworkError` where the provider cannot be reached, and its subclass
        `UpstreamTimeout` after `timeout` seconds without a reply. `timeout` is None for no limit.
        """
        ...

    async def is_within_rate_limit(self, name: str) -> bool:
        """Count this request against the deployment's rate limit. False where it is over the limit.

        `name` is the name of the gateway key: the requests of each key are counted separately. True
        where the deployment binds no rate limit, or where the rate limit fails. Never raises.
        """
        ...

    @property
    def is_cache_enabled(self) -> bool:
        """Whether replies can be cached. False on a host without a cache, such as workers.dev, and
        after a failure of the cache in this request."""
        ...

    async def read_cache(self, key: str) -> UpstreamReply | None:
        """The reply that is cached under a key, which consists of letters and digits. None where
        there is none, or where the cache fails. Never raises."""
        ...

    async def write_cache(
        self, key: str, status: int, content_type: str, body: bytes, max_age: int
    ) -> None:
        """Cache a reply under a key for at most `max_age` seconds. Never raises: a failure of the
        cache is logged."""
        ...

    def run_after_response(self, name: str, job: Coroutine[object, object, None]) -> None:
        """Start a coroutine that may continue after the response has been sent (`waitUntil`).

        The platform ends it some 30 seconds after the response. An exception that it raises is only
        logged, together with the job's `name`.
        https://developers.cloudflare.com/workers/runtime-apis/context/#waituntil
        """
        ...
