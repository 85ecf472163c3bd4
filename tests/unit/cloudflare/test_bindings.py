"""Tests of rate limit and cache: their failures and timeouts never fail a call."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from cloudflare.bindings import CloudflareCache, RateLimit
from core.limits import BINDING_TIMEOUT_SECONDS
from core.types import Call
from redaction.logs import RequestLog
from tests.unit import virtual_time


class FakeBinding:
    """A rate limit, or the platform's `caches`, whose methods all behave alike.

    They return `result`, raise it where it is an exception, or never return where it is "silence".
    `calls` records the name and the arguments of each call.
    """

    def __init__(self, result: Any) -> None:
        self.result = result
        self.calls: list[tuple[Any, ...]] = []

    async def limit(self, key: str) -> Any:
        return await self._call("limit", key)

    async def open(self, name: str) -> Any:
        await self._call("open", name)
        return self

    async def match(self, address: str) -> Any:
        return await self._call("match", address)

    async def put(self, address: str, response: Any) -> Any:
        return await self._call("put", address, response)

    async def _call(self, *call: Any) -> Any:
        self.calls.append(call)
        if self.result == "silence":
            await asyncio.sleep(3600)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


FAILURES = pytest.mark.parametrize(
    ("failure", "reason"), [(OSError("out of order"), "out of order"), ("silence", "no answer")]
)


LOG = RequestLog(Call("POST", "/v1/models", "", {}, "request-1"))


def log_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("success", [True, False])
def test_a_rate_limit_counts_by_name(success):
    binding = FakeBinding(SimpleNamespace(success=success))
    assert virtual_time.run(RateLimit(binding, LOG).is_allowed("alice")) is success
    assert binding.calls == [("limit", "alice")]


def test_every_call_is_allowed_without_a_rate_limit_binding():
    assert virtual_time.run(RateLimit(None, LOG).is_allowed("alice")) is True


@FAILURES
def test_a_failing_rate_limit_allows_every_call(capsys, failure, reason):
    async def run() -> float:
        started_at = virtual_time.now()
        assert await RateLimit(FakeBinding(failure), LOG).is_allowed("alice") is True
        return virtual_time.now() - started_at

    assert virtual_time.run(run()) <= BINDING_TIMEOUT_SECONDS
    assert log_lines(capsys) == [
        {
            "event": "rate_limit_failed",
            "level": "warning",
            "request_id": "request-1",
            "reason": reason,
        }
    ]


@pytest.mark.parametrize(
    "binding", [object(), FakeBinding(object())], ids=["no limit", "no answer"]
)
def test_a_binding_of_another_kind_allows_every_call(capsys, binding):
    assert virtual_time.run(RateLimit(binding, LOG).is_allowed("alice")) is True
    (line,) = log_lines(capsys)
    assert line["event"] == "rate_limit_failed"


def test_a_cache_entry_belongs_to_its_host_in_a_named_cache():
    caches = FakeBinding("kept")
    assert virtual_time.run(CloudflareCache(caches, "ai.example.com", LOG).match("0af1")) == "kept"
    address = "https://ai.example.com/.cache/0af1"
    assert caches.calls == [("open", "ai-gateway-worker"), ("match", address)]


@FAILURES
def test_a_failing_cache_is_disabled_and_logged_once(capsys, failure, reason):
    caches = FakeBinding(failure)
    cache = CloudflareCache(caches, "ai.example.com", LOG)

    async def run() -> float:
        started_at = virtual_time.now()
        assert await cache.match("0af1") is None
        await cache.put("0af1", "a response")
        return virtual_time.now() - started_at

    assert virtual_time.run(run()) <= BINDING_TIMEOUT_SECONDS
    assert log_lines(capsys) == [
        {"event": "cache_failed", "level": "warning", "request_id": "request-1", "reason": reason}
    ]
    assert not cache.enabled
    assert len(caches.calls) == 1


def test_a_workers_dev_address_has_no_cache(capsys):
    caches = FakeBinding("kept")
    cache = CloudflareCache(caches, "gateway.alice.workers.dev", LOG)
    assert not cache.enabled
    assert virtual_time.run(cache.match("0af1")) is None
    virtual_time.run(cache.put("0af1", "a response"))
    assert not caches.calls
    assert not log_lines(capsys)
    assert CloudflareCache(caches, "workers.dev.example.com", LOG).enabled
