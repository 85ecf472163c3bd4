"""Responses of the gateway itself: refusals in the format of the API that was called, the front
page, `/health`, and the ids of requests."""

import json

import anthropic
import openai
import pytest

from .conftest import CHAT, SCRIPTED, Provider, Stage, reply_json
from .deployment import ALICE, PROVIDER_KEY, digest

RAY = "9e3b6c1f2a4d5e6f-FRA"


@pytest.fixture(autouse=True)
def _replies(provider: Provider):
    reply_json(provider)


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
def test_a_refusal_has_the_format_of_the_api(
    stage: Stage, provider: Provider, method, path, headers, status, words
):
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
    assert provider.received == []
    assert stage.traced_so_far() == []


@pytest.mark.parametrize("sized", [True, False])
def test_a_traced_body_over_the_limit_is_refused(with_variables: Stage, provider: Provider, sized):
    body = b"{" + b" " * 200_000 + b"}"
    pieces = (body[i : i + 10_000] for i in range(0, len(body), 10_000))
    with with_variables.http() as client:
        response = client.post(
            "/v1/chat/completions", content=body if sized else pieces, headers=SCRIPTED
        )
        assert response.status_code == 413
        assert "100000 bytes" in response.json()["error"]["message"]
        assert provider.received == []
        # The limit is for traced calls; other bodies are streamed.
        assert client.post("/v1/files", content=body, headers=SCRIPTED).status_code == 200
    assert provider.received[0].body == body


def test_sdks_raise_their_authentication_errors(with_keys: Stage):
    with pytest.raises(openai.AuthenticationError, match="gateway key"):
        with_keys.openai().chat.completions.create(**CHAT)
    with pytest.raises(anthropic.AuthenticationError, match="gateway key"):
        with_keys.anthropic().messages.create(**CHAT, max_tokens=5)


def test_without_a_valid_gateway_key_every_call_is_refused(with_keys: Stage, provider: Provider):
    with with_keys.http() as client:
        for path in ("/v1/chat/completions", "/v1/models", "/v1/files/x"):
            for headers in (
                {},
                SCRIPTED,
                {"x-portkey-api-key": "gw_"},
                {"x-portkey-api-key": ALICE[:-1]},
                {"x-portkey-api-key": ALICE.removeprefix("gw_")},
                {"x-portkey-api-key": digest(ALICE)},
                {"x-portkey-api-key": ALICE, "authorization": "Bearer gw_other"},
                {"authorization": f"Basic {ALICE}"},
            ):
                response = client.post(path, json=CHAT, headers=headers)
                assert response.status_code == 401, (path, headers)
        assert client.get("/").status_code == 200
        assert client.get("/health").json()["status"] == "ok"
        assert client.options("/v1/chat/completions").status_code == 204
    assert provider.received == []
    assert with_keys.observations_now() == []


