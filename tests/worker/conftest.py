"""The Worker in the real workerd, between a scripted provider, an echo provider and an inbox.

Each test asserts what the client received and what Langfuse received. Nothing sleeps: a provider's
script and a test wait for each other at named gates, and the inbox and the log are waited for.

Tests share running gateways: `stage` has the default variables, and a few fixtures have others.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anthropic
import httpx
import openai
import pytest
from aiohttp import web

from local import echo
from local.inbox import Inbox
from local.inbox.store import Observation
from local.runtime import NotInstalled, Runtime, require_installed
from local.server import Server

from . import deployment, faults
from .deployment import PROVIDER_KEY, PUBLIC_KEY, SECRET_KEY

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello there"}]}
SCRIPTED = {"x-portkey-provider": "scripted", "authorization": f"Bearer {PROVIDER_KEY}"}
# The user of the call by which `traced_so_far` recognises that all earlier calls are traced.
MARKER_USER = "the last call of a test"
# How long a test waits for what must happen. A busy machine may need many times the usual time.
TIMEOUT_SECONDS = 100

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as the scripted provider received it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value by its lower-case name."""
        return {name.lower(): value for name, value in self.headers}.get(name)


@dataclass
class Provider:
    """A provider that handles each request with `script`, which a test sets.

    `received` are the requests that a script has recorded. Script and test wait for each other at
    named gates: the script awaits `gate(name).wait()` until the test calls `open(name)`, or the
    test calls `wait(name)` until the script has called `gate(name).set()`.
    """

    script: Script
    received: list[ReceivedRequest] = field(default_factory=list)
    url: str = ""
    loop: asyncio.AbstractEventLoop | None = None
    gates: dict[str, asyncio.Event] = field(default_factory=dict)

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    def open(self, name: str) -> None:
        """Open a gate that the script waits for. For the test's thread."""
        assert self.loop
        self.loop.call_soon_threadsafe(lambda: self.gate(name).set())

    def wait(self, name: str) -> None:
        """Wait until the script has opened a gate. For the test's thread."""
        assert self.loop

        async def opened() -> None:
            await asyncio.wait_for(self.gate(name).wait(), TIMEOUT_SECONDS)

        asyncio.run_coroutine_threadsafe(opened(), self.loop).result()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self.script(request)


async def record(provider: Provider, request: web.Request) -> ReceivedRequest:
    """Read a request to its end and append it to `provider.received`."""
    received = ReceivedRequest(
        request.method, request.path_qs, tuple(request.headers.items()), await request.read()
    )
    provider.received.append(received)
    return received


def reply_json(provider: Provider, content: Any = None, **options: Any) -> None:
    """Let the provider record each request and reply with JSON."""

    async def script(request: web.Request) -> web.StreamResponse:
        await record(provider, request)
        return web.json_response({} if content is None else content, **options)

    provider.script = script


async def _reply_ok(request: web.Request) -> web.StreamResponse:
    return web.json_response({"ok": True})


