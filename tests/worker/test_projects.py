"""Several Langfuse projects of one gateway: each gets only the traces of its own callers."""

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web

from local.inbox import Inbox
from local.inbox.contents import Received
from local.server import Server

from .conftest import TIMEOUT_SECONDS, Stage
from .deployment import digest, fallback
from .targets import using

pytestmark = pytest.mark.long

TEAMS = ("red", "blue", "plain")  # the last one uses the default project
KEYS = {team: f"gw_of-team-{team}-0123456789abcdef" for team in TEAMS}
PAIRS = {
    "red": ("pk-lf-red-0123", "sk-lf-red-0123456789"),
    "blue": ("pk-lf-blue-0123", "sk-lf-blue-0123456789"),
    "plain": ("pk-lf-plain-0123", "sk-lf-plain-0123456789"),
}
MODEL = "gpt-4o-mini"
CALLS = 15  # of each team: a third of them whole, a third streamed, a third by a config


@dataclass(frozen=True)
class Teams:
    inboxes: dict[str, Inbox]
    shared: Inbox
    urls: dict[str, str]
    shared_url: str


@pytest.fixture(scope="module")
def _teams() -> Iterator[Teams]:
    inboxes = {team: Inbox(*PAIRS[team]) for team in TEAMS}
    shared = Inbox()  # accepts any key
    with ExitStack() as stack:
        servers = {t: stack.enter_context(Server(inbox.app())) for t, inbox in inboxes.items()}
        server = stack.enter_context(Server(shared.app()))
        urls = {team: server.url for team, server in servers.items()}
        yield Teams(inboxes, shared, urls, server.url)


@pytest.fixture
def teams(_teams: Teams) -> Teams:
    for inbox in (*_teams.inboxes.values(), _teams.shared):
        inbox.fault = None
        inbox.clear()
    return _teams


def variables(urls: dict[str, str]) -> dict[str, Any]:
    """The gateway's variables. `urls` are the projects' servers by team."""
    projects, keys = {}, {}
    for team in ("red", "blue"):
        public_key, secret_key = PAIRS[team]
        projects[team] = {"public_key": public_key, "secret_key": secret_key}
        if urls[team] != urls["plain"]:
            projects[team]["base_url"] = urls[team]
        keys[team] = {"hash": digest(KEYS[team]), "langfuse": team}
    return {
        "GATEWAY_API_KEYS": json.dumps({**keys, "plain": digest(KEYS["plain"])}),
        "LANGFUSE_PROJECTS": json.dumps(projects),
        "LANGFUSE_BASE_URL": urls["plain"],
        "LANGFUSE_PUBLIC_KEY": PAIRS["plain"][0],
        "LANGFUSE_SECRET_KEY": PAIRS["plain"][1],
        "LANGFUSE_FLUSH_AT": "5",
        "OPENAI_API_KEY": "sk-stored-0123456789abcdef",
    }


@pytest.fixture
def stage(stage_with, teams: Teams) -> Stage:
    return stage_with(**variables(teams.urls))


def call_at_once(stage: Stage, *teams: str) -> None:
    """Calls of all teams, in turn and all at once. Each prompt names its team."""

    async def call(client: openai.AsyncOpenAI, team: str, n: int) -> None:
        text = f"of {team} only, {n}"
        messages: Any = [{"role": "user", "content": text}]
        create = client.chat.completions.create
        if n % 3 == 0:
            reply = await create(model=MODEL, messages=messages, user=team)
            answer = reply.choices[0].message.content or ""
        elif n % 3 == 1:
            stream = await create(model=MODEL, messages=messages, user=team, stream=True)
            answer = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        else:
            headers = using(fallback("offline", "openai"))
            reply = await create(model=MODEL, messages=messages, user=team, extra_headers=headers)
            answer = reply.choices[0].message.content or ""
        assert answer == f"You said: {text}"

    async def run() -> None:
        options: Any = {"base_url": f"{stage.url}/v1", "max_retries": 0}
        clients = {team: openai.AsyncOpenAI(api_key=KEYS[team], **options) for team in teams}
        await asyncio.gather(
            *(call(clients[team], team, n) for n in range(CALLS) for team in teams)
        )
        for client in clients.values():
            await client.close()

    asyncio.run(run())


