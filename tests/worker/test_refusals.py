"""What the gateway answers itself: clear, in the caller's dialect, and without a call upstream."""

import hashlib
import json

import anthropic
import openai
import pytest

from .conftest import CHAT, PROVIDER_KEY, SCRIPTED, Provider, Stage, keep

KEY = "gw_a-valid-gateway-key-0123456789"
RAY = "9e3b6c1f2a4d5e6f-FRA"
KEYS = json.dumps({"alice": hashlib.sha256(KEY.encode()).hexdigest()})


@pytest.fixture
def locked(stage_with) -> Stage:
    return stage_with(GATEWAY_API_KEYS=KEYS)


@pytest.fixture(autouse=True)
def _kept(provider: Provider):
    async def script(request):
        await keep(provider, request)
        from aiohttp import web

        return web.json_response({})

    provider.script = script


REFUSED = [
    ("GET", "/nowhere", {}, 404, "Paths start with /v1/"),
    ("GET", "/v1", {}, 404, "Paths start with /v1/"),
    ("POST", "/", {}, 405, "answers GET"),
    ("DELETE", "/health", {}, 405, "answers GET"),
    ("POST", "/v1/chat/completions", {}, 400, "no body"),
    ("POST", "/v1/messages", {}, 400, "no body"),
    ("GET", "/v1/realtime", {"upgrade": "websocket", "connection": "upgrade"}, 501, "WebSocket"),
    ("GET", "/v1/models", {"x-portkey-provider": "nowhere"}, 400, "anthropic, azure-openai"),
    ("GET", "/v1/models", {"authorization": "Bearer gw_unknown"}, 401, "not valid"),
    ("GET", "/v1/models", {"x-api-key": "gw_unknown"}, 401, "not valid"),
    ("GET", "/v1/models", {"x-portkey-api-key": "gw_unknown"}, 401, "not valid"),
]


@pytest.mark.parametrize(("method", "path", "headers", "status", "words"), REFUSED)
def test_refused(stage: Stage, provider, method, path, headers, status, words):
    with stage.http() as client:
        response = client.request(method, path, headers={**SCRIPTED, **headers})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert words in error["message"]
    if path == "/v1/messages":
        assert response.json()["type"] == "error"
        assert set(error) == {"type", "message"}
    else:
        assert set(error) == {"message", "type", "param", "code"}
    assert provider.seen == []
    assert stage.traced_so_far() == []


@pytest.mark.parametrize("sized", [True, False])
def test_a_body_over_the_limit(stage_with, provider: Provider, sized):
    stage = stage_with(MAX_REQUEST_BYTES="100000")
    body = b"{" + b" " * 200_000 + b"}"
    pieces = (body[i : i + 10_000] for i in range(0, len(body), 10_000))
    with stage.http() as client:
        response = client.post(
            "/v1/chat/completions", content=body if sized else pieces, headers=SCRIPTED
        )
        assert response.status_code == 413
        assert "100000 bytes" in response.json()["error"]["message"]
        assert provider.seen == []
        # The limit is for what is traced; anything else is streamed through.
        assert client.post("/v1/files", content=body, headers=SCRIPTED).status_code == 200
    assert provider.seen[0].body == body


def test_sdks_raise_their_usual_exceptions(locked: Stage):
    with pytest.raises(openai.AuthenticationError, match="gateway key"):
        locked.openai().chat.completions.create(**CHAT)
    with pytest.raises(anthropic.AuthenticationError, match="gateway key"):
        locked.anthropic().messages.create(**CHAT, max_tokens=5)


def test_without_a_valid_gateway_key_nothing_is_served(locked: Stage, provider: Provider):
    with locked.http() as client:
        for path in ("/v1/chat/completions", "/v1/models", "/v1/files/x"):
            for headers in (
                {},
                SCRIPTED,
                {"x-portkey-api-key": "gw_"},
                {"x-portkey-api-key": KEY[:-1]},
                {"x-portkey-api-key": KEY.removeprefix("gw_")},
                {"x-portkey-api-key": hashlib.sha256(KEY.encode()).hexdigest()},
                {"x-portkey-api-key": KEY, "authorization": "Bearer gw_other"},
                {"authorization": f"Basic {KEY}"},
            ):
                response = client.post(path, json=CHAT, headers=headers)
                assert response.status_code == 401, (path, headers)
        assert client.get("/").status_code == 200
        assert client.get("/health").json()["status"] == "ok"
        assert client.options("/v1/chat/completions").status_code == 204
    assert provider.seen == []
    assert locked.inbox.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        {"x-portkey-api-key": KEY, "authorization": f"Bearer {PROVIDER_KEY}"},
        {"authorization": f"Bearer {KEY}", "x-api-key": PROVIDER_KEY},
        {"authorization": f"bearer {KEY}"},
        {"x-api-key": KEY, "authorization": f"Bearer {PROVIDER_KEY}"},
        {"api-key": KEY},
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/moderations"])
def test_a_valid_gateway_key_is_served_and_stays_here(locked, provider, path, headers):
    with locked.http() as client:
        named = {**headers, "x-portkey-provider": "scripted"}
        assert client.post(path, json=CHAT, headers=named).status_code == 200
    (seen,) = provider.seen
    assert KEY not in str(seen)
    assert (PROVIDER_KEY in str(seen)) == (PROVIDER_KEY in str(headers))
    if path == "/v1/chat/completions":
        locked.observation()
        assert KEY not in str(locked.inbox.requests)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"GATEWAY_API_KEYS": "not json"}, "GATEWAY_API_KEYS"),
        ({"GATEWAY_API_KEYS": '{"alice": "gw_the-key-itself"}'}, "GATEWAY_API_KEYS"),
    ],
)
def test_malformed_keys_fail_closed(stage_with, provider: Provider, changes, name):
    stage = stage_with(**changes)
    with stage.http() as client:
        response = client.post("/v1/chat/completions", json=CHAT, headers=SCRIPTED)
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "misconfigured")
    assert response.status_code == 500
    assert name in response.json()["error"]["message"]
    assert provider.seen == []
    assert "gw_the-key-itself" not in response.text + "".join(stage.gateway.logs)