@dataclass(frozen=True)
class Stage:
    """A running gateway with its provider and its inbox, and clients for it.

    `began` is when the test began, `first_log` the number of log lines before it. `gateway_env` are
    the variables that all gateways of these tests have.
    """

    gateway: Runtime
    provider: Provider
    inbox: Inbox
    inbox_loop: asyncio.AbstractEventLoop
    began: str
    first_log: int
    gateway_env: Mapping[str, Any]

    @property
    def url(self) -> str:
        return self.gateway.url

    def openai(self, **options: Any) -> openai.OpenAI:
        options = {"api_key": PROVIDER_KEY, "max_retries": 0, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **options)

    def anthropic(self, **options: Any) -> anthropic.Anthropic:
        options = {"api_key": PROVIDER_KEY, "max_retries": 0, **options}
        return anthropic.Anthropic(base_url=self.url, **options)

    def http(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=TIMEOUT_SECONDS, **options)

    def observations(self, n: int = 1) -> list[Any]:
        """The observations of this test's requests, as soon as the inbox has `n` of them."""
        return self.inbox.wait_for(n, TIMEOUT_SECONDS, where=self._is_of_this_test)

    def observation(self) -> Any:
        """The only observation of this test's requests, as soon as the inbox has it."""
        (observation,) = self.observations()
        return observation

    def observations_now(self) -> list[Observation]:
        """The observations of this test's requests that the inbox has now."""
        # Deliveries of an earlier test may arrive at any time.
        return [o for o in self.inbox.observations() if self._is_of_this_test(o)]

    def traced_so_far(self) -> list[Observation]:
        """The observations of this test's requests, after those of one more call have arrived."""
        marker = {"x-portkey-user-id": MARKER_USER, "x-portkey-provider": "openai"}
        self.openai().chat.completions.create(**CHAT, extra_headers=marker)
        self.inbox.wait_for(
            1,
            TIMEOUT_SECONDS,
            where=lambda o: self._is_of_this_test(o) and o["user_id"] == MARKER_USER,
        )
        return [o for o in self.observations_now() if o["user_id"] != MARKER_USER]

    def trace_of(self, observation: Any) -> Any:
        """The trace of an observation."""
        (trace,) = (t for t in self.inbox.traces() if t["id"] == observation["trace_id"])
        return trace

    @property
    def logs(self) -> list[str]:
        """The log's lines since this test began."""
        return self.gateway.logs[self.first_log :]

    def wait_for_logs(self, event: str, n: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """The log lines of an event with these fields, as soon as there are `n` of them."""

        def lines() -> list[dict[str, Any]]:
            found = (json.loads(line) for line in self.logs if line.startswith("{"))
            return [line for line in found if line.items() >= {"event": event, **fields}.items()]

        self.gateway.wait_for_logs(lambda _: len(lines()) >= n, TIMEOUT_SECONDS)
        return lines()

    def _is_of_this_test(self, observation: Observation) -> bool:
        return str(observation["start_time"]) >= self.began


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    provider = Provider(_reply_ok)
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", provider.handle)
    with Server(app) as server:
        provider.url, provider.loop = server.url, server.loop
        yield provider


@pytest.fixture
def provider(_provider: Provider) -> Provider:
    _provider.script = _reply_ok
    _provider.received.clear()
    _provider.gates.clear()
    return _provider


@pytest.fixture(scope="session")
def _inbox() -> Iterator[tuple[Inbox, Server]]:
    inbox = Inbox(PUBLIC_KEY, SECRET_KEY)
    with Server(inbox.app()) as server:
        yield inbox, server


@pytest.fixture
def inbox(_inbox: tuple[Inbox, Server]) -> Inbox:
    inbox = _inbox[0]
    inbox.fault, inbox.version = None, "3.120.0"
    inbox.clear()
    return inbox


@pytest.fixture(scope="session")
def environment(_inbox: tuple[Inbox, Server], _provider: Provider) -> Iterator[dict[str, Any]]:
    """The variables of every gateway in these tests. The known providers are the echo provider.

    An upload has more time than by default, so that no trace is lost on a busy machine.
    """
    with Server(echo.app(delay_ms=0)) as server:
        providers = {slug: {"base_url": f"{server.url}/v1"} for slug in ("openai", "anthropic")}
        providers["scripted"] = {"base_url": f"{_provider.url}/base"}
        providers["offline"] = {"base_url": "http://127.0.0.1:1/v1"}
        yield {
            "LANGFUSE_PUBLIC_KEY": PUBLIC_KEY,
            "LANGFUSE_SECRET_KEY": SECRET_KEY,
            "LANGFUSE_BASE_URL": _inbox[1].url,
            "LANGFUSE_TIMEOUT": "20",
            "PROVIDERS": json.dumps(providers),
        }


@pytest.fixture(scope="session")
def _runtimes(environment: dict[str, Any]) -> Iterator[Callable[..., Runtime]]:
    running: dict[str, Runtime] = {}

    def run(changes: dict[str, Any], **options: Any) -> Runtime:
        name = json.dumps([changes, options], sort_keys=True)
        if name not in running:
            env = {k: v for k, v in {**environment, **changes}.items() if v is not None}
            running[name] = Runtime(env, **options)
        return running[name]

    yield run
    for runtime in running.values():
        runtime.close()


@pytest.fixture
def stage_with(
    _runtimes: Callable[..., Runtime],
    provider: Provider,
    inbox: Inbox,
    _inbox: tuple[Inbox, Server],
    environment: dict[str, Any],
) -> Callable[..., Stage]:
    """A stage whose gateway has some other variables: `stage_with(NAME=value)`, None for unset.

    Names in lower case are options of `Runtime`: `without_flags`, `queues`. Tests with equal
    arguments share a gateway.
    """

    began = datetime.now(UTC).isoformat(timespec="milliseconds")

    def build(**changes: Any) -> Stage:
        options = {name: changes.pop(name) for name in [*changes] if name.islower()}
        runtime = _runtimes(changes, **options)
        return Stage(
            runtime, provider, inbox, _inbox[1].loop, began, len(runtime.logs), environment
        )

    return build


@pytest.fixture
def stage(stage_with: Callable[..., Stage]) -> Stage:
    return stage_with()


@pytest.fixture
def with_keys(stage_with, environment, provider: Provider) -> Stage:
    """`deployment.with_keys`"""
    return stage_with(**deployment.with_keys(provider.url, environment))


@pytest.fixture
def with_configs(stage_with, environment, provider: Provider) -> Stage:
    """`deployment.with_configs`"""
    return stage_with(**deployment.with_configs(provider.url, environment))


@pytest.fixture
def untraced(stage_with, environment, provider: Provider) -> Stage:
    """`deployment.untraced`"""
    return stage_with(**deployment.untraced(provider.url, environment))


@pytest.fixture
def with_otlp(stage_with, environment, provider: Provider) -> Stage:
    """`deployment.with_configs` with OTLP."""
    variables = deployment.with_configs(provider.url, environment)
    return stage_with(**variables, LANGFUSE_PROTOCOL="otlp")


@pytest.fixture
def with_variables(stage_with, environment, provider: Provider) -> Stage:
    """`deployment.with_variables`"""
    return stage_with(**deployment.with_variables(provider.url, environment))


@pytest.fixture
def without_content(stage_with) -> Stage:
    """`deployment.WITHOUT_CONTENT`"""
    return stage_with(**deployment.WITHOUT_CONTENT)


@pytest.fixture(scope="module")
def fault_world() -> Iterator[faults.World]:
    """A Langfuse with faults, and a gateway for it."""
    with faults.world() as world:
        yield world
