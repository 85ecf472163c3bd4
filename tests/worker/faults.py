"""Langfuse servers with faults, calls of every kind, and the check that no trace is lost.

A fault stands in front of the inbox's handler: it gets each upload first, and may keep it from
being stored, or replace or withhold the response.
"""

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import aiohttp
import httpx
from aiohttp import web

from local.inbox import Inbox
from local.runtime import Runtime
from local.server import Server

# The Langfuse project of each protocol: its server's version decides on the protocol.
VERSIONS = {"ingestion": "3.120.0", "otlp": "4.16.0"}
GATEWAY_KEYS = {protocol: f"gw_of-{protocol}-0123456789" for protocol in VERSIONS}
PUBLIC_KEY, SECRET_KEY = "pk-lf-faults", "sk-lf-faults-secret"
UPLOAD_PATHS = ("/api/public/ingestion", "/api/public/otel/v1/traces")
# How long a run waits for its traces. No trace needs that long; a busy machine may.
TIMEOUT_SECONDS = 200

# How often the body of a request has arrived.
ATTEMPT = web.RequestKey("attempt", int)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


# Faults.


async def accept(request: web.Request, handler: Handler) -> web.StreamResponse:
    """No fault."""
    return await handler(request)


def first(attempts: int, fault: Fault) -> Fault:
    """The fault, for the first attempts with the same bytes."""

    async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await (fault if request[ATTEMPT] <= attempts else accept)(request, handler)

    return limited


def respond(status: int, text: str = "", content_type: str = "", **headers: str) -> Fault:
    """A response in place of the server's. `retry_after=` becomes the header `retry-after`."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kind = content_type or ("application/json" if text[:1] in ("{", "[") else "text/plain")
        return web.Response(status=status, text=text, headers=named, content_type=kind)

    return fault


def retry_at(seconds: float) -> Fault:
    """429 with a date, which has whole seconds only, in Retry-After."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        date = formatdate(time.time() + seconds, usegmt=True)
        return web.Response(status=429, headers={"retry-after": date})

    return fault


async def close(request: web.Request, handler: Handler) -> web.StreamResponse:
    assert request.transport
    request.transport.abort()
    return web.Response()


def store_then(fault: Fault) -> Fault:
    """The upload is stored, and then the fault replaces the response."""

    async def late(request: web.Request, handler: Handler) -> web.StreamResponse:
        await handler(request)
        return await fault(request, handler)

    return late


def down_for(seconds: float) -> Callable[["FaultyLangfuse"], Fault]:
    """502 until this many seconds after the first upload."""

    def of(langfuse: "FaultyLangfuse") -> Fault:
        ends: list[float] = []

        async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
            ends[:] = ends or [time.monotonic() + seconds]
            is_down = time.monotonic() < ends[0]
            return await (respond(502) if is_down else accept)(request, handler)

        return fault

    return of


def where(condition: Callable[[web.Request, Sequence[str]], bool], fault: Fault) -> Fault:
    """The fault, for the uploads that meet a condition, given the ids of their traces."""

    async def conditional(request: web.Request, handler: Handler) -> web.StreamResponse:
        ids = [trace_id(item) for item in items(await request.read())]
        return await (fault if condition(request, ids) else accept)(request, handler)

    return conditional


def refuse_events(
    error: Callable[[str, int], Mapping[str, Any] | None],
) -> Callable[["FaultyLangfuse"], Fault]:
    """Ingestion batches of which some events are refused: those with an `error`, given the trace id
    and how often the event has arrived."""

    def of(langfuse: "FaultyLangfuse") -> Fault:
        attempts: Counter[str] = Counter()

        async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
            errors, accepted = [], []
            for event in items(await request.read()):
                attempts[event["id"]] += 1
                refusal = error(trace_id(event), attempts[event["id"]])
                if refusal is None:
                    accepted.append(event)
                else:
                    errors.append({"id": event["id"], **refusal})
            result = await langfuse.store(request, {"batch": accepted})
            result["errors"] += errors
            return web.json_response(result, status=207)

        return fault

    return of


def items(body: bytes) -> list[Any]:
    """The events of an ingestion batch, or the spans of an OTLP export."""
    content = json.loads(body)
    if "batch" in content:
        return content["batch"]
    return content["resourceSpans"][0]["scopeSpans"][0]["spans"]


