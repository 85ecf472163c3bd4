"""Tests of `gateway.handler.handle` with a fake platform: a request from end to end."""

import asyncio
import hashlib
import json
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from core import json_body
from core.limits import CAPTURE_RESERVATION_SECONDS, SCAN_WINDOW_BYTES
from core.memory_budget import MemoryBudget
from core.types import BodyTooLarge, Call, Capture, Ending, GatewayResponse, NetworkError
from core.version import VERSION
from export import outbox
from gateway import handler
from redaction.logs import RequestLog
from settings.gateway_keys import GatewayKey
from settings.load import Settings
from tests.unit import virtual_time
from tests.unit.fake_body import FakeBody
from tests.unit.langfuse import SETTINGS as TRACED
from tests.unit.langfuse import FakeLangfuse
from upstream import attempts


@pytest.fixture(autouse=True)
def _reset_outboxes(monkeypatch):
    monkeypatch.setattr(outbox, "_outboxes", {})


CHAT = b'{"model": "m", "messages": []}'


@dataclass
class FakePlatform(FakeLangfuse):
    """A platform and at the same time the reply of the provider.

    `capture` is the capture of the reply; an exception is raised by `fetch` instead. `fetched`,
    `jobs` and `cached` record the calls of `fetch`, `run_after_response` and `write_cache`.
    """

    body: bytes = CHAT
    capture: Capture | Exception = field(
        default_factory=lambda: Capture(Ending.COMPLETE, 2.0, 200, "application/json", b"{}")
    )
    status: int = 200
    has_left: bool = False
    fetched: list[Any] = field(default_factory=list)
    request_body: FakeBody = field(default_factory=lambda: FakeBody(b""))
    call: Call = field(default_factory=lambda: Call("POST", "/v1/models", "", {}))
    jobs: list[Any] = field(default_factory=list)
    cached: dict[str, Any] = field(default_factory=dict)

    async def read_body(self, limit: int) -> FakeBody:
        if len(self.body) > limit:
            raise BodyTooLarge
        self.request_body = FakeBody(self.body)
        return self.request_body

    async def is_within_rate_limit(self, name) -> bool:
        return True

    @property
    def is_cache_enabled(self) -> bool:
        return True

    async def read_cache(self, key) -> Any:
        return self.cached.get(key)

    async def write_cache(self, key, status, content_type, body, max_age) -> None:
        self.cached[key] = (status, content_type, body, max_age)

    async def fetch(self, upstream, body, timeout) -> Any:
        self.fetched.append((upstream, body))
        if isinstance(self.capture, Exception):
            raise self.capture
        return self

    def header(self, name) -> str:
        return ""

    async def cancel(self) -> None: ...

    def relay(self, headers):
        return ("relayed", dict(headers))

    def relay_and_capture(self, headers, limit, reservation, first_token):
        async def capture():
            return self.capture

        return ("captured", dict(headers)), capture()

    def client_left(self) -> bool:
        return self.has_left

    @property
    def log(self) -> RequestLog:
        return RequestLog(self.call)

    def run_after_response(self, name, job) -> None:
        self.jobs.append((name, asyncio.ensure_future(job)))


def handle(
    platform: FakePlatform,
    settings=TRACED,
    method="POST",
    path="/v1/chat/completions",
    headers: dict[str, str] | None = None,
) -> Any:
    async def run():
        platform.call = Call(method, path, "", headers or {})
        response = await handler.handle(platform.call, settings, platform)
        for _, job in platform.jobs:
            await job
        return response

    return virtual_time.run(run())


def test_a_traced_call_is_captured_and_exported():
    platform = FakePlatform()
    kind, headers = handle(platform)
    assert kind == "captured"
    assert headers["x-portkey-provider"] == "openai"
    (request,) = platform.requests
    assert request.path == "/api/public/ingestion"
    assert json.loads(request.body)["batch"][0]["body"]["id"] == headers["x-portkey-trace-id"]
    assert [name for name, _ in platform.jobs] == ["trace"]


