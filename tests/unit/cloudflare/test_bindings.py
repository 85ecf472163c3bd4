"""A limit and a cache that fail or are silent, and never take a call with them."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from cloudflare.bindings import CloudflareCache, RateLimit
from core.limits import BINDING_TIMEOUT_SECONDS
from tests.unit import virtual_time


class Fake:
    """A binding, or the platform's caches, whose methods all do the same."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []

    async def limit(self, key: str) -> Any:
        return await self._say("limit", key)

    async def open(self, name: str) -> Any:
        await self._say("open", name)
        return self

    async def match(self, address: str) -> Any:
        return await self._say("match", address)

    async def put(self, address: str, response: Any) -> Any:
        return await self._say("put", address, response)

    async def _say(self, *asked: Any) -> Any:
        self.asked.append(asked)
        if self.answer == "silence":
            await asyncio.sleep(3600)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


FAILURES = pytest.mark.parametrize(
    ("failure", "reason"), [(OSError("out of order"), "out of order"), ("silence", "no answer")]
)


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("success", [True, False])
def test_a_limit_counts_by_name(success):
    binding = Fake(SimpleNamespace(success=success))
    assert virtual_time.run(RateLimit(binding, "request-1").is_allowed("alice")) is success
    assert binding.asked == [("limit", "alice")]


def test_without_a_limit_everybody_may():
    assert virtual_time.run(RateLimit(None, "request-1").is_allowed("alice")) is True


@FAILURES
def test_a_limit_that_breaks_limits_nobody(capsys, failure, reason):
    async def run() -> float:
        began = virtual_time.now()
        assert await RateLimit(Fake(failure), "request-1").is_allowed("alice") is True
        return virtual_time.now() - began

    assert virtual_time.run(run()) <= BINDING_TIMEOUT_SECONDS
    assert logged(capsys) == [
        {"event": "rate_limit_failed", "request_id": "request-1", "reason": reason}
    ]


@pytest.mark.parametrize("binding", [object(), Fake(object())], ids=["no limit", "no answer"])
def test_a_binding_that_is_something_else_limits_nobody(capsys, binding):
    assert virtual_time.run(RateLimit(binding, "request-1").is_allowed("alice")) is True
    (line,) = logged(capsys)
    assert line["event"] == "rate_limit_failed"


def test_an_entry_is_its_hosts_and_in_a_cache_of_our_own():
    caches = Fake("kept")
    assert (
        virtual_time.run(CloudflareCache(caches, "ai.example.com", "request-1").match("0af1"))
        == "kept"
    )
    address = "https://ai.example.com/.cache/0af1"
    assert caches.asked == [("open", "ai-gateway-worker"), ("match", address)]


@FAILURES
def test_a_cache_that_breaks_keeps_nothing_and_says_so_once(capsys, failure, reason):
    caches = Fake(failure)
    cache = CloudflareCache(caches, "ai.example.com", "request-1")

    async def run() -> float:
        began = virtual_time.now()
        assert await cache.match("0af1") is None
        await cache.put("0af1", "a response")
        return virtual_time.now() - began

    assert virtual_time.run(run()) <= BINDING_TIMEOUT_SECONDS
    assert logged(capsys) == [
        {"event": "cache_failed", "request_id": "request-1", "reason": reason}
    ]
    assert not cache.enabled
    assert len(caches.asked) == 1


def test_a_workers_dev_address_has_no_cache(capsys):
    caches = Fake("kept")
    cache = CloudflareCache(caches, "gateway.alice.workers.dev", "request-1")
    assert not cache.enabled
    assert virtual_time.run(cache.match("0af1")) is None
    virtual_time.run(cache.put("0af1", "a response"))
    assert not caches.asked
    assert not logged(capsys)
    assert CloudflareCache(caches, "workers.dev.example.com", "request-1").enabled
