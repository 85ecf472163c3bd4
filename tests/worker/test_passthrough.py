"""Requests and replies that pass through the gateway unchanged."""

import gzip
import http.client
import json
import zlib
from collections.abc import Awaitable, Callable

import httpx
import pytest
from aiohttp import web

from .conftest import CHAT, SCRIPTED, TIMEOUT_SECONDS, Provider, Stage, record, reply_json
from .deployment import PROVIDER_KEY


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
def test_other_paths_are_relayed_without_a_trace(stage: Stage, provider: Provider, method):
    async def script(request):
        await record(provider, request)
        return web.Response(status=201, body=b"made", headers={"x-provider": "yes"})

    provider.script = script
    body = b"\x00binary\xff" if method not in ("GET", "HEAD", "DELETE") else None
    with stage.http() as client:
        response = client.request(
            method, "/v1/files/a%20b?purpose=batch&x=%2F", content=body, headers=SCRIPTED
        )
    (request,) = provider.received
    assert (request.method, request.target) == (method, "/base/files/a%20b?purpose=batch&x=%2F")
    assert request.body == (body or b"")
    assert response.status_code == 201
    assert response.content == (b"" if method == "HEAD" else b"made")
    assert response.headers["x-provider"] == "yes"
    assert response.headers["x-portkey-provider"] == "scripted"
    assert "x-portkey-trace-id" not in response.headers
    assert stage.traced_so_far() == []


def test_untraced_paths_of_the_sdks(stage: Stage):
    assert any(model.id for model in stage.openai().models.list())
    tokens = stage.anthropic().messages.count_tokens(
        model="claude-opus-4-6", messages=[{"role": "user", "content": "Hello there"}]
    )
    assert tokens.input_tokens > 0
    assert stage.traced_so_far() == []


def test_an_upload_is_streamed(stage: Stage, provider: Provider):
    """The client sends the second half only after the provider has received the first."""

    async def script(request):
        first = await request.content.readexactly(5)
        provider.gate("has the first half").set()
        rest = await request.content.read()
        return web.json_response({"got": (first + rest).decode()})

    provider.script = script

    def upload():
        yield b"first"
        provider.wait("has the first half")
        yield b" second"

    with stage.http() as client:
        response = client.post("/v1/files", content=upload(), headers=SCRIPTED)
    assert response.json() == {"got": "first second"}


def test_a_body_is_sent_byte_for_byte(stage: Stage, provider: Provider):
    """With odd spacing, repeated names, unknown members and escapes."""
    reply_json(provider)
    body = (
        b'{ "model":"m", "x":1,"x":2 ,"u":"\\u00e9\xc3\xa9", "big":12345678901234567890, "f":1.0}'
    )
    with stage.http() as client:
        client.post("/v1/chat/completions", content=body, headers=SCRIPTED)
    assert provider.received[0].body == body


@pytest.mark.parametrize("sized", [True, False])
def test_a_large_body_is_sent_completely(stage: Stage, provider: Provider, sized):
    reply_json(provider)
    text = "x" * 6_000_000
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    pieces = (body[i : i + 100_000] for i in range(0, len(body), 100_000))
    with stage.http() as client:
        client.post("/v1/chat/completions", content=body if sized else pieces, headers=SCRIPTED)
    assert provider.received[0].body == body
    notes = stage.observation()["metadata"]["notes"]
    assert "request: the first 4194304 bytes are recorded" in notes


def test_which_headers_reach_the_provider(stage: Stage, provider: Provider):
    reply_json(provider)
    forwarded = {
        "authorization": f"Bearer {PROVIDER_KEY}",
        "openai-beta": "assistants=v2",
        "anthropic-beta": "context-1m",
        "anthropic-version": "2023-06-01",
        "idempotency-key": "abc",
        "user-agent": "my-app/1.0",
        "accept": "application/json",
        "content-type": "application/json",
        "x-request-id": "r1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    removed = {
        "x-api-key": "another-provider-key",  # Authorization has one
        "x-portkey-provider": "scripted",
        "x-portkey-config": '{"retry": {"attempts": 3}}',
        "x-portkey-user-id": "ada",
        "langfuse-user-id": "ada",
        "cf-connecting-ip": "203.0.113.7",
        "cf-ray": "1",
        "x-forwarded-for": "203.0.113.7",
        "x-real-ip": "203.0.113.7",
        "true-client-ip": "203.0.113.7",
        "cookie": "session=1",
        "origin": "https://app.example",
        "referer": "https://app.example/page",
        "baggage": "a=b",
        "connection": "keep-alive, x-hop",
        "x-hop": "1",
        "te": "trailers",
        "proxy-authorization": "Basic eDp5",
        "accept-encoding": "zstd, deflate",
    }
    with stage.http() as client:
        client.post("/v1/chat/completions", json=CHAT, headers={**forwarded, **removed})
        client.post("/v1/moderations", json=CHAT, headers={**forwarded, **removed})
    for request in provider.received:
        headers = {name.lower(): value for name, value in request.headers}
        assert forwarded.items() <= headers.items()
        added = set(headers) - set(forwarded)
        assert added <= {"host", "content-length", "accept-encoding", "cf-worker", "connection"}
        assert headers["accept-encoding"] == "identity"


