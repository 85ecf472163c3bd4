"""Which web pages may read the gateway's responses."""

import httpx
import pytest
from aiohttp import web

from .conftest import CHAT, SCRIPTED, Provider, Stage
from .deployment import ALICE, LOCAL_PAGE, PAGE, fallback
from .targets import called, fails, replies, set_replies, using
from .test_streaming import END, begin, delta

pytestmark = pytest.mark.long

OTHER_PAGE = "https://evil.example"
# The headers that OpenAI's SDK sends from a page, as the browser names them.
REQUESTED = "authorization,content-type,x-portkey-provider,x-stainless-lang"


@pytest.fixture(autouse=True)
def _replies(provider: Provider):
    """The provider allows any page to read its responses."""

    async def stream(request: web.Request) -> web.StreamResponse:
        response = await begin(request, **{"access-control-allow-origin": "*"})
        await response.write(delta("hello") + END)
        return response

    whole = replies(access_control_allow_origin="*", vary="accept", x_own="1")
    set_replies(
        provider, first=whole, second=stream, third=fails(500, access_control_allow_origin="*")
    )


# Calls by path and headers, with the status of the response.
CALLS = [
    ("/v1/chat/completions", {"x-portkey-provider": "first"}, 200),
    ("/v1/other", {"x-portkey-provider": "first"}, 200),
    ("/v1/chat/completions", {"x-portkey-provider": "second"}, 200),
    ("/v1/other", {"x-portkey-provider": "second"}, 200),
    ("/v1/chat/completions", {"x-portkey-provider": "third"}, 500),
    ("/v1/chat/completions", using(fallback("third", "first")), 200),
    ("/v1/chat/completions", {"x-portkey-provider": "offline"}, 502),
    ("/v1/other", {"x-portkey-provider": "offline"}, 502),
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
    """The request that a browser sends first, without a key."""
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": REQUESTED,
    }
    with stage.http() as client:
        return client.options(path, headers=headers)


def cors_headers(answer: httpx.Response) -> list[str]:
    return [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(("path", "headers", "status"), CALLS)
def test_by_default_no_page_may_read_a_response(with_configs: Stage, path, headers, status):
    answer = call(with_configs, path, headers, PAGE)
    assert (answer.status_code, cors_headers(answer)) == (status, [])
    assert cors_headers(preflight(with_configs, path, PAGE)) == []


@pytest.mark.parametrize(("path", "headers", "status"), CALLS)
def test_allowed_pages_may_read_a_response(
    with_keys: Stage, provider: Provider, path, headers, status
):
    for origin in (PAGE, LOCAL_PAGE):
        answer = call(with_keys, path, headers, origin)
        assert answer.status_code == status
        assert answer.headers.get_list("access-control-allow-origin") == [origin]
        assert answer.headers["access-control-expose-headers"] == "*"
        assert "origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
    others = (OTHER_PAGE, "null", f"{PAGE}.evil.example", PAGE.upper(), "http://app.example.com")
    for origin in others:
        answer = call(with_keys, path, headers, origin)
        assert (answer.status_code, cors_headers(answer)) == (status, [])
        assert "origin" in answer.headers["vary"]
    answer = call(with_keys, path, headers, None)
    assert cors_headers(answer) == []
    assert "origin" in answer.headers["vary"]
    for request in provider.received:
        names = {name.lower() for name, _ in request.headers}
        assert not names & {"origin", "referer", "cookie"}


def test_the_providers_own_headers_are_relayed(with_keys: Stage):
    answer = call(with_keys, "/v1/chat/completions", {"x-portkey-provider": "first"}, PAGE)
    assert answer.headers["x-own"] == "1"
    assert {word.strip() for word in answer.headers["vary"].split(",")} == {"accept", "origin"}
    assert answer.headers["x-portkey-trace-id"] == with_keys.observation()["trace_id"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/files/x", "/health"])
def test_a_preflight_of_an_allowed_page(with_keys: Stage, provider: Provider, path):
    answer = preflight(with_keys, path, PAGE)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-headers"] == REQUESTED
    allowed = answer.headers["access-control-allow-methods"].split(", ")
    assert {"GET", "POST", "DELETE"} <= set(allowed)
    assert answer.headers["vary"] == "origin"
    assert cors_headers(preflight(with_keys, path, OTHER_PAGE)) == []
    assert provider.received == []


def test_with_an_asterisk_every_page_may_read_a_response(with_variables: Stage):
    with with_variables.http() as client:
        for origin in (PAGE, OTHER_PAGE, "null"):
            headers = {**SCRIPTED, "x-portkey-provider": "openai", "origin": origin}
            answer = client.post("/v1/chat/completions", json=CHAT, headers=headers)
            preflighted = preflight(with_variables, "/v1/models", origin)
            assert (answer.status_code, preflighted.status_code) == (200, 204)
            for response in (answer, preflighted):
                assert response.headers["access-control-allow-origin"] == origin
            assert "access-control-allow-credentials" not in answer.headers


def test_a_cached_reply_has_the_origin_of_its_request(with_keys: Stage, provider: Provider):
    headers = using({"provider": "first", "cache": {"mode": "simple"}})
    call(with_keys, "/v1/chat/completions", headers, PAGE)
    with_keys.observations(2)  # the reply is cached before it is traced
    for origin, allowed in ((LOCAL_PAGE, True), (OTHER_PAGE, False), (None, False)):
        answer = call(with_keys, "/v1/chat/completions", headers, origin)
        assert answer.headers["x-portkey-cache-status"] == "HIT"
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
    assert called(provider) == ["first"]
