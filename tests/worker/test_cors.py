"""Which web pages may read the gateway's answers, as a browser would ask."""

import json
from typing import Any

import httpx
import pytest
from aiohttp import web

from .conftest import CHAT, Provider, Stage
from .targets import ALICE, SLUGS, asked, digest, fails, fallback, play, says, using
from .test_streaming import END, begin, delta

pytestmark = pytest.mark.long

PAGE, OTHER = "https://app.example.com", "https://evil.example"
SHARED = ("access-control-allow-origin", "access-control-expose-headers")
# What OpenAI's SDK sends from a page, as the browser asks for it.
ASKED_FOR = "authorization,content-type,x-portkey-provider,x-stainless-lang"


@pytest.fixture
def settings(environment, provider: Provider) -> dict[str, Any]:
    own = {slug: {"base_url": f"{provider.url}/{slug}"} for slug in SLUGS}
    return {
        "PROVIDERS": json.dumps({**json.loads(environment["PROVIDERS"]), **own}),
        "GATEWAY_API_KEYS": json.dumps({"alice": digest(ALICE)}),
    }


@pytest.fixture(autouse=True)
def _open_to_all(provider: Provider):
    """The provider lets any page read, with credentials too."""

    async def stream(request: web.Request) -> web.StreamResponse:
        response = await begin(request, **{"access-control-allow-origin": "*"})
        await response.write(delta("hello") + END)
        return response

    whole = says(access_control_allow_origin="*", vary="accept", x_own="1")
    play(provider, first=whole, second=stream, third=fails(500, access_control_allow_origin="*"))


# A call, by its path, its headers and its body, and the status of the answer.
CALLS = [
    ("/v1/chat/completions", {"x-portkey-provider": "first"}, 200),
    ("/v1/other", {"x-portkey-provider": "first"}, 200),
    ("/v1/chat/completions", {"x-portkey-provider": "second"}, 200),
    ("/v1/other", {"x-portkey-provider": "second"}, 200),
    ("/v1/chat/completions", {"x-portkey-provider": "third"}, 500),
    ("/v1/chat/completions", using(fallback("third", "first")), 200),
    ("/v1/chat/completions", {"x-portkey-provider": "nobody"}, 502),
    ("/v1/other", {"x-portkey-provider": "nobody"}, 502),
    ("/v1/chat/completions", {"x-portkey-provider": "unknown"}, 400),
    ("/v1/chat/completions", using("unknown"), 400),
    ("/v1/chat/completions", {"authorization": "Bearer gw_unknown"}, 401),
    ("/v1//x", {}, 400),
    ("/nowhere", {}, 404),
]


def call(stage: Stage, path: str, headers: dict[str, str], origin: str | None) -> httpx.Response:
    page = {"origin": origin, "referer": f"{origin}/", "cookie": "a=1"} if origin else {}
    headers = {"authorization": f"Bearer {ALICE}", **page, **headers}
    with stage.http() as client:
        return client.post(path, json=CHAT, headers=headers)


def preflight(stage: Stage, path: str, origin: str, method: str = "POST") -> httpx.Response:
    """What a browser sends first: no key is in it."""
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": ASKED_FOR,
    }
    with stage.http() as client:
        return client.options(path, headers=headers)


def shared(answer: httpx.Response) -> list[str]:
    return [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(("path", "headers", "status"), CALLS)
def test_by_default_no_page_reads_an_answer(stage_with, settings, path, headers, status):
    stage = stage_with(**settings)
    answer = call(stage, path, headers, PAGE)
    assert (answer.status_code, shared(answer)) == (status, [])
    assert shared(preflight(stage, path, PAGE)) == []


@pytest.mark.parametrize(("path", "headers", "status"), CALLS)
def test_a_page_that_may_read(stage_with, settings, provider: Provider, path, headers, status):
    stage = stage_with(**settings, ALLOWED_ORIGINS=f"{PAGE}, http://localhost:3000")
    for origin in (PAGE, "http://localhost:3000"):
        answer = call(stage, path, headers, origin)
        assert answer.status_code == status
        assert answer.headers.get_list("access-control-allow-origin") == [origin]
        assert answer.headers["access-control-expose-headers"] == "*"
        assert "origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
    for origin in (OTHER, "null", f"{PAGE}.evil.example", PAGE.upper(), "http://app.example.com"):
        answer = call(stage, path, headers, origin)
        assert (answer.status_code, shared(answer)) == (status, [])
        assert "origin" in answer.headers["vary"]
    answer = call(stage, path, headers, None)
    assert shared(answer) == []
    assert "origin" in answer.headers["vary"]
    for seen in provider.seen:
        names = {name.lower() for name, _ in seen.headers}
        assert not names & {"origin", "referer", "cookie"}


def test_what_the_provider_says_is_kept(stage_with, settings):
    stage = stage_with(**settings, ALLOWED_ORIGINS=f"{PAGE}, http://localhost:3000")
    answer = call(stage, "/v1/chat/completions", {"x-portkey-provider": "first"}, PAGE)
    assert answer.headers["x-own"] == "1"
    assert {word.strip() for word in answer.headers["vary"].split(",")} == {"accept", "origin"}
    assert answer.headers["x-portkey-trace-id"] == stage.observation()["trace_id"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/files/x", "/health"])
def test_a_preflight(stage_with, settings, provider: Provider, path):
    stage = stage_with(**settings, ALLOWED_ORIGINS=f"{PAGE}, http://localhost:3000")
    answer = preflight(stage, path, PAGE)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-headers"] == ASKED_FOR
    allowed = answer.headers["access-control-allow-methods"].split(", ")
    assert {"GET", "POST", "DELETE"} <= set(allowed)
    assert answer.headers["vary"] == "origin"
    assert shared(preflight(stage, path, OTHER)) == []
    assert provider.seen == []


def test_every_page_may_read(stage_with, settings):
    stage = stage_with(**settings, ALLOWED_ORIGINS="*")
    for origin in (PAGE, OTHER, "null"):
        answer = call(stage, "/v1/chat/completions", {"x-portkey-provider": "first"}, origin)
        assert answer.headers["access-control-allow-origin"] == origin
        assert preflight(stage, "/v1/models", origin).headers[SHARED[0]] == origin
        assert "access-control-allow-credentials" not in answer.headers


def test_a_cached_reply_is_for_the_page_that_asks(stage_with, settings, provider: Provider):
    stage = stage_with(**settings, ALLOWED_ORIGINS=f"{PAGE}, http://localhost:3000")
    headers = using({"provider": "first", "cache": {"mode": "simple"}})
    call(stage, "/v1/chat/completions", headers, PAGE)
    stage.observations(2)  # it is kept before it is told
    for origin, allowed in (("http://localhost:3000", True), (OTHER, False), (None, False)):
        answer = call(stage, "/v1/chat/completions", headers, origin)
        assert answer.headers["x-portkey-cache-status"] == "HIT"
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
    assert asked(provider) == ["first"]
