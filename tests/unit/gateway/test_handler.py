"""The story of a request against a platform that is a few lines long."""

import asyncio
import hashlib
import json
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from core.limits import CAPTURE_RESERVATION_SECONDS, SCAN_WINDOW_BYTES
from core.memory_budget import MemoryBudget
from core.types import BodyTooLarge, Call, Capture, Ending, GatewayResponse, NetworkError
from core.version import VERSION
from export import outbox
from gateway import handler
from settings.gateway_keys import GatewayKey
from settings.load import Settings
from tests.unit import virtual_time
from tests.unit.langfuse import SETTINGS as TRACED
from tests.unit.langfuse import Langfuse


@pytest.fixture(autouse=True)
def _a_new_isolate(monkeypatch):
    monkeypatch.setattr(outbox, "_outboxes", {})


CHAT = b'{"model": "m", "messages": []}'


@dataclass
class FakeBody:
    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read(self, limit: int, start: int = 0) -> bytes:
        return self.data[start : start + limit]

    def truncate(self, limit: int) -> None:
        self.kept = limit

    def with_content(self, data: bytes) -> "FakeBody":
        return FakeBody(data)


@dataclass
class FakePlatform(Langfuse):
    """Answers with `capture`, raises it if it is an error, and keeps what it was asked for."""

    body: bytes = CHAT
    capture: Capture | Exception = field(
        default_factory=lambda: Capture(Ending.COMPLETE, 2.0, 200, "application/json", b"{}")
    )
    status: int = 200
    left: bool = False
    fetched: list[Any] = field(default_factory=list)
    jobs: list[Any] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)

    async def read_body(self, limit: int) -> FakeBody:
        if len(self.body) > limit:
            raise BodyTooLarge
        return FakeBody(self.body)

    async def is_within_rate_limit(self, name) -> bool:
        return True

    @property
    def is_cache_enabled(self) -> bool:
        return True

    async def read_cache(self, key) -> Any:
        return self.kept.get(key)

    async def write_cache(self, key, status, content_type, body, max_age) -> None:
        self.kept[key] = (status, content_type, body, max_age)

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

    def relay_and_capture(self, headers, limit, hold):
        async def capture():
            return self.capture

        return ("captured", dict(headers)), capture()

    def client_left(self) -> bool:
        return self.left

    def run_after_response(self, name, job) -> None:
        self.jobs.append((name, asyncio.ensure_future(job)))


def handle(
    platform: FakePlatform,
    settings=TRACED,
    method="POST",
    path="/v1/chat/completions",
    headers: dict[str, str] | None = None,
):
    async def run():
        answer = await handler.handle(Call(method, path, "", headers or {}), settings, platform)
        for _, job in platform.jobs:
            await job
        return answer

    return virtual_time.run(run())


def test_a_traced_call():
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
def test_calls_that_leave_no_trace(settings, method, path):
    platform = FakePlatform()
    kind, headers = handle(platform, settings, method, path)
    assert kind == "relayed"
    assert "x-portkey-trace-id" not in headers
    assert platform.jobs == platform.requests == []


def test_an_untraced_body_is_never_read():
    platform = FakePlatform(body=b"x" * 10**8)
    assert handle(platform, path="/v1/files")[0] == "relayed"
    assert platform.fetched[0][1] is None


@pytest.mark.parametrize(("left", "ending"), [(False, "unreachable"), (True, "client_left")])
def test_a_provider_that_cannot_be_reached_is_traced(left, ending):
    platform = FakePlatform(capture=NetworkError("connection refused"), left=left)
    answer = handle(platform)
    assert isinstance(answer, GatewayResponse)
    assert answer.status == 502
    generation = json.loads(platform.requests[0].body)["batch"][1]["body"]
    assert generation["metadata"]["ending"] == ending


def test_the_log_of_an_unreachable_provider_holds_no_credential(capsys):
    platform = FakePlatform(capture=NetworkError("no route to https://x/?key=sk-query-secret"))
    call = Call("GET", "/v1/models", "key=sk-query-secret", {})
    virtual_time.run(handler.handle(call, TRACED, platform))
    line = capsys.readouterr().out
    assert "provider_unreachable" in line
    assert "sk-query-secret" not in line