def trace_id(item: Mapping[str, Any]) -> str:
    """The trace id of an event or a span."""
    if "traceId" in item:
        return item["traceId"]
    return item["body"].get("traceId") or item["body"]["id"]


@dataclass
class FaultyLangfuse:
    """An inbox behind a fault. `arrivals` are the times at which each body arrived, and
    `other_paths` those of other requests."""

    version: str
    fault: Fault = accept
    arrivals: dict[bytes, list[float]] = field(default_factory=dict)
    other_paths: list[str] = field(default_factory=list)
    url: str = ""
    direct_url: str = ""

    def __post_init__(self) -> None:
        self.inbox = Inbox(PUBLIC_KEY, SECRET_KEY, self.version, keep_requests=0)

    @contextmanager
    def running(self) -> Iterator["FaultyLangfuse"]:
        app = self.inbox.app()
        app.middlewares.insert(0, self._handle)
        with Server(app) as server, Server(self.inbox.app()) as direct:
            self.url, self.direct_url = server.url, direct.url
            yield self

    def reset(self) -> None:
        """Remove the fault, and all that has arrived."""
        self.inbox.clear()
        self.fault = accept
        self.arrivals.clear()
        self.other_paths.clear()

    async def store(self, request: web.Request, content: Any) -> Any:
        """Store this content in place of a request's, without the fault. Returns the response."""
        headers = {"authorization": request.headers["authorization"]}
        async with (
            aiohttp.ClientSession(self.direct_url) as session,
            session.post(request.path, json=content, headers=headers) as response,
        ):
            return await response.json()

    @web.middleware
    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in UPLOAD_PATHS:
            self.other_paths.append(request.path)
            return await handler(request)
        digest = hashlib.sha256(await request.read()).digest()
        times = self.arrivals.setdefault(digest, [])
        times.append(time.time())
        request[ATTEMPT] = len(times)
        return await self.fault(request, handler)


# Calls.

KINDS = ("whole", "streamed", "failing", "embedding", "leaving")


def kind_of(number: int) -> str:
    return KINDS[number % len(KINDS)]


def delta(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}}
    return f"data: {json.dumps({'model': 'm', 'choices': [choice]})}\n\n".encode()


def reply_to(number: int) -> bytes:
    """The provider's whole reply to a call."""
    kind = kind_of(number)
    if kind == "failing":
        return json.dumps({"error": {"message": f"reply {number}"}}).encode()
    if kind == "embedding":
        return json.dumps({"data": [{"embedding": [number, 0.5]}], "model": "m"}).encode()
    if kind == "whole":
        return json.dumps({"choices": [{"message": {"content": f"reply {number}"}}]}).encode()
    return delta("reply ") + delta(f"{number}") + b"data: [DONE]\n\n"


async def provider_reply(request: web.Request) -> web.StreamResponse:
    """The reply of a provider to a call. That of a client that leaves does not end."""
    number = int((await request.json())["metadata"]["number"])
    kind, body = kind_of(number), reply_to(number)
    if kind not in ("streamed", "leaving"):
        status = 500 if kind == "failing" else 200
        return web.Response(body=body, status=status, content_type="application/json")
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(body)
    while kind == "leaving":
        await response.write(b": still here\n\n")
        await asyncio.sleep(0.02)  # until the gateway closes the connection
    return response


async def call(session: aiohttp.ClientSession, number: int, padding: int) -> str:
    """Make a call and check its reply. Returns its trace's id."""
    kind = kind_of(number)
    path = "embeddings" if kind == "embedding" else "chat/completions"
    prompt = f"call {number} {'x' * padding}"
    body: dict[str, Any] = {"model": "m", "metadata": {"number": str(number)}}
    if kind == "embedding":
        body["input"] = prompt
    else:
        body["messages"] = [{"role": "user", "content": prompt}]
        body["stream"] = kind in ("streamed", "leaving")
    async with session.post(f"/v1/{path}", json=body) as response:
        assert response.status == (500 if kind == "failing" else 200)
        expected = reply_to(number)
        if kind == "leaving":
            received = await response.content.readexactly(len(expected))
            response.close()
        else:
            received = await response.read()
        assert received == expected
        return response.headers["x-portkey-trace-id"]