@pytest.mark.parametrize(
    ("settings", "method", "path"),
    [
        (Settings(), "POST", "/v1/chat/completions"),
        (TRACED, "GET", "/v1/chat/completions"),
        (TRACED, "POST", "/v1/files"),
        (TRACED, "POST", "/v1/messages/count_tokens"),
    ],
)
def test_an_untraced_call_is_relayed_and_not_exported(settings, method, path):
    platform = FakePlatform()
    kind, headers = handle(platform, settings, method, path)
    assert kind == "relayed"
    assert "x-portkey-trace-id" not in headers
    assert platform.jobs == platform.requests == []


def test_an_untraced_body_is_never_read():
    platform = FakePlatform(body=b"x" * 10**8)
    assert handle(platform, path="/v1/files")[0] == "relayed"
    assert platform.fetched[0][1] is None


@pytest.mark.parametrize(("has_left", "ending"), [(False, "unreachable"), (True, "client_left")])
def test_an_unreachable_provider_is_traced(has_left, ending):
    platform = FakePlatform(capture=NetworkError("connection refused"), has_left=has_left)
    response = handle(platform)
    assert isinstance(response, GatewayResponse)
    assert response.status == 502
    generation = json.loads(platform.requests[0].body)["batch"][1]["body"]
    assert generation["metadata"]["ending"] == ending


def test_the_log_of_an_unreachable_provider_contains_no_credential(capsys):
    call = Call("GET", "/v1/models", "key=sk-query-secret", {}, "request-1")
    error = NetworkError("no route to https://x/?key=sk-query-secret")
    platform = FakePlatform(capture=error, call=call)
    virtual_time.run(handler.handle(call, TRACED, platform))
    line = capsys.readouterr().out
    assert '"provider_unreachable", "level": "warning", "request_id": "request-1"' in line
    assert "sk-query-secret" not in line


def test_an_unexpected_exception_is_raised_and_does_not_block_the_trace():
    platform = FakePlatform(capture=RuntimeError("a bug"))
    with pytest.raises(RuntimeError):
        handle(platform)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", b"", 400),
        ("POST", "/v1/chat/completions", b"x" * (32 * 1024 * 1024 + 1), 413),
        ("POST", "/nowhere", b"", 404),
        ("PUT", "/", b"", 405),
        ("PUT", "/health", b"", 405),
        ("TRACE", "/v1/chat/completions", b"", 405),
        ("PROPFIND", "/v1/models", b"", 405),
        ("POST", "/v1/../x", CHAT, 400),
        ("GET", "/v1/a%252f..%252fx", b"", 400),
        ("GET", "/v1//models", b"", 400),
        ("POST", "/v1/chat/completions", b'{"model": "@nowhere/m"}', 400),
        ("POST", "/v1/chat/completions", b'{"model": "@groq/m"', 400),
        ("POST", "/v1/chat/completions", b'{"model": "@groq/m"}' + b" " * 4 * 1024 * 1024, 413),
    ],
)
def test_a_refused_call_is_neither_sent_nor_traced(method, path, body, status):
    platform = FakePlatform(body=body)
    response = handle(platform, method=method, path=path)
    assert isinstance(response, GatewayResponse)
    assert response.status == status
    assert json.loads(response.body)["error"]["message"]
    assert platform.fetched == platform.requests == []


def test_a_misconfigured_gateway_answers_health_checks_only():
    settings = Settings(problem="GATEWAY_API_KEYS is not valid JSON")
    platform = FakePlatform()
    response = handle(platform, settings)
    assert response.status == 500
    assert "GATEWAY_API_KEYS" in response.body
    assert platform.fetched == []
    health = handle(platform, settings, "GET", "/health")
    assert health.status == 503
    assert json.loads(health.body)["status"] == "misconfigured"


