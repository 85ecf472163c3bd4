"""A Langfuse of a few lines, reached by a platform with a virtual clock."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.types import HttpResponse, NetworkError
from settings.load import Destination, Settings
from tests.unit import virtual_time
from tests.unit.samples import EMPTY
from tracing import Observation

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
INGESTION, OTLP = "/api/public/ingestion", "/api/public/otel/v1/traces"


def observation(number: int = 1, **changes: Any) -> Observation:
    """One of many observations, each with ids of its own."""
    trace = replace(TRACE, id=f"{number:032x}")
    return replace(OBSERVATION, id=f"{number:016x}", trace=trace, **changes)


@dataclass
class Request:
    """A request as Langfuse got it; `ids` are those of the observations in it."""

    time: float
    path: str
    headers: Mapping[str, str]
    body: bytes
    ids: list[str]


Play = Callable[[Request], Awaitable[HttpResponse | None]]


@dataclass
class Langfuse:
    """A platform, and behind it a server of this version.

    `play` gets each request that is not for the health page and answers it, raises `NetworkError`,
    or returns None to let it pass. `stored` counts how often each observation was stored.
    """

    version: str = "3.120.0"
    play: Play | None = None
    requests: list[Request] = field(default_factory=list)
    asked: int = 0
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
            return await asyncio.wait_for(self._answer(method, path, headers, body), timeout)
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
        """When the requests came, in seconds since the first."""
        return [round(request.time - self.requests[0].time, 6) for request in self.requests]

    async def _answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> HttpResponse:
        if method == "GET":
            self.asked += 1
            return HttpResponse(200, {}, json.dumps({"status": "OK", "version": self.version}))
        content = json.loads(body)
        items = content["batch"] if path == INGESTION else _spans(content)
        known = [item["body"]["id"] if path == INGESTION else item["spanId"] for item in items]
        request = Request(self.now(), path, headers, body, [id for id in known if len(id) == 16])
        self.requests.append(request)
        answer = await self.play(request) if self.play else None
        return answer or self.take(request, items)

    def take(self, request: Request, items: Sequence[Any]) -> HttpResponse:
        """What a well server does with a request."""
        newer = int(self.version.split(".")[0]) >= 4
        if request.path == INGESTION:
            ids = [item["id"] for item in items]
            if newer:
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
