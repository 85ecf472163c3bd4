"""A fake of `IsolatePlatform` on a virtual clock, with a fake Langfuse server behind its `http`."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.observation import Observation
from core.types import Destination, HttpResponse, NetworkError
from settings.load import Settings
from tests.unit import virtual_time
from tests.unit.samples import EMPTY

DESTINATION = Destination("default", "https://langfuse.example", "pk-lf-1", "sk-lf-1234567890")
SETTINGS = Settings(destinations={DESTINATION.name: DESTINATION})
PROVIDER = {"provider": "openai"}
TRACE = replace(EMPTY.trace, name="a trace", user="ada", tags=("a", "b"), metadata=PROVIDER)
OBSERVATION = replace(
    EMPTY,
    destination=DESTINATION,
    model="gpt-4o",
    input='"hi"',
    output='"hello"',
    usage={"input": 1, "output": 1, "total": 2},
    metadata=PROVIDER,
)
INGESTION_PATH, OTLP_PATH = "/api/public/ingestion", "/api/public/otel/v1/traces"


def observation(number: int = 1, **changes: Any) -> Observation:
    """An observation whose id and trace id are derived from `number`."""
    trace = replace(TRACE, id=f"{number:032x}")
    return replace(OBSERVATION, id=f"{number:016x}", trace=trace, **changes)


@dataclass
class ReceivedRequest:
    """A request as the server received it.

    `time` is in seconds of the virtual clock; `ids` are the observation ids in `body`.
    """

    time: float
    path: str
    headers: Mapping[str, str]
    body: bytes
    ids: list[str]


Responder = Callable[[ReceivedRequest], Awaitable[HttpResponse | None]]


@dataclass
class FakeLangfuse:
    """A platform whose `http` reaches a Langfuse server of version `version`.

    `respond` is called with each request but health checks. It returns the response, raises
    `NetworkError`, or returns None for the normal response of `accept`. `stored` counts how often
    each observation was stored, by id. `jitter` is what `random()` returns.
    """

    version: str = "3.120.0"
    respond: Responder | None = None
    requests: list[ReceivedRequest] = field(default_factory=list)
    health_check_count: int = 0
    stored: dict[str, int] = field(default_factory=dict)
    jitter: float = 1.0
    queue: Any = None

    def now(self) -> float:
        return virtual_time.now()

    def random(self) -> float:
        return self.jitter

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> HttpResponse:
        path = url.removeprefix(DESTINATION.base_url)
        try:
            return await asyncio.wait_for(self._handle(method, path, headers, body), timeout)
        except TimeoutError:
            raise NetworkError("timed out") from None

    async def gzip(self, data: bytes) -> bytes:
        return gzip.compress(data)

    async def gunzip(self, data: bytes, limit: int) -> bytes:
        try:
            return gzip.decompress(data)
        except OSError as error:
            raise ValueError(str(error)) from error

    @property
    def times(self) -> list[float]:
        """The times of all requests, in seconds since the first."""
        return [round(request.time - self.requests[0].time, 6) for request in self.requests]

    async def _handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> HttpResponse:
        if method == "GET":
            self.health_check_count += 1
            return HttpResponse(200, {}, json.dumps({"status": "OK", "version": self.version}))
        content = json.loads(body)
        items = content["batch"] if path == INGESTION_PATH else _spans(content)
        item_ids = [
            item["body"]["id"] if path == INGESTION_PATH else item["spanId"] for item in items
        ]
        request = ReceivedRequest(
            self.now(), path, headers, body, [id for id in item_ids if len(id) == 16]
        )
        self.requests.append(request)
        response = await self.respond(request) if self.respond else None
        return response or self.accept(request, items)

    def accept(self, request: ReceivedRequest, items: Sequence[Any]) -> HttpResponse:
        """Store a request's observations and return the response of a healthy server."""
        is_v4_or_later = int(self.version.split(".")[0]) >= 4
        if request.path == INGESTION_PATH:
            ids = [item["id"] for item in items]
            if is_v4_or_later:
                errors = [
                    {"id": id, "status": 400, "message": "Event type not accepted"} for id in ids
                ]
                return HttpResponse(207, {}, json.dumps({"successes": [], "errors": errors}))
            self._store(request.ids)
            successes = [{"id": id, "status": 201} for id in ids]
            return HttpResponse(207, {}, json.dumps({"successes": successes, "errors": []}))
        if int(self.version.split(".")[0]) < 3:
            return HttpResponse(404, {}, "not found")
        self._store(request.ids)
        return HttpResponse(200, {}, "{}")

    def _store(self, ids: Sequence[str]) -> None:
        for id in ids:
            self.stored[id] = self.stored.get(id, 0) + 1


def _spans(export: Any) -> list[Any]:
    return [
        span
        for resource in export["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
