"""The Worker in the real workerd, between a provider and a Langfuse inbox that the tests play.

Every test asserts what the client saw and what Langfuse received. Nothing sleeps: a scripted
provider goes on when the test says so.
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

from . import faults

PUBLIC_KEY, SECRET_KEY = "pk-lf-worker-tests", "sk-lf-worker-tests-secret"
PROVIDER_KEY = "sk-caller-0123456789abcdef"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello there"}]}
MARKER = "the last call of a test"
SCRIPTED = {"x-portkey-provider": "scripted", "authorization": f"Bearer {PROVIDER_KEY}"}

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    """A request as the scripted provider got it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass
class Provider:
    """A provider that does what a test tells it to.

    `script` answers each request. A test and a script meet at named gates: the script awaits
    `reached(name)`, the test calls `open(name)`, or the other way round with `tell` and `wait`.
    """

    script: Script
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    loop: asyncio.AbstractEventLoop | None = None
    gates: dict[str, asyncio.Event] = field(default_factory=dict)

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    def open(self, name: str) -> None:
        """From the test: let the script pass its `await provider.gate(name).wait()`."""
        assert self.loop
        self.loop.call_soon_threadsafe(lambda: self.gate(name).set())

    def wait(self, name: str, timeout: float = 10) -> None:
        """From the test: wait until the script has set the gate."""
        assert self.loop

        async def opened() -> None:
            await asyncio.wait_for(self.gate(name).wait(), timeout)

        asyncio.run_coroutine_threadsafe(opened(), self.loop).result()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self.script(request)


async def keep(provider: Provider, request: web.Request) -> Seen:
    """Read a request whole and keep it in `provider.seen`."""
    seen = Seen(
        request.method, request.path_qs, tuple(request.headers.items()), await request.read()
    )
    provider.seen.append(seen)
    return seen


async def _say_ok(request: web.Request) -> web.StreamResponse:
    return web.json_response({"ok": True})


@dataclass(frozen=True)
class Stage:
    """A running gateway with what stands around it, and clients that talk to it."""

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
        return httpx.Client(base_url=self.url, timeout=20, **options)

    def observations(self, n: int = 1, timeout: float = 10) -> list[Any]:
        """The observations of this test's requests, as soon as the inbox holds `n` of them."""
        return self.inbox.wait_for(n, timeout, where=self._is_ours)

    def observation(self) -> Any:
        """The one observation of this test's requests, as soon as the inbox holds it."""
        (observation,) = self.observations()
        return observation

    def traced_so_far(self) -> list[Observation]:
        """What was traced of this test's requests, once a call that was made last is."""
        marker = {"x-portkey-user-id": MARKER, "x-portkey-provider": "openai"}
        self.openai().chat.completions.create(**CHAT, extra_headers=marker)
        self.inbox.wait_for(1, where=lambda o: self._is_ours(o) and o["user_id"] == MARKER)
        return [o for o in self.inbox.observations() if self._is_ours(o) and o["user_id"] != MARKER]

    @property
    def logs(self) -> list[str]:
        """The log's lines since this test began."""
        return self.gateway.logs[self.first_log :]

    def wait_for_logs(
        self, event: str, n: int = 1, timeout: float = 10, **fields: Any
    ) -> list[dict[str, Any]]:
        """The log lines of an event with these fields, as soon as there are `n` of them."""

        def lines() -> list[dict[str, Any]]:
            found = (json.loads(line) for line in self.logs if line.startswith("{"))
            return [line for line in found if line.items() >= {"event": event, **fields}.items()]

        self.gateway.wait_for_logs(lambda _: len(lines()) >= n, timeout)
        return lines()

    def _is_ours(self, observation: Observation) -> bool:
        # What an earlier test left to be delivered may arrive at any time.
        return str(observation["start_time"]) >= self.began


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    provider = Provider(_say_ok)
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", provider.handle)
    with Server(app) as server:
        provider.url, provider.loop = server.url, server.loop
        yield provider


@pytest.fixture
def provider(_provider: Provider) -> Provider:
    _provider.script = _say_ok
    _provider.seen.clear()
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
    """The Worker's variables in these tests: every known provider is the echo provider."""
    with Server(echo.app(delay_ms=0)) as server:
        providers = {slug: {"base_url": f"{server.url}/v1"} for slug in ("openai", "anthropic")}
        providers["scripted"] = {"base_url": f"{_provider.url}/base"}
        providers["nobody"] = {"base_url": "http://127.0.0.1:1/v1"}
        yield {
            "LANGFUSE_PUBLIC_KEY": PUBLIC_KEY,
            "LANGFUSE_SECRET_KEY": SECRET_KEY,
            "LANGFUSE_BASE_URL": _inbox[1].url,
            "LANGFUSE_TIMEOUT": "2",
            "LANGFUSE_RETRY_SECONDS": "5",
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
    """A stage whose Worker has some other variables: `stage_with(NAME=value)`, None for unset.

    What is in lower case is for the `Runtime`: `without_flags`, `queues`.
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


@pytest.fixture(scope="module")
def world() -> Iterator[faults.World]:
    """A provider, a Langfuse with faults, and gateways between them."""
    with faults.world() as made:
        yield made