def test_health_shows_the_delivery_status_for_a_gateway_key_only():
    key = "gw_0123456789abcdef"
    digest = hashlib.sha256(key.encode()).hexdigest()
    settings = replace(TRACED, gateway_keys=(GatewayKey("ada", digest),))
    platform = FakePlatform()

    def health(headers) -> dict[str, Any]:
        call = Call("GET", "/health", "", headers)
        response: Any = virtual_time.run(handler.handle(call, settings, platform))
        return json.loads(response.body)

    public = {"status": "ok", "version": VERSION, "tracing": True}
    assert health({}) == public
    assert health({"authorization": "Bearer gw_wrong"}) == public
    key_headers = {"authorization": f"Bearer {key}"}
    unused = {"protocol": None, "last": None, "last_at": None}
    assert health(key_headers)["delivery"] == {**unused, "stored": 0, "queued": 0, "dropped": 0}
    call = Call("POST", "/v1/chat/completions", "", {"x-portkey-api-key": key})

    async def run() -> None:
        await handler.handle(call, settings, platform)
        await platform.jobs[0][1]

    virtual_time.run(run())
    delivery = health(key_headers)["delivery"]
    assert (delivery["protocol"], delivery["last"], delivery["stored"]) == (
        "ingestion",
        "stored",
        1,
    )
    assert "sk-lf" not in json.dumps(delivery)


PREFIXED_MODEL_BODY = (
    b'{"messages": [{"role": "user", "content": "hi"}], "model": "@groq/llama-3.3-70b"}'
)


@pytest.mark.parametrize("settings", [TRACED, Settings()])
def test_a_model_prefix_selects_the_provider(settings):
    platform = FakePlatform(body=PREFIXED_MODEL_BODY)
    _, headers = handle(platform, settings)
    ((upstream, body),) = platform.fetched
    assert headers["x-portkey-provider"] == upstream.provider == "groq"
    assert body.data == PREFIXED_MODEL_BODY.replace(b"@groq/", b"")
    if settings is TRACED:
        generation = json.loads(platform.requests[0].body)["batch"][1]["body"]
        assert generation["model"] == "llama-3.3-70b"
        assert generation["metadata"]["requested_model"] == "@groq/llama-3.3-70b"


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (CHAT, ""),
        (PREFIXED_MODEL_BODY, "openrouter"),
        (b'{"model": "@cf/meta/llama"}', ""),
        (b'{"model": "@cf/meta/llama"}', "openrouter"),
        (b'{"metadata": {"model": "@groq/m"}}', ""),
        # The header names the provider: a large or malformed body is not an error.
        (PREFIXED_MODEL_BODY + b" " * 4 * 1024 * 1024, "groq"),
        (PREFIXED_MODEL_BODY[:-1], "groq"),
    ],
)
def test_a_body_without_a_routing_prefix_is_sent_unchanged(body, header):
    platform = FakePlatform(body=body)
    handle(platform, headers={"x-portkey-provider": header})
    ((upstream, sent),) = platform.fetched
    assert upstream.provider == (header or "openai")
    assert sent.data is body


@pytest.mark.parametrize("before_border", [-300, -250, -30, -5, 0, 5, 10, 15, 20, 25, 300])
def test_a_model_prefix_is_found_at_any_position_in_the_body(before_border):
    """Also where it crosses the border of two scan windows."""
    start = b'{"x": "'
    padding = b"x" * (SCAN_WINDOW_BYTES - before_border - len(start))
    platform = FakePlatform(body=start + padding + b'", "model": "@groq/m"}')
    handle(platform)
    assert platform.fetched[0][0].provider == "groq"
    assert platform.fetched[0][1].data == start + padding + b'", "model": "m"}'


def test_a_body_without_a_model_prefix_is_not_parsed_before_the_reply(monkeypatch):
    monkeypatch.setattr("upstream.request_body.prefixed_model", None)
    platform = FakePlatform(body=b'{"model": "openai/gpt-4.1", "user": "@me"}')
    assert handle(platform)[0] == "captured"


EVERYTHING_READS_THE_BODY = {
    "cache": {"mode": "simple", "max_age": 60},
    "strategy": {
        "mode": "conditional",
        "conditions": [{"query": {"params.temperature": {"$gt": 1}}, "then": "warm"}],
        "default": "cold",
    },
    "targets": [
        {"name": "warm", "provider": "openai"},
        {"name": "cold", "targets": [{"provider": "groq", "override_params": {"top_p": 0.5}}]},
    ],
}


