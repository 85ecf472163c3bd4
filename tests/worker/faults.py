"""A Langfuse in trouble, a provider with every kind of reply, and the books of who sent what.

A fault stands around the inbox's own handler: it gets each upload first, and may keep it from being
stored, or its answer from being heard.
"""

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import aiohttp
import httpx
from aiohttp import web

from local.inbox import Inbox
from local.runtime import Runtime
from local.server import Server

GATEWAY_KEY = "gw_of-the-tests-0123456789"
KEY_HEADER = {"x-portkey-api-key": GATEWAY_KEY}
PUBLIC_KEY, SECRET_KEY = "pk-lf-faults", "sk-lf-faults-secret"
HEALTH, INGESTION, OTLP = (
    "/api/public/health",
    "/api/public/ingestion",
    "/api/public/otel/v1/traces",
)

# How often the body of a request has come.
TRIES = web.RequestKey("tries", int)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


# Faults.


async def well(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request)


def first(times: int, fault: Fault) -> Fault:
    """The fault, for so many times that the same bytes come."""

    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await (fault if request[TRIES] <= times else well)(request, handler)

    return play


def answer(status: int, text: str = "", content_type: str = "", **headers: str) -> Fault:
    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kind = content_type or ("application/json" if text[:1] in ("{", "[") else "text/plain")
        return web.Response(status=status, text=text, headers=named, content_type=kind)

    return play


def retry_at(seconds: float) -> Fault:
    """Leave me alone until a date, which has whole seconds only."""

    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        date = formatdate(time.time() + seconds, usegmt=True)
        return web.Response(status=429, headers={"retry-after": date})

    return play


async def close(request: web.Request, handler: Handler) -> web.StreamResponse:
    assert request.transport
    request.transport.abort()
    return web.Response()


async def hang(request: web.Request, handler: Handler) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


def slow(seconds: float) -> Fault:
    """Nothing is stored if the gateway has gone meanwhile."""

    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await handler(request)

    return play


def stored_but(fault: Fault) -> Fault:
    """Everything is stored, and then the fault answers."""

    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        await handler(request)
        return await fault(request, handler)

    return play


def down_for(seconds: float, fault: Fault = close) -> Fault:
    """The fault, until so long after the first upload."""
    ends: list[float] = []

    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not ends:
            ends.append(time.monotonic() + seconds)
        return await (fault if time.monotonic() < ends[0] else well)(request, handler)

    return play


def where(is_so: Callable[[web.Request, Sequence[str]], bool], fault: Fault) -> Fault:
    """The fault for the uploads for which it is so, given the ids of their traces."""

    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        ids = trace_ids(request.path, await request.read())
        return await (fault if is_so(request, ids) else well)(request, handler)

    return play


def by_event(
    judge: Callable[[str, int], Mapping[str, Any] | None],
) -> Callable[["Langfuse"], Fault]:
    """Ingestion batches of which some events are refused: with what `judge` says of an event's
    trace, in the so many-eth try, and if that is None it is stored."""

    def of(langfuse: "Langfuse") -> Fault:
        tries: Counter[str] = Counter()

        async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
            events = json.loads(await request.read())["batch"]
            errors, kept = [], []
            for event in events:
                tries[event["id"]] += 1
                refusal = judge(_trace_id(event), tries[event["id"]])
                if refusal is None:
                    kept.append(event)
                else:
                    errors.append({"id": event["id"], **refusal})
            said = await langfuse.store(request, {"batch": kept})
            said["errors"] += errors
            return web.json_response(said, status=207)

        return play

    return of


