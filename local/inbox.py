"""A Langfuse that lives in memory: takes what Langfuse takes, answers as it answers, keeps it.

The demo shows what arrived on a page; the tests ask for it from another thread. Which server is
played is a matter of its version: 2 knows batches only, 3 batches and OTLP, 4 refuses the trace
and observation events of a batch, one by one, in an answer that still says 207.
"""

import base64
import json
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from local import inbox_ingestion, inbox_otlp, inbox_protobuf, inbox_views
from local.inbox_listing import Listing, Wanted
from local.inbox_store import Observation, Store, Trace

# What the server's own parser takes (`bodyParser.sizeLimit: "4.5mb"`); an export may be larger.
MAX_BATCH_BYTES = int(4.5 * 1024 * 1024)
MAX_BODY_BYTES = 64 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass(frozen=True)
class Received:
    """One request to the API as it came, refused ones too; a gzipped body stands here unpacked."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    time: float


class Inbox:
    """The server and what it got.

    In: the key pair that is asked for (None takes any, but some pair must be there), the version
    that the health page names, how many requests are kept as they came, and how many traces and
    observations. `version`, `fault` and
    `example`, a command that the empty page shows to be tried, may be set while it runs.

    `fault` plays an outage: an async function that gets each API request first, after it was
    kept in `requests`, and answers it, hangs, closes `request.transport`, or returns None to let
    it pass.
    """

    def __init__(
        self,
        public_key: str | None = None,
        secret_key: str | None = None,
        version: str = "3.120.0",
        keep_requests: int = 5_000,
        keep: int = 20_000,
    ) -> None:
        self.version = version
        self.fault: Fault | None = None
        self.example: str | None = None
        self._keys = (public_key, secret_key) if public_key and secret_key else None
        self._store = Store(keep)
        self._listing = Listing(self._store)
        self._requests: deque[Received] = deque(maxlen=keep_requests)
        # Guards what is above; told of each request and each thing kept.
        self._changed = threading.Condition()
        self._watchers: list[Callable[[], None]] = []

    # What tests and scripts read, from any thread.

    @property
    def requests(self) -> list[Received]:
        """The last requests to the API as they came, for searching them."""
        with self._changed:
            return list(self._requests)

    def traces(self) -> list[Trace]:
        """All traces. The second version has only those that a `trace-create` made."""
        with self._changed:
            return self._store.traces(implied=self._major >= 3)

    def observations(self) -> list[Observation]:
        """All observations, in the order in which each was first heard of."""
        with self._changed:
            return self._store.observations()

    def raw(self, trace_id: str) -> list[dict[str, Any]]:
        """The events or spans of one trace as they came."""
        with self._changed:
            return self._store.raw(trace_id)

    def listed(self, since: str | None, wanted: Wanted, limit: int) -> dict[str, Any]:
        """What the page lists; see `Listing.read`."""
        with self._changed:
            return self._listing.read(since, wanted, limit=limit, implied=self._major >= 3)

    def trace(self, trace_id: str) -> tuple[Trace, list[Observation]] | None:
        """One trace and its observations."""
        with self._changed:
            return self._store.trace(trace_id)

    @contextmanager
    def watched(self, wake: Callable[[], None]) -> Iterator[None]:
        """Has `wake` called, in any thread, whenever something arrives."""
        with self._changed:
            self._watchers.append(wake)
        try:
            yield
        finally:
            with self._changed:
                self._watchers.remove(wake)

    def wait_for(
        self,
        n: int = 1,
        timeout: float = 10,
        where: Callable[[Observation], bool] = lambda observation: True,
    ) -> list[Observation]:
        """Waits until `n` observations fit `where` and returns all that do.

        Raises TimeoutError, with what is there instead, when `timeout` seconds have passed.
        """

        def fitting() -> list[Observation]:
            # Looking at all of them is not cheap, and the answer is often plain from the count.
            if self._store.count < n:
                return []
            return [found for found in self._store.observations() if where(found)]

        with self._changed:
            if self._changed.wait_for(lambda: len(fitting()) >= n, timeout):
                return fitting()
            kept = [f"{o['type']} {o['name']} {o['level']}" for o in self._store.observations()]
            raise TimeoutError(
                f"{len(fitting())} of {n} observations after {timeout} s; "
                f"{len(self._requests)} requests; observations: {kept[-20:]}"
            )

    def wait_for_requests(
        self,
        n: int = 1,
        timeout: float = 10,
        where: Callable[[Received], bool] = lambda request: request.method == "POST",
    ) -> list[Received]:
        """The same for requests as they came, also those that a fault or a rule refused."""

        def fitting() -> list[Received]:
            return [found for found in self._requests if where(found)]

        with self._changed:
            if self._changed.wait_for(lambda: len(fitting()) >= n, timeout):
                return fitting()
            raise TimeoutError(f"{len(fitting())} of {n} requests after {timeout} s")

    def clear(self) -> None:
        """Forgets what arrived, requests too."""
        with self._changed:
            self._store.clear()
            self._requests.clear()
            self._touch()

    # What runs in the server's thread.

    def app(self) -> web.Application:
        """The application, for `Server(inbox.app())`."""
        application = web.Application(
            client_max_size=MAX_BODY_BYTES, middlewares=[self._receive, self._authorize]
        )
        application.router.add_get("/api/public/health", self._health)
        application.router.add_post("/api/public/ingestion", self._ingestion)
        application.router.add_post("/api/public/otel/v1/traces", self._otlp)
        application.router.add_routes(inbox_views.routes(self))
        return application

    @property
    def _major(self) -> int:
        return int(self.version.split(".")[0])

    def _touch(self) -> None:
        self._changed.notify_all()
        for wake in self._watchers:
            wake()

    @web.middleware
    async def _receive(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keeps the request as it came and lets the fault have it first."""
        if not request.path.startswith("/api/public/"):
            return await handler(request)
        try:
            body = await request.read()
        except web.RequestPayloadError:
            return _refusal(400, "Failed to decompress request body")
        headers = tuple(request.headers.items())
        received = Received(request.method, request.path_qs, headers, body, time.time())
        with self._changed:
            self._requests.append(received)
            self._touch()
        answer = await self.fault(request) if self.fault else None
        return answer or await handler(request)

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Basic authentication with the key pair, for all of the API but the health page."""
        path = request.path
        if not path.startswith("/api/public/") or path == "/api/public/health":
            return await handler(request)
        # The server's framework parses a batch before any code of Langfuse's sees it.
        if path == "/api/public/ingestion" and (refusal := await _unreadable(request)):
            return refusal
        header = request.headers.get("authorization")
        if header is None:
            return _refusal(401, "No authorization header", "UnauthorizedError")
        if not self._is_right(header):
            text = "Invalid credentials. Confirm that you've configured the correct host."
            return _refusal(401, text, "UnauthorizedError")
        return await handler(request)

    def _is_right(self, header: str) -> bool:
        kind, _, value = header.partition(" ")
        try:
            public, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return False
        known = bool(public and secret) if self._keys is None else (public, secret) == self._keys
        return kind.lower() == "basic" and known

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "OK", "version": self.version})

    async def _ingestion(self, request: web.Request) -> web.Response:
        """A batch, answered event by event: https://api.reference.langfuse.com/#tag/ingestion"""
        is_json = request.content_type == "application/json"
        content = _parsed(await request.read()) if is_json else None
        batch = content.get("batch") if isinstance(content, dict) else None
        if not isinstance(batch, list):
            return _refusal(400, "Invalid request data", "batch: expected a list")
        successes, errors = [], []
        with self._changed:
            for event in batch:
                error = self._keep(event)
                if error is None:
                    successes.append({"id": event["id"], "status": 201})
                else:
                    errors.append(error)
            self._touch()
        return web.json_response({"successes": successes, "errors": errors}, status=207)

    def _keep(self, event: Any) -> dict[str, Any] | None:
        """Keeps one event of a batch, or says what the answer says of it."""
        known = event if isinstance(event, dict) else {}
        event_id = known["id"] if isinstance(known.get("id"), str) else "unknown"
        if self._major >= 4 and known.get("type") != "score-create":
            text = (
                f'Event type "{known.get("type", "unknown")}" is not accepted by '
                "/api/public/ingestion when LANGFUSE_MIGRATION_V4_WRITE_MODE is events_only. "
                "This endpoint only accepts score events."
            )
            return _event_error(event_id, "Event type not accepted", text)
        problem = inbox_ingestion.problem(event, self._major)
        if problem is not None:
            return _event_error(event_id, "Invalid request data", problem)
        inbox_ingestion.keep(event, self._major, self._store)
        return None

    async def _otlp(self, request: web.Request) -> web.Response:
        """An export in protobuf or JSON, packed or not: taken whole or refused whole.

        Whatever came is answered in JSON, against the standard, as the server does:
        https://github.com/langfuse/langfuse/issues/11550
        """
        if self._major < 3:
            text = "<!DOCTYPE html><html><body>404: This page could not be found.</body></html>"
            return web.Response(status=404, text=text, content_type="text/html")
        if request.content_type not in _OTLP:
            return web.json_response({"error": "Invalid content type"}, status=400)
        name, parse = _OTLP[request.content_type]
        try:
            export = parse(await request.read())
        except ValueError:
            return web.json_response({"error": f"Failed to parse OTel {name} Trace"}, status=400)
        try:
            with self._changed:
                inbox_otlp.keep(export, self._store)
                self._touch()
        except inbox_otlp.Malformed as malformed:
            return _refusal(400, f"Invalid OTel span: {malformed}")
        return web.json_response({})


def _parsed(body: bytes) -> Any:
    """JSON as JavaScript reads it, which knows no NaN; raises ValueError."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except RecursionError:
        raise ValueError("too deep") from None


# How an export is read, by its content type.
_OTLP: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    "application/json": ("JSON", _parsed),
    "application/x-protobuf": ("Protobuf", inbox_protobuf.as_json),
}


async def _unreadable(request: web.Request) -> web.Response | None:
    """The plain-text answer to a batch that is too long, packed or not JSON."""
    body = await request.read()
    if len(body) > MAX_BATCH_BYTES:
        return web.Response(status=413, text="Body exceeded 4.5mb limit")
    if request.content_type != "application/json":
        return None
    if request.headers.get("content-encoding", "identity") != "identity":
        return web.Response(status=400, text="Invalid JSON")
    try:
        _parsed(body)
    except ValueError:
        return web.Response(status=400, text="Invalid JSON")
    return None


def _refusal(status: int, message: str, error: str = "Bad Request") -> web.Response:
    return web.json_response({"error": error, "message": message}, status=status)


def _event_error(event_id: str, message: str, error: str) -> dict[str, Any]:
    return {"id": event_id, "status": 400, "message": message, "error": error}