@pytest.mark.parametrize("config", [None, EVERYTHING_READS_THE_BODY])
def test_each_value_of_a_request_is_worked_out_once(config, monkeypatch):
    """The body in bytes and as JSON, the provider and the content mode."""
    counts = Counter()

    def count(module, name):
        function = getattr(module, name)

        def counted(*arguments, **options):
            # Of the JSON that is parsed, only the body is long.
            counts[name] += name != "parse" or len(arguments[0]) > 10_000
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, counted)

    count(json_body.strict_json, "parse")
    count(attempts, "resolve_provider")
    count(attempts, "named_provider")
    count(handler, "effective_content_mode")
    text = "Hello there. " * 1600
    request = {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0}
    platform = FakePlatform(body=json.dumps(request).encode())
    headers = {"x-portkey-config": json.dumps(config)} if config else {}
    assert handle(platform, headers=headers)[0] == "captured"
    ((upstream, sent),) = platform.fetched
    assert upstream.provider == ("groq" if config else "openai")
    assert json.loads(sent.data) == request | ({"top_p": 0.5} if config else {})
    (upload,) = platform.requests
    traced = [
        item["body"]["input"]
        for item in json.loads(upload.body)["batch"]
        if "input" in item["body"]
    ]
    assert all(text in json.dumps(each) for each in traced)
    assert platform.request_body.reads == 1
    assert counts == dict.fromkeys(
        ("parse", "resolve_provider", "named_provider", "effective_content_mode"), 1
    )


def test_an_error_response_has_each_cors_header_once():
    """A browser rejects a response with a repeated header."""
    settings = replace(TRACED, allowed_origins=frozenset({"https://a.example"}))
    platform = FakePlatform(capture=NetworkError("connection refused"))
    response = handle(platform, settings, headers={"origin": "https://a.example"})
    names = [name for name, _ in response.headers]
    assert names.count("access-control-allow-origin") == names.count("vary") == 1


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "GET"])
@pytest.mark.parametrize("origin", [None, "https://a.example", "https://b.example"])
@pytest.mark.parametrize("allowed", ["https://a.example", "*"])
def test_where_origins_are_listed_every_response_varies_by_origin(method, origin, allowed):
    """Else a shared cache could answer one page with the response for another."""
    settings = replace(TRACED, allowed_origins=frozenset({allowed}))
    platform = FakePlatform(capture=NetworkError("connection refused"))
    headers = {"origin": origin} if origin else {}
    response = handle(platform, settings, method=method, headers=headers)
    assert ("vary", "origin") in response.headers


def test_without_listed_origins_no_response_varies_by_origin():
    platform = FakePlatform(capture=NetworkError("connection refused"))
    response = handle(platform, headers={"origin": "https://a.example"})
    assert "vary" not in dict(response.headers)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_job_that_the_platform_ends_keeps_no_memory_for_long(monkeypatch):
    """It is ended without notice: its coroutine is never resumed, and no `finally` runs."""
    budget = MemoryBudget(2 * len(CHAT) - 1, CAPTURE_RESERVATION_SECONDS)
    monkeypatch.setattr(handler, "capture_budget", budget)

    class EndedJobs(FakePlatform):
        def run_after_response(self, name, job) -> None:
            self.jobs.append(job)

    platform = EndedJobs()

    async def run() -> list[int]:
        used = []
        for pause in (0, CAPTURE_RESERVATION_SECONDS + 1):
            await asyncio.sleep(pause)
            call = Call("POST", "/v1/chat/completions", "", {})
            await handler.handle(call, TRACED, platform)
            used.append(budget.used_bytes)
        return used

    # There is room for one body: the second request has as much of it as the first one had.
    assert virtual_time.run(run()) == [len(CHAT), len(CHAT)]
    for job in platform.jobs:
        job.close()


def test_override_params_are_ignored_for_a_request_without_a_body():
    """Clients send the same config with every request."""
    headers = {"x-portkey-config": '{"override_params": {"model": "m"}}'}
    platform = FakePlatform(body=b"")
    assert handle(platform, method="DELETE", path="/v1/files/1", headers=headers)[0] == "relayed"
    assert platform.fetched[0][1].data == b""


