"""A Langfuse server with faults, on a virtual clock.

`FaultyLangfuse` implements `IsolatePlatform`. Behind its `http` is a server that validates and
stores uploads with the inbox's code. A fault gets each upload first: it may keep it from being
stored, or replace or withhold the response.
"""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cached_property
from random import Random
from typing import Any

from core.platform import TraceQueue
from core.types import HttpResponse, NetworkError
from local.inbox import ingestion, otlp, protobuf
from local.inbox.store import Store
from tests.unit import virtual_time
from tests.unit.langfuse import DESTINATION

HEALTH_PATH = "/api/public/health"
INGESTION_PATH = "/api/public/ingestion"
OTLP_PATH = "/api/public/otel/v1/traces"
# Range of the network's latency in each direction, in seconds.
LATENCY = (0.002, 0.05)
# https://developers.cloudflare.com/workers/runtime-apis/context/#waituntil
WAIT_UNTIL_SECONDS = 30.0


@dataclass(frozen=True)
class Upload:
    """A request to the server."""

    path: str
    body: bytes

    @cached_property
    def items(self) -> list[Any]:
        """The events of an ingestion batch, or the spans of an OTLP export; none of a health
        check."""
        if not self.body:
            return []
        content = json.loads(self.body)
        return content["batch"] if self.path == INGESTION_PATH else _spans(content)

    @cached_property
    def trace_ids(self) -> set[str]:
        return {trace_id(item) for item in self.items}


def trace_id(item: Mapping[str, Any]) -> str:
    """The trace id of an event or a span."""
    if "traceId" in item:
        return item["traceId"]
    return item["body"].get("traceId") or item["body"]["id"]


Fault = Callable[[Upload, "FaultyLangfuse"], Awaitable[HttpResponse]]


@dataclass
class FaultyLangfuse:
    """A platform whose `http` reaches a Langfuse of version `version`.

    `fault` gets each upload, `health_fault` each health check. `arrivals` are the times at which
    each body arrived, `paths` counts the uploads by path. `events` are the types of the stored
    events by trace id, and `stored_items` counts how often each event or span was stored.
    `uncertain` are the ids of traces that may be stored more than once: the response to an upload
    was lost or was an error although an event was stored, or another upload began before the
    response. `queue` is the deployment's queue, if it has one.
    """

    version: str = "3.120.0"
    fault: Fault | None = None
    health_fault: Fault | None = None
    queue: TraceQueue | None = None
    store: Store = field(default_factory=Store)
    arrivals: dict[bytes, list[float]] = field(default_factory=dict)
    paths: Counter[str] = field(default_factory=Counter)
    health_checks: int = 0
    events: dict[str, set[str]] = field(default_factory=dict)
    stored_items: Counter[str] = field(default_factory=Counter)
    uncertain: set[str] = field(default_factory=set)
    in_flight: Counter[str] = field(default_factory=Counter)
    seed: int = 1

    def __post_init__(self) -> None:
        self.generator = Random(self.seed)

    @property
    def stored(self) -> set[str]:
        """The ids of the traces that are stored with their observation."""
        return {
            id for id, types in self.events.items() if "trace-create" in types and len(types) > 1
        }

    def now(self) -> float:
        return virtual_time.now()

    def random(self) -> float:
        return self.generator.random()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> HttpResponse:
        path = url.removeprefix(DESTINATION.base_url)
        if path != HEALTH_PATH:
            assert headers["authorization"] == f"Basic {DESTINATION.credential}"
        upload = Upload(path, body)
        try:
            async with asyncio.timeout(timeout), self._tracked(upload):
                await asyncio.sleep(self.generator.uniform(*LATENCY))
                response = await self._handle(upload)
                await asyncio.sleep(self.generator.uniform(*LATENCY))
                if not _is_success(response):
                    self.uncertain |= upload.trace_ids & self.events.keys()
                return response
        except TimeoutError:
            raise NetworkError("timed out") from None

    async def gzip(self, data: bytes) -> bytes:
        return gzip.compress(data)

    async def gunzip(self, data: bytes, limit: int) -> bytes:
        return gzip.decompress(data)

    @asynccontextmanager
    async def _tracked(self, upload: Upload) -> AsyncIterator[None]:
        ids = upload.trace_ids
        self.uncertain |= ids & (+self.in_flight).keys()
        self.in_flight.update(ids)
        try:
            yield
        except BaseException:
            self.uncertain |= ids & self.events.keys()
            raise
        finally:
            self.in_flight.subtract(ids)

    async def _handle(self, upload: Upload) -> HttpResponse:
        if upload.path == HEALTH_PATH:
            self.health_checks += 1
            return await (self.health_fault or accept)(upload, self)
        self.paths[upload.path] += 1
        self.arrivals.setdefault(upload.body, []).append(self.now())
        return await (self.fault or accept)(upload, self)

    def attempt(self, upload: Upload) -> int:
        """How often these bytes have arrived."""
        return len(self.arrivals[upload.body])

    def accept(self, upload: Upload) -> HttpResponse:
        """Store an upload as far as it is valid. Returns the response of a healthy server."""
        if upload.path == HEALTH_PATH:
            return json_response(200, {"status": "OK", "version": self.version})
        if upload.path == INGESTION_PATH:
            return self.store_events(upload.items, {})
        return self.store_spans(json.loads(upload.body))

    def store_events(
        self, events: Sequence[Any], refusals: Mapping[str, Mapping[str, Any]]
    ) -> HttpResponse:
        """Store the events that are valid and not in `refusals`, which are errors by event id."""
        successes, errors = [], []
        for event in events:
            error = refusals.get(event["id"]) or self._event_error(event)
            if error:
                errors.append({"id": event["id"], **error})
            else:
                ingestion.keep(event, self._major_version, self.store)
                self.events.setdefault(trace_id(event), set()).add(event["type"])
                self.stored_items[event["id"]] += 1
                successes.append({"id": event["id"], "status": 201})
        return json_response(207, {"successes": successes, "errors": errors})

    def store_spans(self, export: Any) -> HttpResponse:
        """Store an OTLP export as a whole, or refuse it as a whole."""
        if self._major_version < 3:
            return HttpResponse(404, {}, "This page could not be found.")
        try:
            otlp.keep(protobuf.from_json(export), self._major_version, self.store)
        except protobuf.Malformed as error:
            return json_response(400, {"message": f"Invalid OTel span: {error}"})
        self.events.update({span["traceId"]: {"trace-create", "span"} for span in _spans(export)})
        self.stored_items.update(span["spanId"] for span in _spans(export))
        return json_response(200, {})

    def _event_error(self, event: Any) -> dict[str, Any] | None:
        if self._major_version >= 4:
            return {"status": 400, "message": "Event type not accepted"}
        problem = ingestion.problem(event, self._major_version)
        if problem:
            return {"status": 400, "message": "Invalid request data", "error": problem}
        return None

    @property
    def _major_version(self) -> int:
        return int(self.version.split(".")[0])