async def call_at_once(url: str, key: str, count: int, padding: int) -> dict[str, int]:
    """Make `count` calls at once. Returns each call's number by its trace's id."""
    async with aiohttp.ClientSession(
        url,
        headers={"x-portkey-api-key": key, "x-portkey-provider": "scripted"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
    ) as session:
        ids = await asyncio.gather(*(call(session, number, padding) for number in range(count)))
    return {id: number for number, id in enumerate(ids)}


# Results.


@dataclass(frozen=True)
class Result:
    """What became of a run. `numbers` are the calls by trace id, `observations` what Langfuse has
    by trace id, `lines` those of the log about losses, `stored` and `dropped` the isolate's counts.
    """

    numbers: Mapping[str, int]
    observations: Mapping[str, Mapping[str, Any]]
    lines: Sequence[Mapping[str, Any]]
    stored: int
    dropped: int

    @property
    def reported(self) -> Counter[str]:
        """How often each trace is reported as lost."""
        return Counter(id for line in self.lines for id in line.get("trace_ids", "").split())


@dataclass
class World:
    """A gateway with a Langfuse project for each protocol."""

    gateway: Runtime
    servers: Mapping[str, FaultyLangfuse]

    def run(self, protocol: str, count: int, *, padding: int = 0, is_logged: bool = True) -> Result:
        """Make `count` calls at once, and wait until the isolate has stored or dropped each, and
        until the log reports those that it has dropped, if `is_logged`."""
        before, first_line = self._counts(protocol), len(self.gateway.logs)
        key = GATEWAY_KEYS[protocol]
        numbers = asyncio.run(call_at_once(self.gateway.url, key, count, padding))
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (gained := self._counts(protocol) - before).total() < count:
            assert time.monotonic() < deadline, f"{gained} of {count} are accounted for"
            time.sleep(0.05)
        found = self.servers[protocol].inbox.observations()
        # What an earlier run had in flight when its responses were lost may arrive in this one.
        found = [each for each in found if each["trace_id"] in numbers]
        observations = {each["trace_id"]: each for each in found}
        assert len(observations) == len(found)

        def lines() -> list[dict[str, Any]]:
            found = [json.loads(line) for line in self.gateway.logs[first_line:] if line[:1] == "{"]
            return [line for line in found if line["event"] == "trace_not_delivered"]

        if is_logged:
            self.gateway.wait_for_logs(
                lambda _: sum(line["observations"] for line in lines()) >= gained["dropped"],
                TIMEOUT_SECONDS,
            )
        return Result(
            numbers=numbers,
            observations=observations,
            lines=lines(),
            stored=gained["stored"],
            dropped=gained["dropped"],
        )

    def _counts(self, protocol: str) -> Counter[str]:
        headers = {"x-portkey-api-key": GATEWAY_KEYS[protocol]}
        health = httpx.get(f"{self.gateway.url}/health", headers=headers, timeout=60).json()
        return Counter({name: health["delivery"][name] for name in ("stored", "dropped")})


@contextmanager
def world() -> Iterator[World]:
    provider = web.Application()
    provider.router.add_post("/{path:.*}", provider_reply)
    servers = {protocol: FaultyLangfuse(version) for protocol, version in VERSIONS.items()}
    with ExitStack() as stack:
        url = stack.enter_context(Server(provider)).url
        for server in servers.values():
            stack.enter_context(server.running())
        keys = {"public_key": PUBLIC_KEY, "secret_key": SECRET_KEY}
        env = {
            "PROVIDERS": json.dumps({"scripted": {"base_url": f"{url}/v1"}}),
            "GATEWAY_API_KEYS": json.dumps(
                {
                    protocol: {
                        "hash": hashlib.sha256(key.encode()).hexdigest(),
                        "langfuse": protocol,
                    }
                    for protocol, key in GATEWAY_KEYS.items()
                }
            ),
            "LANGFUSE_PROJECTS": json.dumps(
                {protocol: {**keys, "base_url": server.url} for protocol, server in servers.items()}
            ),
            "LANGFUSE_FLUSH_AT": "10",
            "LANGFUSE_FLUSH_INTERVAL": "500",
            # No upload is to fail because the machine is busy.
            "LANGFUSE_TIMEOUT": "20",
        }
        yield World(stack.enter_context(Runtime(env)), servers)
