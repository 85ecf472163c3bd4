"""A Langfuse that lives in memory: takes what Langfuse takes, answers as it answers, keeps it.

The demo shows what arrived on a page; the tests ask for it from another thread. Which server is
played is a matter of its version: 2 knows batches only, 3 batches and OTLP, 4 refuses the trace
and observation events of a batch, one by one, in an answer that still says 207.
"""

import base64
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from local.inbox import ingestion, otlp, protobuf, views
from local.inbox.contents import Contents, Received

# What the server's own parser takes (`bodyParser.sizeLimit: "4.5mb"`); an export may be larger.
MAX_BATCH_BYTES = int(4.5 * 1024 * 1024)
MAX_BODY_BYTES = 64 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Inbox(Contents):
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
        super().__init__(version, keep_requests, keep)
        self.fault: Fault | None = None
        self._keys = (public_key, secret_key) if public_key and secret_key else None

    def app(self) -> web.Application:
        """The application, for `Server(inbox.app())`."""
        application = web.Application(
            client_max_size=MAX_BODY_BYTES, middlewares=[self._receive, self._authorize]
        )
        application.router.add_get("/api/public/health", self._health)
        application.router.add_post("/api/public/ingestion", self._ingestion)
        application.router.add_post("/api/public/otel/v1/traces", self._otlp)
        application.router.add_routes(views.routes(self))
        return application

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
        problem = ingestion.problem(event, self._major)
        if problem is not None:
            return _event_error(event_id, "Invalid request data", problem)
        ingestion.keep(event, self._major, self._store)
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
                otlp.keep(export, self._store)
                self._touch()
        except otlp.Malformed as malformed:
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
    "application/x-protobuf": ("Protobuf", protobuf.as_json),
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
