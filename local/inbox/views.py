"""The inbox's GET paths: its page, the JSON that the page loads, and Langfuse's own API."""

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from local.inbox.contents import Contents
from local.inbox.listing import TraceFilter, main_observation
from local.inbox.store import Observation, Trace

PAGE = Path(__file__).with_name("page")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# The page loads nothing but its own files. These headers make the browser enforce that, whatever a
# trace contains, and that no text becomes HTML. https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
LOOPBACK = re.compile(r"127(\.\d{1,3}){3}")
LISTED = 500
# How long a request for changes is held open: less than the usual timeout of a proxy in between.
HOLD_SECONDS = 25.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(inbox: Contents) -> list[web.RouteDef]:
    """The paths with their handlers. The inbox's middlewares check keys and simulate outages."""

    async def file(request: web.Request) -> web.Response:
        path = PAGE / request.match_info.get("name", "index.html")
        if path not in PAGE.iterdir():
            raise web.HTTPNotFound
        text = await asyncio.to_thread(path.read_text, encoding="utf-8")
        return web.Response(text=text, content_type=TYPES[path.suffix], headers=HEADERS)

    async def listed(request: web.Request) -> web.Response:
        """The list of traces. With `since`, the `revision` of an earlier list, the response is held
        back until the list has changed."""
        query = request.query
        since = query.get("since")
        filters = TraceFilter(
            query.get("model"), query.get("level"), query.get("session"), query.get("text", "")
        )
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(arrived.set)

        with inbox.watched(wake):
            found = inbox.listed(since, filters, _limit(request, LISTED))
            deadline = loop.time() + HOLD_SECONDS
            while found["revision"] == since and (left := deadline - loop.time()) > 0:
                try:
                    await asyncio.wait_for(arrived.wait(), left)
                except TimeoutError:
                    break
                arrived.clear()
                found = inbox.listed(since, filters, _limit(request, LISTED))
        server = {"version": inbox.version, "example": inbox.example}
        return _json({**server, **found})

    async def opened(request: web.Request) -> web.Response:
        """One trace with its observations, and the id of its main observation as `main`."""
        found = inbox.trace(request.query.get("id", ""))
        if found is None:
            raise web.HTTPNotFound
        trace, observations = found
        shown = [{n: v for n, v in o.items() if n != "raw"} for o in observations]
        main = main_observation(observations)
        return _json({**trace, "observations": shown, "main": main and main["id"]})

    async def raw(request: web.Request) -> web.Response:
        """The events or spans of one trace as they arrived. The page shows this text unchanged: a
        browser's JSON parser might round its numbers."""
        return _json(inbox.raw(request.query.get("id", "")), indent=2)

    # https://api.reference.langfuse.com/#tag/trace and #tag/observations

    async def traces(request: web.Request) -> web.Response:
        found = inbox.traces()
        newest = found[: -_limit(request, 50) - 1 : -1]
        data = [_public(trace) for trace in newest]
        return web.json_response({"data": data, "meta": _meta(len(found))})

    async def trace(request: web.Request) -> web.Response:
        trace_id = request.match_info["id"]
        for found in inbox.traces():
            if found["id"] == trace_id:
                shown = [_public(o) for o in inbox.observations() if o["trace_id"] == trace_id]
                return web.json_response(_public(found) | {"observations": shown})
        return web.json_response(
            {
                "error": "LangfuseNotFoundError",
                "message": "Trace not found within authorized project",
            },
            status=404,
        )

    async def observations(request: web.Request) -> web.Response:
        trace_id = request.query.get("traceId")
        found = [o for o in inbox.observations() if trace_id in (None, o["trace_id"])]
        data = [_public(observation) for observation in found]
        return web.json_response({"data": data, "meta": _meta(len(found))})

    return [
        web.get("/", _local(file)),
        web.get("/page/{name}", _local(file)),
        web.get("/api/inbox", _local(listed)),
        web.get("/api/inbox/trace", _local(opened)),
        web.get("/api/inbox/raw", _local(raw)),
        web.get("/api/public/traces", _local(traces)),
        web.get("/api/public/traces/{id}", _local(trace)),
        web.get("/api/public/observations", _local(observations)),
        web.get("/api/public/v2/observations", _local(observations)),
    ]


def _local(handler: Handler) -> Handler:
    """The handler, restricted to requests whose `Host` is this machine's own name or address.

    The inbox shows its contents without a key. Otherwise a web page could read them by a host name
    of its own that resolves to this machine: https://en.wikipedia.org/wiki/DNS_rebinding
    """

    @wraps(handler)
    async def checked(request: web.Request) -> web.StreamResponse:
        try:
            host = urlsplit(f"//{request.host}").hostname or ""
        except ValueError:
            host = request.host
        if host not in ("localhost", "::1") and not LOOPBACK.fullmatch(host):
            text = f"The inbox is for this machine alone: open http://127.0.0.1, not {host}."
            return web.Response(status=403, text=text)
        return await handler(request)

    return checked


def _json(value: Any, indent: int | None = None) -> web.Response:
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:  # JSON such as 1e999 is parsed as infinity, which JSON does not have
        text = json.dumps(_finite(value), ensure_ascii=False, indent=indent)
    # JSON allows a lone surrogate as an escape, UTF-8 does not: it is escaped again.
    body = text.encode("utf-8", "backslashreplace")
    return web.Response(body=body, content_type="application/json", headers=HEADERS)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _limit(request: web.Request, default: int) -> int:
    value = request.query.get("limit", "")
    return int(value) if re.fullmatch("[0-9]{1,9}", value) else default


def _meta(count: int) -> dict[str, int]:
    return {"page": 1, "limit": count, "totalItems": count, "totalPages": 1}


# Names of Langfuse's API that are not the camel case of the store's.
_API_NAMES = {
    "parent_id": "parentObservationId",
    "usage": "usageDetails",
    "cost": "costDetails",
}
# Fields that Langfuse's API does not have.
_NOT_IN_API = ("raw", "received", "protocol")


def _public(record: Trace | Observation) -> dict[str, Any]:
    """A trace or observation with the member names of Langfuse's API."""
    return {
        _API_NAMES.get(name, _camel(name)): value
        for name, value in record.items()
        if name not in _NOT_IN_API
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
