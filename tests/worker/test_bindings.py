"""The rate limit of the platform's side, in a Worker made to show it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.runtime import Runtime, bundle

ENTRY = """
from workers import Response, WorkerEntrypoint

from edge import Edge


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        edge = Edge(request.js_object, self.ctx, self.env)
        what, _, key = edge.call.path[1:].partition("/")
        match what:
            case "limit":
                return Response(str(await edge.within_limit(key)))
        return Response("ready")
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


def get(runtime: Runtime, path: str, **headers: str) -> httpx.Response:
    return httpx.get(runtime.url + path, headers=headers, timeout=20)


def lines(runtime: Runtime, event: str, **fields: Any) -> list[dict[str, Any]]:
    """The log's lines of an event, as soon as there is one."""

    def found() -> list[dict[str, Any]]:
        read = (json.loads(line) for line in runtime.logs if line.startswith("{"))
        return [line for line in read if line.items() >= {"event": event, **fields}.items()]

    runtime.wait_for_logs(lambda _: bool(found()))
    return found()


def test_a_limit_is_counted_for_each_name(limited: Runtime):
    # A new minute may begin meanwhile, and with it a new count.
    answers = [get(limited, "/limit/alice").text for _ in range(2 * LIMIT + 1)]
    assert answers[:LIMIT] == ["True"] * LIMIT
    assert "False" in answers
    assert get(limited, "/limit/bob").text == "True"
    assert not any("rate_limit_failed" in line for line in limited.logs)


def test_a_limit_that_breaks_limits_nobody(bare: Runtime):
    assert get(bare, "/limit/alice").text == "True"
    (line,) = lines(bare, "rate_limit_failed")
    assert line["reason"]