def test_repeated_headers_of_a_reply_reach_the_client(stage: Stage, provider: Provider):
    async def script(request):
        response = web.Response(status=418, reason="Odd", body=b'{"a": 1}')
        response.headers.add("set-cookie", "a=1; Path=/")
        response.headers.add("set-cookie", "b=2; Path=/")
        response.headers.add("x-ratelimit-remaining", "5")
        response.headers.add("x-many", "one")
        response.headers.add("x-many", "two")
        return response

    provider.script = script
    for path in ("/v1/chat/completions", "/v1/other"):
        with stage.http() as client:
            response = client.post(path, json=CHAT, headers=SCRIPTED)
        assert (response.status_code, response.reason_phrase) == (418, "Odd")
        assert response.content == b'{"a": 1}'
        assert response.headers["content-length"] == "8"
        assert response.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2; Path=/"]
        assert response.headers.get_list("x-many", split_commas=True) == ["one", "two"]
        assert response.headers["x-ratelimit-remaining"] == "5"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(stage: Stage, provider: Provider, path, status):
    async def script(request):
        await record(provider, request)
        location = {"location": f"{provider.url}/elsewhere"}
        return web.Response(status=status, headers=location)

    provider.script = script
    with stage.http() as client:
        response = client.post(path, json=CHAT, headers=SCRIPTED)
    assert response.status_code == status
    assert response.headers["location"] == f"{provider.url}/elsewhere"
    assert len(provider.received) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
@pytest.mark.parametrize("status", [204, 304])
def test_replies_without_a_body(stage: Stage, provider: Provider, path, status):
    async def script(request):
        return web.Response(status=status)

    provider.script = script
    with stage.http() as client:
        response = client.post(path, json=CHAT, headers=SCRIPTED)
    assert (response.status_code, response.content) == (status, b"")
    if path == "/v1/chat/completions":
        assert stage.observation()["metadata"]["http_status"] == status


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_encoded_reply_is_decoded(stage: Stage, provider: Provider, path, encoding):
    reply = {"model": "m-1", "choices": [{"index": 0, "message": {"content": "Grüße" * 1000}}]}
    plain = json.dumps(reply).encode()
    encoded = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)

    async def script(request):
        headers = {"content-encoding": encoding, "content-type": "application/json"}
        return web.Response(body=encoded, headers=headers)

    provider.script = script
    with stage.http() as client:
        response = client.post(path, json=CHAT, headers=SCRIPTED)
    assert response.json() == reply
    if path == "/v1/chat/completions":
        assert stage.observation()["output"]["content"] == "Grüße" * 1000


def test_a_reply_in_an_unreadable_encoding_is_relayed_and_noted(stage: Stage, provider: Provider):
    encoded = b"(\xb5/\xfd\x04\x58 not really zstd \xff"

    async def script(request):
        headers = {"content-encoding": "zstd", "content-type": "application/json"}
        return web.Response(body=encoded, headers=headers)

    provider.script = script
    with (
        stage.http() as client,
        client.stream("POST", "/v1/chat/completions", json=CHAT, headers=SCRIPTED) as response,
    ):
        assert b"".join(response.iter_raw()) == encoded
        assert response.headers["content-encoding"] == "zstd"
    observation = stage.observation()
    assert (observation["output"], observation["level"]) == (None, "DEFAULT")
    assert observation["metadata"]["notes"] == ["reply: in the encoding zstd, which cannot be read"]


def test_a_large_reply_is_relayed_byte_for_byte(stage: Stage, provider: Provider):
    plain = json.dumps({"choices": [{"message": {"content": "ab" * 4_000_000}}]}).encode()

    async def script(request):
        return web.Response(body=plain, content_type="application/json")

    provider.script = script
    with stage.http() as client:
        response = client.post("/v1/chat/completions", json=CHAT, headers=SCRIPTED)
    assert response.content == plain
    notes = stage.observation()["metadata"]["notes"]
    assert "reply: the first 4194304 bytes are recorded" in notes


def test_the_header_the_path_or_the_default_names_the_provider(
    with_variables: Stage, provider: Provider
):
    reply_json(provider)
    own = {"authorization": f"Bearer {PROVIDER_KEY}"}
    with with_variables.http(headers=own) as client:
        by_path = client.post("/v1/messages", json={"model": "m", "messages": []})
        by_default = client.post("/v1/embeddings", json={"model": "m", "input": "x"})
        by_header = client.post(
            "/v1/messages", json={"model": "m"}, headers={"x-portkey-provider": "@Scripted"}
        )
    providers = [r.headers["x-portkey-provider"] for r in (by_path, by_default, by_header)]
    assert providers == ["anthropic", "scripted", "scripted"]
    targets = [request.target for request in provider.received]
    assert targets == ["/json/embeddings", "/json/messages"]