@pytest.mark.parametrize(
    "headers",
    [
        {"x-portkey-api-key": ALICE, "authorization": f"Bearer {PROVIDER_KEY}"},
        {"authorization": f"Bearer {ALICE}", "x-api-key": PROVIDER_KEY},
        {"authorization": f"bearer {ALICE}"},
        {"x-api-key": ALICE, "authorization": f"Bearer {PROVIDER_KEY}"},
        {"api-key": ALICE},
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/moderations"])
def test_a_valid_gateway_key_is_accepted_and_not_sent_on(with_keys, provider, path, headers):
    with with_keys.http() as client:
        named = {**headers, "x-portkey-provider": "scripted"}
        assert client.post(path, json=CHAT, headers=named).status_code == 200
    (request,) = provider.received
    assert ALICE not in str(request)
    assert (PROVIDER_KEY in str(request)) == (PROVIDER_KEY in str(headers))
    if path == "/v1/chat/completions":
        with_keys.observation()
        assert ALICE not in str(with_keys.inbox.requests)


def test_a_misconfigured_gateway_refuses_every_call(stage_with, provider: Provider):
    stage = stage_with(GATEWAY_API_KEYS='{"alice": "gw_the-key-itself"}')
    with stage.http() as client:
        response = client.post("/v1/chat/completions", json=CHAT, headers=SCRIPTED)
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "misconfigured")
    assert response.status_code == 500
    assert "GATEWAY_API_KEYS" in response.json()["error"]["message"]
    assert provider.received == []
    assert "gw_the-key-itself" not in response.text + "".join(stage.gateway.logs)


def test_health(stage: Stage, untraced: Stage):
    with stage.http() as client:
        health = client.get("/health")
        assert health.json() == {"status": "ok", "version": "0.1.0", "tracing": True}
        assert client.head("/health").status_code == 200
    with untraced.http() as client:
        assert client.get("/health").json()["tracing"] is False


def test_the_front_page_describes_the_gateway(stage: Stage):
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


def test_a_request_id_is_in_the_response_the_log_and_the_trace(stage: Stage):
    headers = {"x-request-id": "request-42", "x-portkey-provider": "offline"}
    with pytest.raises(openai.APIStatusError) as refused:
        stage.openai().chat.completions.create(**CHAT, extra_headers=headers)
    assert refused.value.request_id == "request-42"
    assert stage.observation()["metadata"]["request_id"] == "request-42"
    stage.wait_for_logs("provider_unreachable", request_id="request-42", provider="offline")
    with pytest.raises(anthropic.APIStatusError) as refused:
        stage.anthropic().messages.create(**CHAT, max_tokens=9, extra_headers=headers)
    assert refused.value.request_id == "request-42"


def test_a_request_without_an_id_gets_one(stage: Stage):
    offline = {"x-portkey-provider": "offline"}
    with stage.http() as client:
        answers = [client.post("/v1/chat/completions", json=CHAT, headers=offline) for _ in "12"]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 2
    assert {o["metadata"]["request_id"] for o in stage.observations(2)} == set(ids)


def test_a_refusal_is_logged(with_keys: Stage):
    headers = {"authorization": f"Bearer {PROVIDER_KEY}", "x-request-id": "request-42"}
    with with_keys.http() as client:
        answer = client.post(f"/v1/files/{PROVIDER_KEY}?key=of-a-query", json=CHAT, headers=headers)
    (line,) = with_keys.wait_for_logs("refused")
    assert line == {
        "event": "refused",
        "level": "warning",
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
def test_the_log_does_not_quote_the_client(
    stage: Stage, key: str, path: str, header: tuple[str, str], reason: str
):
    with stage.http() as client:
        answer = client.get(path.format(key=key), headers={header[0]: header[1].format(key=key)})
    assert answer.status_code in (400, 403, 404)
    (line,) = stage.wait_for_logs("refused")
    assert line["reason"].startswith(reason)
    for word in (key[:12], key[:12].lower(), "who"):
        assert word not in json.dumps(line)


def test_a_malformed_ray_id_is_not_used(stage: Stage):
    headers = {"cf-ray": f"for-{PROVIDER_KEY}"}
    with stage.http() as client:
        answer = client.get("/v2", headers=headers)
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize("id", [f"for-{PROVIDER_KEY}", "x" * 129, "two words", ""])
def test_a_request_id_that_may_be_a_credential_is_not_used(stage: Stage, id: str):
    headers = {**SCRIPTED, "x-portkey-provider": "offline", "x-request-id": id, "cf-ray": RAY}
    with stage.http() as client:
        answer = client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.headers["x-request-id"] == RAY
    stage.wait_for_logs("provider_unreachable", request_id=RAY)
    assert stage.observation()["metadata"]["request_id"] == RAY


def test_options_names_the_allowed_methods(stage: Stage, provider: Provider):
    with stage.http() as client:
        response = client.options("/v1/chat/completions", headers=SCRIPTED)
    assert response.status_code == 204
    assert "POST" in response.headers["allow"]
    assert provider.received == []