def test_targets_without_a_provider_get_the_callers_key_for_the_default_provider():
    """As without a config. With a target of another provider, the key has no owner: 401."""
    targets: list[Any] = [{"override_params": {"model": model}} for model in ("dear", "cheap")]
    config = {"strategy": {"mode": "fallback"}, "targets": targets}
    headers = {"authorization": "Bearer sk-mine", "x-portkey-config": json.dumps(config)}
    platform = FakePlatform()
    assert handle(platform, Settings(), headers=headers)[0] == "relayed"
    ((upstream, _),) = platform.fetched
    assert upstream.provider == "openai"
    assert ("authorization", "Bearer sk-mine") in upstream.headers
    targets.append({"provider": "groq"})
    headers["x-portkey-config"] = json.dumps(config)
    assert handle(platform, Settings(), headers=headers).status == 401


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_gateway_key_over_its_rate_limit_is_refused(monkeypatch, path):
    async def never(platform, name) -> bool:
        return False

    monkeypatch.setattr(FakePlatform, "is_within_rate_limit", never)
    key = "gw_0123456789abcdef"
    gateway_key = GatewayKey("ada", hashlib.sha256(key.encode()).hexdigest())
    platform = FakePlatform()
    response = handle(
        platform,
        replace(TRACED, gateway_keys=(gateway_key,)),
        path=path,
        headers={"x-api-key": key},
    )
    assert response.status == 429
    assert json.loads(response.body)["error"]["type"] == "rate_limit_error"
    assert platform.fetched == platform.requests == []


@pytest.mark.parametrize(
    ("reply", "is_cached"),
    [
        (b'{"choices": []}', True),
        (b'{"output": [], "error": null}', True),
        (b'{"error": {"code": 529, "message": "overloaded"}}', False),  # OpenRouter, status 200
        (zlib.compress(b'{"choices": []}'), False),
        (b'"busy"', False),
    ],
)
def test_only_a_successful_json_reply_is_cached(reply, is_cached):
    capture = Capture(Ending.COMPLETE, 2.0, 200, "application/json", reply)
    platform = FakePlatform(capture=capture)
    handle(platform, headers={"x-portkey-config": '{"cache": {"mode": "simple"}}'})
    assert bool(platform.cached) == is_cached


def test_a_body_is_changed_once_for_all_retries():
    platform = FakePlatform(capture=NetworkError("connection refused"))
    config = {"retry": {"attempts": 2}, "override_params": {"temperature": 0}}
    handle(platform, Settings(), headers={"x-portkey-config": json.dumps(config)})
    bodies = [body for _, body in platform.fetched]
    assert len(bodies) == 3
    assert all(body is bodies[0] for body in bodies)
    assert json.loads(bodies[0].data)["temperature"] == 0


FALLBACK_CONFIG = {
    "strategy": {"mode": "fallback"},
    "targets": [{"provider": "groq"}, {"provider": "openai"}],
}


@pytest.mark.parametrize("provider_header", ["openai", ""])
def test_credentials_are_not_sent_to_another_provider(provider_header):
    """Some providers read a key from a header of their own, or from the query."""
    headers = {
        "x-portkey-config": json.dumps(FALLBACK_CONFIG),
        "x-portkey-provider": provider_header,
        "x-goog-api-key": "one-of-the-callers",
        "idempotency-key": "1",
    }
    query = "key=one-of-the-callers&access_token=another&alt=sse"
    platform = FakePlatform(status=500)
    call = Call("POST", "/v1/chat/completions", query, headers)
    virtual_time.run(handler.handle(call, Settings(), platform))
    to_groq, to_openai = (dict(upstream.headers) for upstream, _ in platform.fetched)
    assert "x-goog-api-key" not in to_groq
    assert platform.fetched[0][0].url.endswith("/chat/completions?alt=sse")
    assert ("x-goog-api-key" in to_openai) is bool(provider_header)
    assert platform.fetched[1][0].url.endswith(query) is bool(provider_header)
    assert to_groq["idempotency-key"] == to_openai["idempotency-key"] == "1"


def test_a_body_that_is_sent_once_is_streamed_in_spite_of_a_config():
    headers = {"x-portkey-config": '{"provider": "groq", "request_timeout": 9000}'}
    platform = FakePlatform(body=b"x" * 10**8)
    assert handle(platform, path="/v1/files", headers=headers)[0] == "relayed"
    assert platform.fetched[0][1] is None