def test_a_fault_of_our_own_does_not_leave_the_trace_waiting():
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
def test_refusals_reach_nobody(method, path, body, status):
    platform = FakePlatform(body=body)
    answer = handle(platform, method=method, path=path)
    assert isinstance(answer, GatewayResponse)
    assert answer.status == status
    assert json.loads(answer.body)["error"]["message"]
    assert platform.fetched == platform.requests == []


def test_a_misconfigured_gateway_serves_only_its_health():
    settings = Settings(problem="GATEWAY_API_KEYS is not valid JSON")
    platform = FakePlatform()
    answer = handle(platform, settings)
    assert answer.status == 500
    assert "GATEWAY_API_KEYS" in answer.body
    assert platform.fetched == []
    health = handle(platform, settings, "GET", "/health")
    assert health.status == 503
    assert json.loads(health.body)["status"] == "misconfigured"


def test_health_tells_who_has_a_key_what_became_of_the_traces():
    key = "gw_0123456789abcdef"
    digest = hashlib.sha256(key.encode()).hexdigest()
    settings = replace(TRACED, gateway_keys=(GatewayKey("ada", digest),))
    platform = FakePlatform()

    def health(headers) -> dict[str, Any]:
        call = Call("GET", "/health", "", headers)
        answer = virtual_time.run(handler.handle(call, settings, platform))
        return json.loads(answer.body)

    public = {"status": "ok", "version": VERSION, "tracing": True}
    assert health({}) == public
    assert health({"authorization": "Bearer gw_wrong"}) == public
    shown = {"authorization": f"Bearer {key}"}
    unused = {"protocol": None, "last": None, "last_at": None}
    assert health(shown)["delivery"] == {**unused, "stored": 0, "queued": 0, "dropped": 0}
    call = Call("POST", "/v1/chat/completions", "", {"x-portkey-api-key": key})

    async def run() -> None:
        await handler.handle(call, settings, platform)
        await platform.jobs[0][1]

    virtual_time.run(run())
    told = health(shown)["delivery"]
    assert (told["protocol"], told["last"], told["stored"]) == ("ingestion", "stored", 1)
    assert "sk-lf" not in json.dumps(told)


ROUTED = b'{"messages": [{"role": "user", "content": "hi"}], "model": "@groq/llama-3.3-70b"}'


@pytest.mark.parametrize("settings", [TRACED, Settings()])
def test_a_model_chooses_the_provider(settings):
    platform = FakePlatform(body=ROUTED)
    _, headers = handle(platform, settings)
    ((upstream, body),) = platform.fetched
    assert headers["x-portkey-provider"] == upstream.provider == "groq"
    assert body.data == ROUTED.replace(b"@groq/", b"")
    if settings is TRACED:
        generation = json.loads(platform.requests[0].body)["batch"][1]["body"]
        assert generation["model"] == "llama-3.3-70b"
        assert generation["metadata"]["requested_model"] == "@groq/llama-3.3-70b"


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (CHAT, ""),
        (ROUTED, "openrouter"),
        (b'{"model": "@cf/meta/llama"}', ""),
        (b'{"model": "@cf/meta/llama"}', "openrouter"),
        (b'{"metadata": {"model": "@groq/m"}}', ""),
        # Named by the header: what can't be read, or not cheaply, goes through.
        (ROUTED + b" " * 4 * 1024 * 1024, "groq"),
        (ROUTED[:-1], "groq"),
    ],
)
def test_bodies_that_go_out_as_they_came(body, header):
    platform = FakePlatform(body=body)
    handle(platform, headers={"x-portkey-provider": header})
    ((upstream, sent),) = platform.fetched
    assert upstream.provider == (header or "openai")
    assert sent.data is body


@pytest.mark.parametrize("before", [-300, -250, -30, -5, 0, 5, 10, 15, 20, 25, 300])
def test_a_model_is_found_wherever_it_is(before):
    """Also where two of the pieces meet that a body is searched in."""
    start = b'{"x": "'
    filling = b"x" * (SCAN_WINDOW_BYTES - before - len(start))
    platform = FakePlatform(body=start + filling + b'", "model": "@groq/m"}')
    handle(platform)
    assert platform.fetched[0][0].provider == "groq"
    assert platform.fetched[0][1].data == start + filling + b'", "model": "m"}'


