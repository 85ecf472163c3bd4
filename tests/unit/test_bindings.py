"""A limit that fails or is silent, and never takes a call with it."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from bindings import LONGEST_WAIT, RateLimit
from tests.unit import virtual_time


class Fake:
    """A binding."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []

    async def limit(self, key: str) -> Any:
        return await self._say("limit", key)

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
    assert virtual_time.run(RateLimit(binding).allows("alice")) is success
    assert binding.asked == [("limit", "alice")]


def test_without_a_limit_everybody_may():
    assert virtual_time.run(RateLimit(None).allows("alice")) is True


@FAILURES
def test_a_limit_that_breaks_limits_nobody(capsys, failure, reason):
    async def run() -> float:
        began = virtual_time.now()
        assert await RateLimit(Fake(failure)).allows("alice") is True
        return virtual_time.now() - began

    assert virtual_time.run(run()) <= LONGEST_WAIT
    assert logged(capsys) == [{"event": "rate_limit_failed", "reason": reason}]


@pytest.mark.parametrize("binding", [object(), Fake(object())], ids=["no limit", "no answer"])
def test_a_binding_that_is_something_else_limits_nobody(capsys, binding):
    assert virtual_time.run(RateLimit(binding).allows("alice")) is True
    (line,) = logged(capsys)
    assert line["event"] == "rate_limit_failed"