def test_health_and_the_front_page(stage: Stage, stage_with):
    with stage.http() as client:
        health = client.get("/health")
        assert health.json() == {"status": "ok", "version": "0.1.0", "tracing": True}
        assert client.head("/health").status_code == 200
    off = stage_with(LANGFUSE_SECRET_KEY=None)
    with off.http() as client:
        assert client.get("/health").json()["tracing"] is False


def test_the_front_page_says_what_this_is(stage: Stage):
    with stage.http() as client:
        page = client.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        text = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    )
    assert page.headers["x-content-type-options"] == "nosniff"
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    for response in (page, text):
        assert "This is an AI gateway" in response.text
        assert "0.1.0" not in response.text
        assert "langfuse" not in response.text.lower()


def test_a_request_id_is_in_the_answer_the_log_and_the_trace(stage: Stage):
    said = {"x-request-id": "request-42", "x-portkey-provider": "nobody"}
    with pytest.raises(openai.APIStatusError) as refused:
        stage.openai().chat.completions.create(**CHAT, extra_headers=said)
    assert refused.value.request_id == "request-42"
    assert stage.observation()["metadata"]["request_id"] == "request-42"
    stage.wait_for_logs("provider_unreachable", request_id="request-42", provider="nobody")
    with pytest.raises(anthropic.APIStatusError) as refused:
        stage.anthropic().messages.create(**CHAT, max_tokens=9, extra_headers=said)
    assert refused.value.request_id == "request-42"


def test_a_request_that_says_no_id_gets_one(stage: Stage):
    nobody = {"x-portkey-provider": "nobody"}
    with stage.http() as client:
        answers = [client.post("/v1/chat/completions", json=CHAT, headers=nobody) for _ in "12"]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 2
    assert {o["metadata"]["request_id"] for o in stage.observations(2)} == set(ids)


def test_the_log_says_what_was_refused(locked: Stage):
    headers = {"authorization": f"Bearer {PROVIDER_KEY}", "x-request-id": "request-42"}
    with locked.http() as client:
        answer = client.post(f"/v1/files/{PROVIDER_KEY}?key=of-a-query", json=CHAT, headers=headers)
    (line,) = locked.wait_for_logs("refused")
    assert line == {
        "event": "refused",
        "request_id": "request-42",
        "method": "POST",
        "path": "/v1/files/…",
        "status": 401,
        "reason": answer.json()["error"]["message"],
    }


KEY_SHAPES = ["a1b2c3d4e5f60718293a4b5c6d7e8f90", 8 * "7QzW8mKx2p"]


@pytest.mark.parametrize("key", KEY_SHAPES)
@pytest.mark.parametrize(
    ("path", "header", "reason"),
    [
        ("/v1/models", ("x-portkey-config", "{key}"), "This gateway has no config …. Name"),
        ("/v1/models", ("x-portkey-config", '{{"{key}": 1}}'), "x-portkey-config: …."),
        ("/v1/models", ("x-portkey-provider", "{key}"), "The provider … is not known."),
        ("/v1/models", ("x-portkey-custom-host", "https://{key}.example"), "The host … is not one"),
        (f"/{90 * 'a'}{{key}}", ("accept", "*/*"), "There is no … here."),
        ("/v2/{key}", ("accept", "*/*"), "There is no … here."),
        ("/v1/chat?x={key}", ("x-portkey-provider", "who"), "The provider … is not known."),
    ],
)
def test_no_word_of_the_clients_is_logged(
    stage: Stage, key: str, path: str, header: tuple[str, str], reason: str
):
    with stage.http() as client:
        answer = client.get(path.format(key=key), headers={header[0]: header[1].format(key=key)})
    assert answer.status_code in (400, 403, 404)
    (line,) = stage.wait_for_logs("refused")
    assert line["reason"].startswith(reason)
    for word in (key[:12], key[:12].lower(), "who"):
        assert word not in json.dumps(line)


def test_a_ray_that_cloudflare_did_not_write_does_not_count(stage: Stage):
    headers = {"cf-ray": f"for-{PROVIDER_KEY}"}
    with stage.http() as client:
        answer = client.get("/v2", headers=headers)
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize("said", [f"for-{PROVIDER_KEY}", "x" * 129, "two words", ""])
def test_a_request_id_that_a_log_should_not_hold_does_not_count(stage: Stage, said: str):
    headers = {**SCRIPTED, "x-portkey-provider": "nobody", "x-request-id": said, "cf-ray": RAY}
    with stage.http() as client:
        answer = client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.headers["x-request-id"] == RAY
    stage.wait_for_logs("provider_unreachable", request_id=RAY)
    assert stage.observation()["metadata"]["request_id"] == RAY


def test_options_says_what_is_allowed(stage: Stage, provider: Provider):
    with stage.http() as client:
        response = client.options("/v1/chat/completions", headers=SCRIPTED)
    assert response.status_code == 204
    assert "POST" in response.headers["allow"]
    assert provider.seen == []
