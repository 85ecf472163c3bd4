"""A Langfuse server in memory: it accepts, checks, answers and stores as Langfuse does.

The demo shows its contents on a page; the tests read them from another thread. Its behaviour
depends on the version that it simulates. Version 2 accepts ingestion batches only, version 3
batches and OTLP. Version 4 accepts OTLP; of a batch it refuses each trace and observation event
separately, in a response that still has the status 207.
"""

import base64
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from local.inbox import ingestion, otlp, protobuf, views
from local.inbox.contents import Contents, Received

# The limit of Langfuse's own parser for batches (`bodyParser.sizeLimit: "4.5mb"`). OTLP exports may
# be larger.
MAX_BATCH_BYTES = int(4.5 * 1024 * 1024)
MAX_BODY_BYTES = 64 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Inbox(Contents):
    """The server and its contents.

    `public_key` and `secret_key` are the key pair that requests must have; without both, any pair
    is accepted. `version` is Langfuse's version on the health page. `keep_requests` is the number
    of requests that are kept; `keep` that of traces, and of observations.

    `version`, `fault` and `example` may be changed while the server runs. `example` is a command
    that the page shows as long as it has no traces. `fault` simulates an outage: an async function
    that each API request is passed to after it was added to `requests`. It may return a response,
    hang, close `request.transport`, or return None for the usual handling.
    """

    def __init__(
        self,
        public_key: str | None = None,
        secret_key: str | None = None,
        version: str = "3.120.0",
        keep_requests: int = 5_000,
        keep: int = 20_000,
    ) -> None:
        super().__init__(version, keep_requests, keep)
        self.fault: Fault | None = None
        self._keys = (public_key, secret_key) if public_key and secret_key else None

    def app(self) -> web.Application:
        """The server as an application, for `Server(inbox.app())`."""
        application = web.Application(
            client_max_size=MAX_BODY_BYTES, middlewares=[self._record, self._authorize]
        )
        application.router.add_get("/api/public/health", self._health)
        application.router.add_post("/api/public/ingestion", self._ingestion)
        application.router.add_post("/api/public/otel/v1/traces", self._otlp)
        application.router.add_routes(views.routes(self))
        return application

    @web.middleware
    async def _record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Record each API request as it arrived, and pass it to `fault` first."""
        if not request.path.startswith("/api/public/"):
            return await handler(request)
        try:
            body = await request.read()
        except web.RequestPayloadError:
            return _error_response(400, "Failed to decompress request body")
        headers = tuple(request.headers.items())
        received = Received(request.method, request.path_qs, headers, body, time.time())
        with self._changed:
            self._requests.append(received)
            self._notify()
        response = await self.fault(request) if self.fault else None
        return response or await handler(request)

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check the key pair by Basic authentication, for the whole API except the health page."""
        path = request.path
        if not path.startswith("/api/public/") or path == "/api/public/health":
            return await handler(request)
        # The server's framework parses a batch before Langfuse checks its keys.
        if path == "/api/public/ingestion" and (response := await _unreadable_batch(request)):
            return response
        header = request.headers.get("authorization")
        if header is None:
            return _error_response(401, "No authorization header", "UnauthorizedError")
        if not self._is_authorized(header):
            text = "Invalid credentials. Confirm that you've configured the correct host."
            return _error_response(401, text, "UnauthorizedError")
        return await handler(request)

    def _is_authorized(self, header: str) -> bool:
        kind, _, value = header.partition(" ")
        try:
            public, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return False
        is_known = bool(public and secret) if self._keys is None else (public, secret) == self._keys
        return kind.lower() == "basic" and is_known

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "OK", "version": self.version})

    async def _ingestion(self, request: web.Request) -> web.Response:
        """Store a batch, with a result for each event.

        https://api.reference.langfuse.com/#tag/ingestion
        """
        is_json = request.content_type == "application/json"
        content = _parsed(await request.read()) if is_json else None
        batch = content.get("batch") if isinstance(content, dict) else None
        if not isinstance(batch, list):
            return _error_response(400, "Invalid request data", "batch: expected a list")
        successes, errors = [], []
        with self._changed:
            for event in batch:
                error = self._store_event(event)
                if error is None:
                    successes.append({"id": event["id"], "status": 201})
                else:
                    errors.append(error)
            self._notify()
        return web.json_response({"successes": successes, "errors": errors}, status=207)

    def _store_event(self, event: Any) -> dict[str, Any] | None:
        """Store one event of a batch. Returns None, or the event's error for the response."""
        members = event if isinstance(event, dict) else {}
        event_id = members["id"] if isinstance(members.get("id"), str) else "unknown"
        if self._major >= 4 and members.get("type") != "score-create":
            text = (
                f'Event type "{members.get("type", "unknown")}" is not accepted by '
                "/api/public/ingestion when LANGFUSE_MIGRATION_V4_WRITE_MODE is events_only. "
                "This endpoint only accepts score events."
            )
            return _event_error(event_id, "Event type not accepted", text)
        problem = ingestion.problem(event, self._major)
        if problem is not None:
            return _event_error(event_id, "Invalid request data", problem)
        ingestion.keep(event, self._major, self._store)
        return None

    async def _otlp(self, request: web.Request) -> web.Response:
        """Store an OTLP export in protobuf or JSON, gzipped or not, or refuse all of it.

        Like Langfuse's, the response is always JSON, which OTLP does not allow for protobuf:
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
            with self._changed:
                otlp.keep(export, self._major, self._store)
                self._notify()
        except ValueError:
            return web.json_response({"error": f"Failed to parse OTel {name} Trace"}, status=400)
        except protobuf.Malformed as malformed:
            return _error_response(400, f"Invalid OTel span: {malformed}")
        return web.json_response({})


def _parsed(body: bytes) -> Any:
    """JSON as JavaScript parses it, without NaN and Infinity. Raises ValueError."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except RecursionError:
        raise ValueError("too deep") from None


# The name of an export's format and its parser, by content type.
_OTLP: dict[str, tuple[str, Callable[[bytes], ExportTraceServiceRequest]]] = {
    "application/json": ("JSON", lambda body: protobuf.from_json(_parsed(body))),
    "application/x-protobuf": ("Protobuf", protobuf.from_protobuf),
}


async def _unreadable_batch(request: web.Request) -> web.Response | None:
    """The plain-text response to a batch that is too large, compressed or not JSON; None for any
    other batch."""
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


def _error_response(status: int, message: str, error: str = "Bad Request") -> web.Response:
    return web.json_response({"error": error, "message": message}, status=status)


def _event_error(event_id: str, message: str, error: str) -> dict[str, Any]:
    return {"id": event_id, "status": 400, "message": message, "error": error}
