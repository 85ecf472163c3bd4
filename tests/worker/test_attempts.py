"""Requests for which several attempts are under way at once, or one after another for nobody."""

import asyncio
import json

import pytest
from aiohttp import web

from .conftest import CHAT, SCRIPTED, Provider, Stage
from .test_streaming import leave

KEY = "sk-of-the-target-0123456789"


def config(**value) -> dict[str, str]:
    return {"x-portkey-config": json.dumps(value)}


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "application/json", "content-length": "1000"}]
)
def test_an_error_that_does_not_end_keeps_nobody_waiting(
    stage: Stage, provider: Provider, headers: dict[str, str]
):
    """Neither the client nor the trace of the reply that it got."""

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
    assert all(o["metadata"]["latency_ms"] < 3000 for o in others)


def test_nobody_waits_for_a_provider_on_behalf_of_a_client_that_left(
    stage: Stage, provider: Provider
):
    async def script(request):
        # By then the gateway has the reply, and waits.
        asyncio.get_running_loop().call_later(0.3, provider.gate("asked").set)
        return web.Response(status=429, headers={"retry-after": "50"})

    provider.script = script
    leave(stage, provider, {**SCRIPTED, **config(retry={"attempts": 1})})
    observations = stage.observations(2)
    assert {o["metadata"]["ending"] for o in observations} == {"complete", "client_left"}
