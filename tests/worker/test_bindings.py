"""The rate limit and the cache in `cloudflare.platform`, in a Worker that exposes them.

The cache is tested with and without miniflare, since each has its own.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.runtime import Runtime, bundle

from .conftest import TIMEOUT_SECONDS

pytestmark = pytest.mark.long

ENTRY = """
from workers import Response, WorkerEntrypoint

from cloudflare.platform import CloudflareRequest
from core.memory_budget import Reservation, capture_budget
from dialects.first_token import FirstTokenSearch
from redaction.logs import LEVELS, log


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        platform = CloudflareRequest(request.js_object, self.ctx, self.env)
        what, _, key = platform.call.path[1:].partition("/")
        match what:
            case "limit":
                return Response(str(await platform.is_within_rate_limit(key)))
            case "enabled":
                return Response(str(platform.is_cache_enabled))
            case "write":
                status, max_age = platform.call.query.split(",")
                content_type = platform.call.headers["content-type"]
                body = await request.bytes()
                await platform.write_cache(key, int(status), content_type, body, int(max_age))
                return Response(str(platform.is_cache_enabled))
            case "relay" | "capture":
                reply = await platform.read_cache(key)
                if reply is None:
                    return Response("nothing", status=404)
                headers = (("x-added", "by the gateway"),)
                if what == "relay":
                    return reply.relay(headers)
                reservation = Reservation(capture_budget)
                first_token = FirstTokenSearch("", "")
                response, capture = reply.relay_and_capture(
                    headers, 2**21, reservation, first_token
                )
                platform.run_after_response("capture", log_capture(key, capture))
                return response
        return Response("ready")


LEVELS["captured"] = "info"


async def log_capture(key, capture):
    found = await capture
    fields = {"ending": found.ending, "status": found.status, "content_type": found.content_type}
    log("captured", key=key, size=len(found.body), **fields)
"""
MODULES = {**bundle(), "entry.py": ENTRY}
LIMIT = 3


@pytest.fixture(scope="module")
def limited() -> Iterator[Runtime]:
    limits = {"RATE_LIMIT": {"limit": LIMIT, "period": 60}}
    with Runtime({}, modules=MODULES, rate_limits=limits) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def bare() -> Iterator[Runtime]:
    with Runtime({"RATE_LIMIT": {"no": "limit"}}, modules=MODULES) as runtime:
        yield runtime


@pytest.fixture(params=["bare", "limited"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return request.getfixturevalue(request.param)


def get(runtime: Runtime, path: str, **headers: str) -> httpx.Response:
    return httpx.get(runtime.url + path, headers=headers, timeout=TIMEOUT_SECONDS)


def write(
    runtime: Runtime, key: str, body: bytes, *, status: int = 200, max_age: int = 60
) -> httpx.Response:
    return httpx.post(
        f"{runtime.url}/write/{key}?{status},{max_age}",
        content=body,
        headers={"content-type": "text/event-stream; charset=utf-8"},
        timeout=TIMEOUT_SECONDS,
    )


def key_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def lines(runtime: Runtime, event: str, **fields: Any) -> list[dict[str, Any]]:
    """The log's lines of an event, as soon as there is one."""

    def found() -> list[dict[str, Any]]:
        read = (json.loads(line) for line in runtime.logs if line.startswith("{"))
        return [line for line in read if line.items() >= {"event": event, **fields}.items()]

    runtime.wait_for_logs(lambda _: bool(found()), TIMEOUT_SECONDS)
    return found()


def test_a_rate_limit_counts_each_name(limited: Runtime):
    # A new minute may begin meanwhile, and with it a new count.
    answers = [get(limited, "/limit/alice").text for _ in range(2 * LIMIT + 1)]
    assert answers[:LIMIT] == ["True"] * LIMIT
    assert "False" in answers
    assert get(limited, "/limit/bob").text == "True"
    assert not any("rate_limit_failed" in line for line in limited.logs)


def test_a_rate_limit_that_fails_limits_no_call(bare: Runtime):
    assert get(bare, "/limit/alice").text == "True"
    (line,) = lines(bare, "rate_limit_failed")
    assert line["reason"]