def trace_ids(path: str, body: bytes) -> list[str]:
    """The ids of the traces in an upload."""
    content = json.loads(body)
    if path == INGESTION:
        return [*dict.fromkeys(_trace_id(event) for event in content["batch"])]
    spans = [
        span
        for resource in content["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    return [span["traceId"] for span in spans]


def _trace_id(event: Mapping[str, Any]) -> str:
    return event["body"].get("traceId") or event["body"]["id"]


@dataclass
class Langfuse:
    """An inbox behind a fault, and another one around its health page.

    `tries` are the times at which each body came, `paths` counts where to.
    """

    inbox: Inbox = field(default_factory=lambda: Inbox(PUBLIC_KEY, SECRET_KEY, keep_requests=0))
    fault: Fault = well
    health: Fault = well
    asked: int = 0
    tries: dict[bytes, list[float]] = field(default_factory=dict)
    paths: Counter[str] = field(default_factory=Counter)
    url: str = ""
    back_door: str = ""

    @contextmanager
    def running(self) -> Iterator["Langfuse"]:
        app = self.inbox.app()
        app.middlewares.insert(0, self._play)
        with Server(app) as server, Server(self.inbox.app()) as back:
            self.url, self.back_door = server.url, back.url
            yield self

    def begin(self, version: str = "3.120.0") -> None:
        """Forget everything and be well."""
        self.inbox.clear()
        self.inbox.version = version
        self.fault = self.health = well
        self.asked = 0
        self.tries.clear()
        self.paths.clear()

    async def store(self, request: web.Request, content: Any) -> Any:
        """Let the inbox have something else than what came; out: what it answers."""
        headers = {"authorization": request.headers["authorization"]}
        async with (
            aiohttp.ClientSession(self.back_door) as session,
            session.post(request.path, json=content, headers=headers) as response,
        ):
            return await response.json()

    @web.middleware
    async def _play(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == HEALTH:
            self.asked += 1
            return await self.health(request, handler)
        if request.path not in (INGESTION, OTLP):
            self.paths["elsewhere"] += 1
            return await handler(request)
        self.paths[request.path] += 1
        digest = hashlib.sha256(await request.read()).digest()
        times = self.tries.setdefault(digest, [])
        times.append(time.time())
        request[TRIES] = len(times)
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


@dataclass
class Provider:
    """Answers each call with what `reply_to` says, and counts them."""

    seen: int = 0
    url: str = ""

    @contextmanager
    def running(self) -> Iterator["Provider"]:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/{path:.*}", self._reply)
        with Server(app) as server:
            self.url = server.url
            yield self

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        self.seen += 1
        number = int((await request.json())["metadata"]["number"])
        kind, body = kind_of(number), reply_to(number)
        if kind not in ("streamed", "leaving"):
            return web.Response(
                body=body,
                status=500 if kind == "failing" else 200,
                content_type="application/json",
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(body)
        while kind == "leaving":
            await response.write(b": still here\n\n")
            await asyncio.sleep(0.02)  # until the gateway gives up
        return response


async def call(session: aiohttp.ClientSession, number: int, padding: int = 0) -> str:
    """Make a call and check its reply; out: its trace's id."""
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


async def load(
    url: str, count: int, at_once: int | None = None, padding: int = 0
) -> dict[str, int]:
    """Make `count` calls, by default all at once. Out: each call's number by its trace's id."""
    numbers = iter(range(count))
    ids: dict[str, int] = {}
    headers = {**KEY_HEADER, "x-portkey-provider": "scripted"}
    async with aiohttp.ClientSession(
        url,
        headers=headers,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=60),
    ) as session:

        async def work() -> None:
            for number in numbers:
                ids[await call(session, number, padding)] = number

        await asyncio.gather(*(work() for _ in range(at_once or count)))
    return ids


# Books.


@dataclass(frozen=True)
class Books:
    """What became of the traces of a run, by their ids.

    `received` counts how often each came to be stored, `lines` are those of the log that report a
    loss, `dropped` is how many losses the isolate has counted.
    """

    ids: Mapping[str, int]
    observations: Mapping[str, Mapping[str, Any]]
    lines: Sequence[Mapping[str, Any]]
    stored: int
    dropped: int

    @property
    def received(self) -> dict[str, int]:
        return {id: found["received"] for id, found in self.observations.items()}

    @property
    def reported(self) -> Counter[str]:
        """How often each trace is named as lost."""
        return Counter(id for line in self.lines for id in line.get("trace_ids", "").split())


@dataclass
class World:
    """A provider, a Langfuse with faults, and gateways between them."""

    provider: Provider
    langfuse: Langfuse
    gateways: dict[str, Runtime] = field(default_factory=dict)

    @contextmanager
    def gateway(self, **env: str) -> Iterator[Runtime]:
        """A gateway of its own, with no past."""
        with Runtime(self.env(**env)) as runtime:
            yield runtime

    def kept(self, **env: str) -> Runtime:
        """A gateway that others with the same variables use too."""
        name = json.dumps(env, sort_keys=True)
        if name not in self.gateways:
            self.gateways[name] = Runtime(self.env(**env))
        return self.gateways[name]

    def env(self, **changes: str) -> dict[str, str]:
        digest = hashlib.sha256(GATEWAY_KEY.encode()).hexdigest()
        return {
            "LANGFUSE_PUBLIC_KEY": PUBLIC_KEY,
            "LANGFUSE_SECRET_KEY": SECRET_KEY,
            "LANGFUSE_BASE_URL": self.langfuse.url,
            "PROVIDERS": json.dumps({"scripted": {"base_url": f"{self.provider.url}/v1"}}),
            "GATEWAY_API_KEYS": json.dumps({"tests": digest}),
            **changes,
        }

    def run(
        self,
        gateway: Runtime,
        count: int,
        within: float,
        at_once: int | None = None,
        padding: int = 0,
    ) -> Books:
        """Make so many calls, and wait until the isolate has accounted for each of them, for at
        most `within` seconds."""
        before, first_line, seen = counts(gateway), len(gateway.logs), self.provider.seen
        ids = asyncio.run(load(gateway.url, count, at_once, padding))
        assert len(ids) == count == self.provider.seen - seen
        deadline = time.monotonic() + within
        while (after := counts(gateway)).total() - before.total() < count:
            assert time.monotonic() < deadline, f"{after - before} of {count} are accounted for"
            time.sleep(0.05)
        gained = after - before

        def lost() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in gateway.logs[first_line:] if line[:1] == "{"]
            return [line for line in lines if line["event"] == "trace_not_delivered"]

        # What is counted is in the log a moment later, but for lines that are left out.
        with suppress(TimeoutError):
            gateway.wait_for_logs(
                lambda _: sum(line["observations"] for line in lost()) >= gained["dropped"],
                timeout=1,
            )
        found = self.langfuse.inbox.observations()
        observations = {o["trace_id"]: o for o in found}
        assert len(observations) == len(found)
        return Books(
            ids=ids,
            observations=observations,
            lines=lost(),
            stored=gained["stored"],
            dropped=gained["dropped"],
        )


def state(gateway: Runtime) -> dict[str, Any]:
    """What the gateway says of its delivery."""
    return httpx.get(f"{gateway.url}/health", headers=KEY_HEADER).json()["delivery"]


def counts(gateway: Runtime) -> Counter[str]:
    said = state(gateway)
    return Counter({name: said[name] for name in ("stored", "queued", "dropped")})


@contextmanager
def world() -> Iterator[World]:
    with Provider().running() as provider, Langfuse().running() as langfuse:
        made = World(provider, langfuse)
        try:
            yield made
        finally:
            for runtime in made.gateways.values():
                with suppress(Exception):
                    runtime.close()