def test_variables_may_be_json(with_variables: Stage, provider: Provider):
    """A table or a list in wrangler.toml reaches the Worker as a JavaScript object."""
    reply_json(provider)
    with with_variables.http() as client:
        client.post("/v1/moderations", json={"input": "x" * 21_000}, headers=SCRIPTED)
    assert provider.received[0].target == "/json/moderations"
    metadata = with_variables.observation()["metadata"]
    assert metadata["endpoint"] == "/v1/moderations"
    assert "request: the first 20000 bytes are recorded" in metadata["notes"]


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        ("/v1/./chat/completions", "/base/chat/completions"),
        ("/v1/x/../chat/completions", "/base/chat/completions"),
        ("/v1/x/%2e%2e/chat/completions", "/base/chat/completions"),
        ("/v1/../secret", None),
        ("/v1/%2e%2e/secret", None),
        ("/v1/%2E./secret", None),
        ("/v1/..\\secret", None),
        ("/v1/a%2Fb?c=%2e%2e", "/base/a%2Fb?c=%2e%2e"),
        ("/v1/models?", "/base/models"),
        ("/v1/models#part", "/base/models"),
    ],
)
def test_a_path_cannot_leave_the_base_url(stage: Stage, provider: Provider, target, reached):
    reply_json(provider)
    host, port = stage.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_SECONDS)
    connection.putrequest("POST", target, skip_host=False)
    for name, value in {**SCRIPTED, "content-length": "2"}.items():
        connection.putheader(name, value)
    connection.endheaders(b"{}")
    response = connection.getresponse()
    connection.close()
    assert [request.target for request in provider.received] == ([reached] if reached else [])
    assert response.status == (200 if reached else 404)
    if reached == "/base/chat/completions":
        assert stage.observation()["metadata"]["endpoint"] == "/v1/chat/completions"


def test_a_variable_names_the_traced_paths(with_variables: Stage, provider: Provider):
    reply_json(provider, {"results": [{"flagged": False}]})
    with with_variables.http() as client:
        client.post("/v1/embeddings", json={"input": "x", "model": "m"}, headers=SCRIPTED)
        client.post("/v1/moderations", json={"input": "x", "model": "m"}, headers=SCRIPTED)
    observation = with_variables.observation()
    assert observation["metadata"]["endpoint"] == "/v1/moderations"
    assert observation["output"] == {"results": [{"flagged": False}]}


def test_a_get_of_stored_completions_is_not_traced(stage: Stage, provider: Provider):
    async def script(request):
        return web.json_response({"object": "list", "data": []})

    provider.script = script
    with stage.http() as client:
        assert client.get("/v1/chat/completions", headers=SCRIPTED).json()["data"] == []
    assert stage.traced_so_far() == []


def send_raw(*lines: str, body: bytes = b"") -> Callable[[web.Request], Awaitable[web.Response]]:
    """A script that sends these bytes, valid HTTP or not, and closes the connection."""

    async def script(request: web.Request) -> web.Response:
        await request.read()
        assert request.transport
        request.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        request.transport.close()
        return web.Response()

    return script


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
@pytest.mark.parametrize("status", ["101 Switching Protocols", "600 Odd", "999 Odd"])
def test_an_invalid_status_is_a_bad_gateway(stage: Stage, provider: Provider, path, status):
    provider.script = send_raw(f"HTTP/1.1 {status}", "content-length: 2", body=b"{}")
    with stage.http() as client:
        assert client.post(path, json=CHAT, headers=SCRIPTED).status_code == 502
    if path == "/v1/chat/completions":
        assert stage.observation()["level"] == "ERROR"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/other"])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (("content-length: 2", "content-length: 2"), b"{}"),
        (("content-length: 99", "transfer-encoding: chunked"), b"2\r\n{}\r\n0\r\n\r\n"),
        (("content-length: 1", "transfer-encoding: chunked"), b"2\r\n{}\r\n0\r\n\r\n"),
        ((), b"{}"),
    ],
)
def test_a_reply_with_contradicting_lengths(stage: Stage, provider: Provider, path, headers, body):
    provider.script = send_raw(
        "HTTP/1.1 200 OK", "content-type: application/json", *headers, body=body
    )
    with stage.http() as client:
        response = client.post(path, json=CHAT, headers=SCRIPTED)
    assert (response.status_code, response.content) == (200, b"{}")
    if path == "/v1/chat/completions":
        assert stage.observation()["metadata"]["ending"] == "complete"


@pytest.mark.parametrize("name", ["constructor", "__proto__", "get", "to_py", "length"])
def test_headers_with_the_names_of_javascript_members(stage: Stage, provider: Provider, name):
    async def script(request):
        await record(provider, request)
        return web.json_response({}, headers={name: "x"})

    provider.script = script
    with stage.http() as client:
        response = client.post("/v1/other", json=CHAT, headers={**SCRIPTED, name: "x"})
    assert response.status_code == 200
    assert response.headers[name] == "x"
    assert dict(provider.received[0].headers).get(name) == "x"


def test_a_connection_can_be_reused(stage: Stage):
    with stage.http() as client:
        answers = [
            client.post("/v1/chat/completions", json=CHAT).json()["choices"][0]["message"]
            for _ in range(5)
        ]
    assert {answer["content"] for answer in answers} == {"You said: Hello there"}
    assert httpx.get(f"{stage.url}/health").status_code == 200