@pytest.mark.parametrize("path", ["relay", "capture"])
@pytest.mark.parametrize("size", [0, 20, 2_000_000], ids=str)
def test_a_cached_reply_is_returned_unchanged(runtime: Runtime, path: str, size: int):
    key, body = key_of(f"{path} {size}"), bytes(i * i % 251 for i in range(size))
    assert get(runtime, f"/{path}/{key}").status_code == 404
    assert write(runtime, key, body).text == "True"
    for _ in range(2):
        reply = get(runtime, f"/{path}/{key}")
        assert (reply.status_code, reply.content) == (200, body)
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reply.headers["x-added"] == "by the gateway"
        assert not {"cache-control", "cf-cache-status", "set-cookie"} & set(reply.headers)
    if path == "capture":
        for line in lines(runtime, "captured", key=key):
            assert (line["ending"], line["status"], line["size"]) == ("complete", 200, size)
            assert line["content_type"] == "text/event-stream; charset=utf-8"


def test_a_second_write_replaces_the_reply_with_its_status(runtime: Runtime):
    key = key_of("status")
    write(runtime, key, b"first", status=200)
    write(runtime, key, b"second", status=404)
    reply = get(runtime, f"/relay/{key}")
    assert (reply.status_code, reply.text) == (404, "second")


def test_a_cached_reply_expires(runtime: Runtime):
    brief, longer, never = map(key_of, ("brief", "longer", "never"))
    began = time.monotonic()
    write(runtime, brief, b"brief", max_age=2)
    write(runtime, longer, b"longer", max_age=60)
    write(runtime, never, b"never", max_age=0)
    found = get(runtime, f"/relay/{brief}").status_code
    assert found == 200 or time.monotonic() - began > 2
    while get(runtime, f"/relay/{brief}").status_code == 200:
        time.sleep(0.1)
    assert time.monotonic() - began >= 2 or found == 404
    assert get(runtime, f"/relay/{longer}").text == "longer"
    assert get(runtime, f"/relay/{never}").status_code == 404


def test_each_host_has_a_cache_of_its_own(runtime: Runtime):
    key = key_of("host")
    write(runtime, key, b"a body")
    assert get(runtime, f"/relay/{key}", host="other.example.com").status_code == 404
    assert get(runtime, f"/relay/{key}").text == "a body"


def test_a_workers_dev_address_has_no_cache(runtime: Runtime):
    assert get(runtime, "/enabled").text == "True"
    assert get(runtime, "/enabled", host="gateway.alice.workers.dev").text == "False"


def test_a_failed_write_disables_the_cache_and_is_logged_once(runtime: Runtime):
    reply = write(runtime, key_of("partial"), b"a part", status=206)
    assert (reply.status_code, reply.text) == (200, "False")
    (line,) = lines(runtime, "cache_failed")
    assert "206" in line["reason"]


def test_a_client_that_leaves_during_a_cached_reply_is_recorded(runtime: Runtime):
    key = key_of("leaves")
    write(runtime, key, bytes(30_000_000))
    with httpx.stream("GET", f"{runtime.url}/capture/{key}", timeout=TIMEOUT_SECONDS) as reply:
        next(reply.iter_raw(1000))
    (line,) = lines(runtime, "captured", key=key)
    assert line["ending"] == "client_left"
    assert not any("job_failed" in line for line in runtime.logs)


def test_the_local_cache_removes_the_oldest_replies(bare: Runtime):
    keys = [key_of(f"large {number}") for number in range(4)]
    for key in keys:
        write(bare, key, bytes(25_000_000))
    found = [get(bare, f"/relay/{key}").status_code for key in keys]
    assert found == [404, 404, 200, 200]
    write(bare, keys[3], b"small")  # replaces the large one, so that another one fits
    write(bare, keys[0], bytes(25_000_000))
    found = [get(bare, f"/relay/{key}").status_code for key in keys]
    assert found == [200, 404, 200, 200]