def _spans(export: Any) -> list[Any]:
    return export["resourceSpans"][0]["scopeSpans"][0]["spans"]


def _is_success(response: HttpResponse) -> bool:
    return response.status < 300 and "partialSuccess" not in response.text


def json_response(status: int, content: Any) -> HttpResponse:
    return HttpResponse(status, {}, json.dumps(content))


# Faults.


async def accept(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
    """No fault."""
    return langfuse.accept(upload)


def respond(status: int, text: str = "", **headers: str) -> Fault:
    """A response in place of the server's. `retry_after=` becomes the header `retry-after`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def fault(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        return HttpResponse(status, named, text)

    return fault


def retry_at(seconds: float) -> Fault:
    """429 with a date, which has whole seconds only, in Retry-After."""

    async def fault(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        date = formatdate(langfuse.now() + seconds, usegmt=True)
        return HttpResponse(429, {"retry-after": date}, "")

    return fault


def fail(reason: str) -> Fault:
    """No response, for a reason that the platform reports."""

    async def fault(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        raise NetworkError(reason)

    return fault


close = fail("Network connection lost.")
too_much = fail("more than 1048576 bytes")


async def hang(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
    """No response, ever."""
    await asyncio.Event().wait()
    raise AssertionError


def delay(seconds: float) -> Fault:
    """Nothing is stored if the client has closed the connection before the delay is over."""

    async def fault(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        await asyncio.sleep(seconds)
        return langfuse.accept(upload)

    return fault


def first(attempts: int, fault: Fault) -> Fault:
    """The fault, for the first attempts with the same bytes."""

    async def limited(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        return await (fault if langfuse.attempt(upload) <= attempts else accept)(upload, langfuse)

    return limited


def store_then(fault: Fault) -> Fault:
    """The upload is stored, and then the fault replaces the response."""

    async def late(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        langfuse.accept(upload)
        return await fault(upload, langfuse)

    return late


def down_for(seconds: float, fault: Fault = close) -> Fault:
    """The fault, until this many seconds after the first upload."""

    async def outage(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        began = min(time for times in langfuse.arrivals.values() for time in times)
        is_down = langfuse.now() < began + seconds
        return await (fault if is_down else accept)(upload, langfuse)

    return outage


def where(condition: Callable[[Upload], bool], fault: Fault) -> Fault:
    """The fault, for the uploads that meet a condition."""

    async def conditional(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        return await (fault if condition(upload) else accept)(upload, langfuse)

    return conditional


EventError = Callable[[Mapping[str, Any], int], Mapping[str, Any] | None]


def refuse_events(error: EventError, id: str | None = None) -> Callable[[], Fault]:
    """Ingestion batches of which some events are refused: those with an `error`, given the event
    and how often it has arrived. The response names them by `id` instead, where one is
    given."""

    def make() -> Fault:
        attempts: Counter[str] = Counter()

        async def fault(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
            events = upload.items
            attempts.update(event["id"] for event in events)
            errors = {event["id"]: error(event, attempts[event["id"]]) for event in events}
            refusals = {event: found for event, found in errors.items() if found}
            response = langfuse.store_events(events, refusals)
            if id:
                content = json.loads(response.text)
                content["errors"] = [{**each, "id": id} for each in content["errors"]]
                response = json_response(207, content)
            return response

        return fault

    return make