def test_a_body_without_a_provider_is_not_parsed_before_the_reply(monkeypatch):
    monkeypatch.setattr("upstream.request_body.prefixed_model", None)
    platform = FakePlatform(body=b'{"model": "openai/gpt-4.1", "user": "@me"}')
    assert handle(platform)[0] == "captured"


def test_a_page_of_an_allowed_origin_reads_an_error_too():
    """A browser takes no answer that says it twice."""
    settings = replace(TRACED, allowed_origins=frozenset({"https://a.example"}))
    platform = FakePlatform(capture=NetworkError("connection refused"))
    answer = handle(platform, settings, headers={"origin": "https://a.example"})
    names = [name for name, _ in answer.headers]
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


def test_a_request_without_a_body_has_no_parameters_to_override():
    """Clients send one config with all that they ask."""
    headers = {"x-portkey-config": '{"override_params": {"model": "m"}}'}
    platform = FakePlatform(body=b"")
    assert handle(platform, method="DELETE", path="/v1/files/1", headers=headers)[0] == "relayed"
    assert platform.fetched[0][1].data == b""


def test_targets_that_name_no_provider_are_the_default_ones():
    """So that a key which comes with them is for that one, as without a config."""
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
def test_a_key_over_its_limit(monkeypatch, path):
    async def never(platform, name) -> bool:
        return False

    monkeypatch.setattr(FakePlatform, "is_within_rate_limit", never)
    key = "gw_0123456789abcdef"
    known = GatewayKey("ada", hashlib.sha256(key.encode()).hexdigest())
    platform = FakePlatform()
    answer = handle(
        platform, replace(TRACED, gateway_keys=(known,)), path=path, headers={"x-api-key": key}
    )
    assert answer.status == 429
    assert json.loads(answer.body)["error"]["type"] == "rate_limit_error"
    assert platform.fetched == platform.requests == []


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (b'{"choices": []}', True),
        (b'{"output": [], "error": null}', True),
        (b'{"error": {"code": 529, "message": "overloaded"}}', False),  # as OpenRouter says it
        (zlib.compress(b'{"choices": []}'), False),
        (b'"busy"', False),
    ],
)
def test_which_replies_are_kept(reply, kept):
    capture = Capture(Ending.COMPLETE, 2.0, 200, "application/json", reply)
    platform = FakePlatform(capture=capture)
    handle(platform, headers={"x-portkey-config": '{"cache": {"mode": "simple"}}'})
    assert bool(platform.kept) == kept


def test_a_body_is_changed_once_however_often_it_is_sent():
    platform = FakePlatform(capture=NetworkError("connection refused"))
    config = {"retry": {"attempts": 2}, "override_params": {"temperature": 0}}
    handle(platform, Settings(), headers={"x-portkey-config": json.dumps(config)})
    bodies = [body for _, body in platform.fetched]
    assert len(bodies) == 3
    assert all(body is bodies[0] for body in bodies)
    assert json.loads(bodies[0].data)["temperature"] == 0


TWO = {"strategy": {"mode": "fallback"}, "targets": [{"provider": "groq"}, {"provider": "openai"}]}


@pytest.mark.parametrize("named", ["openai", ""])
def test_no_key_of_any_form_goes_to_another_provider(named):
    """Some providers read a key in a header of their own, or in the query."""
    headers = {
        "x-portkey-config": json.dumps(TWO),
        "x-portkey-provider": named,
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
    assert ("x-goog-api-key" in to_openai) is bool(named)
    assert platform.fetched[1][0].url.endswith(query) is bool(named)
    assert to_groq["idempotency-key"] == to_openai["idempotency-key"] == "1"


def test_a_body_that_goes_out_once_is_streamed_in_spite_of_a_config():
    headers = {"x-portkey-config": '{"provider": "groq", "request_timeout": 9000}'}
    platform = FakePlatform(body=b"x" * 10**8)
    assert handle(platform, path="/v1/files", headers=headers)[0] == "relayed"
    assert platform.fetched[0][1] is None
