"""The inbox's reading side: its page, what the page polls, and Langfuse's own read-back paths."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.inbox_store import Observation, Trace

if TYPE_CHECKING:
    from local.inbox import Inbox

PAGE = Path(__file__).with_name("inbox.html")
# The page loads nothing from anywhere; this makes sure that no trace makes it.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)


def routes(inbox: "Inbox") -> list[web.RouteDef]:
    """The paths, served from what the inbox keeps. Its middlewares see to keys and refusals."""

    async def page(request: web.Request) -> web.Response:
        text = await asyncio.to_thread(PAGE.read_text, encoding="utf-8")
        return web.Response(
            text=text,
            content_type="text/html",
            headers={"content-security-policy": CONTENT_POLICY},
        )

    async def polled(request: web.Request) -> web.Response:
        """What the page shows, the newest trace first; 304 while nothing has changed."""
        tag = f'"{inbox.revision}"'
        if request.headers.get("if-none-match") == tag:
            return web.Response(status=304, headers={"etag": tag})
        traces, by_trace = inbox.traces(), _by_trace(inbox.observations())
        newest = traces[: -_limit(request, 500) - 1 : -1]
        listed = [{**trace, "observations": by_trace.get(trace["id"], [])} for trace in newest]
        return web.json_response(
            {"version": inbox.version, "total": len(traces), "traces": listed},
            headers={"etag": tag, "cache-control": "no-cache"},
        )

    async def raw(request: web.Request) -> web.Response:
        """The events or spans of one trace as they came."""
        wanted = request.query.get("trace")
        return web.json_response(inbox.raw(wanted) if wanted else [])

    # https://api.reference.langfuse.com/#tag/trace and #tag/observations

    async def traces(request: web.Request) -> web.Response:
        found = inbox.traces()
        newest = found[: -_limit(request, 50) - 1 : -1]
        data = [_public(trace) for trace in newest]
        return web.json_response({"data": data, "meta": _meta(len(found))})

    async def trace(request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        for found in inbox.traces():
            if found["id"] == wanted:
                shown = [_public(o) for o in inbox.observations() if o["trace_id"] == wanted]
                return web.json_response(_public(found) | {"observations": shown})
        return web.json_response(
            {
                "error": "LangfuseNotFoundError",
                "message": "Trace not found within authorized project",
            },
            status=404,
        )

    async def observations(request: web.Request) -> web.Response:
        wanted = request.query.get("traceId")
        found = [o for o in inbox.observations() if wanted in (None, o["trace_id"])]
        data = [_public(observation) for observation in found]
        return web.json_response({"data": data, "meta": _meta(len(found))})

    return [
        web.get("/", page),
        web.get("/api/inbox", polled),
        web.get("/api/inbox/raw", raw),
        web.get("/api/public/traces", traces),
        web.get("/api/public/traces/{id}", trace),
        web.get("/api/public/observations", observations),
        web.get("/api/public/v2/observations", observations),
    ]


def _by_trace(observations: list[Observation]) -> dict[str, list[dict[str, Any]]]:
    result: dict[str, list[dict[str, Any]]] = {}
    for found in observations:
        shown = {name: value for name, value in found.items() if name != "raw"}
        result.setdefault(found["trace_id"], []).append(shown)
    return result


def _limit(request: web.Request, default: int) -> int:
    value = request.query.get("limit", "")
    return int(value) if value.isascii() and value.isdigit() else default


def _meta(count: int) -> dict[str, int]:
    return {"page": 1, "limit": count, "totalItems": count, "totalPages": 1}


_THEIR_NAMES = {
    "parent_id": "parentObservationId",
    "usage": "usageDetails",
    "cost": "costDetails",
}
_NOT_THEIRS = ("raw", "received", "protocol")


def _public(record: Trace | Observation) -> dict[str, Any]:
    """A record by the names of Langfuse's API."""
    return {
        _THEIR_NAMES.get(name, _camel(name)): value
        for name, value in record.items()
        if name not in _NOT_THEIRS
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