# One observation for each call; for each third call three: a span and two attempts.
OBSERVATIONS = CALLS + 2 * (CALLS // 3)


def posts(inbox: Inbox) -> list[Received]:
    return [request for request in inbox.requests if request.method == "POST"]


def credential(request: Received) -> str:
    header = {name.lower(): value for name, value in request.headers}["authorization"]
    return base64.b64decode(header.removeprefix("Basic ")).decode()


def assert_only(team: str, requests: list[Received]) -> None:
    """Assert that requests have only this team's content and keys."""
    assert requests
    posted = str(requests)
    for other in TEAMS:
        public_key, secret_key = PAIRS[other]
        assert (f"of {other} only" in posted) == (other == team)
        assert KEYS[other] not in posted
        assert secret_key not in posted
        assert (public_key in posted) == (other == team)
    assert {credential(request) for request in requests} == {":".join(PAIRS[team])}


def test_each_project_gets_only_its_own_traces(stage: Stage, teams: Teams):
    call_at_once(stage, *TEAMS)
    for team, inbox in teams.inboxes.items():
        found = inbox.wait_for(OBSERVATIONS, TIMEOUT_SECONDS)
        assert len(found) == OBSERVATIONS
        assert {o["user_id"] for o in found} == {team}
        assert {o["metadata"]["gateway_key"] for o in found} == {team}
        inputs = {o["input"][0]["content"] for o in found}
        assert inputs == {f"of {team} only, {n}" for n in range(CALLS)}
        assert_only(team, posts(inbox))
        # In batches of several requests.
        assert len(posts(inbox)) < CALLS
        assert {o["received"] for o in found} == {1}


def test_projects_of_one_server_are_separate(stage_with, teams: Teams):
    stage = stage_with(**variables(dict.fromkeys(TEAMS, teams.shared_url)))
    call_at_once(stage, *TEAMS)
    found = teams.shared.wait_for(len(TEAMS) * OBSERVATIONS, TIMEOUT_SECONDS)
    assert len(found) == len(TEAMS) * OBSERVATIONS
    for team in TEAMS:
        pair = ":".join(PAIRS[team])
        assert_only(team, [r for r in posts(teams.shared) if credential(r) == pair])


def test_an_outage_of_one_project_does_not_affect_the_others(stage: Stage, teams: Teams):
    """Its traces are delivered after the outage, and to no other project."""

    async def outage(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=503)

    teams.inboxes["red"].fault = outage
    call_at_once(stage, "red", "blue")
    teams.inboxes["blue"].wait_for(OBSERVATIONS, TIMEOUT_SECONDS)
    teams.inboxes["red"].wait_for_requests(1, TIMEOUT_SECONDS)
    assert teams.inboxes["red"].observations() == []
    teams.inboxes["red"].fault = None
    teams.inboxes["red"].wait_for(OBSERVATIONS, TIMEOUT_SECONDS)
    for team in ("red", "blue"):
        assert_only(team, posts(teams.inboxes[team]))
    assert teams.inboxes["plain"].observations() == []


def test_health_has_the_state_of_the_callers_project(stage: Stage, teams: Teams):
    def state(team: str) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {KEYS[team]}"}
        return httpx.get(f"{stage.url}/health", headers=headers, timeout=20).json()["delivery"]

    before = {team: state(team)["stored"] for team in ("red", "plain")}
    call_at_once(stage, "blue")
    teams.inboxes["blue"].wait_for(OBSERVATIONS, TIMEOUT_SECONDS)
    for team, stored in before.items():
        assert state(team)["stored"] == stored
    assert "delivery" not in httpx.get(f"{stage.url}/health", timeout=20).json()
