"""Attempts whose reply does not end, and attempts after the client has left."""

import asyncio
import json

import pytest
from aiohttp import web

from core.limits import DISCARDED_TIMEOUT_SECONDS

from .conftest import CHAT, SCRIPTED, Provider, Stage
from .test_streaming import leave

KEY = "sk-of-the-target-0123456789"


def config(**value) -> dict[str, str]:
    return {"x-portkey-config": json.dumps(value)}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        pytest.param(
            {"content-type": "application/json", "content-length": "1000"}, marks=pytest.mark.long
        ),
    ],
)
def test_a_failed_reply_that_does_not_end_delays_neither_client_nor_trace(
    stage: Stage, provider: Provider, headers: dict[str, str]
):

    async def script(request):
        response = web.StreamResponse(status=500, headers=headers)
        await response.prepare(request)
        await response.write(b"one moment")
        await asyncio.Event().wait()
        return response

    provider.script = script
    targets = [{"provider": name, "api_key": KEY} for name in ("scripted", "openai")]
    falls_back = config(strategy={"mode": "fallback"}, targets=targets)
    with stage.http() as client:
        reply = client.post("/v1/chat/completions", json=CHAT, headers=falls_back)
        assert reply.status_code == 200
    observations = stage.observations(3)
    (failed,) = (o for o in observations if o["level"] == "ERROR")
    assert failed["metadata"]["ending"] == "cut"
    assert "one moment" in failed["status_message"]
    others = [o for o in observations if o is not failed]
    assert [o["metadata"]["http_status"] for o in others] == [200, 200]
    # For so long the failed reply is captured, before anything is traced.
    assert all(o["metadata"]["latency_ms"] < DISCARDED_TIMEOUT_SECONDS * 1000 for o in others)


def test_a_pause_ends_when_the_client_has_left(stage: Stage, provider: Provider):
    async def script(request):
        # Some time later the gateway has the reply, and pauses.
        asyncio.get_running_loop().call_later(0.3, provider.gate("called").set)
        return web.Response(status=429, headers={"retry-after": "50"})

    provider.script = script
    leave(stage, provider, {**SCRIPTED, **config(retry={"attempts": 1})})
    observations = stage.observations(2)
    assert {o["metadata"]["ending"] for o in observations} == {"complete", "client_left"}
