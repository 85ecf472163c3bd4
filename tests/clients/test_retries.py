"""Tests of the clients' own retries when a provider fails: each request is a trace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from .conftest import Gateway, execute, gateway_with_provider

pytestmark = pytest.mark.clients

# The number of requests that a program makes until it fails, as in docs/clients.md.
REQUEST_COUNTS = {
    "anthropic-javascript/messages.mjs": 3,
    "anthropic-python/messages.py": 3,
    "langchain/anthropic_chat.py": 3,
    "langchain/openai_chat.py": 3,
    "litellm/anthropic_chat.py": 1,
    "litellm/openai_chat.py": 3,
    "llamaindex/openai_chat.py": 12,
    "openai-javascript/chat.mjs": 3,
    "openai-python/chat.py": 3,
    "pydantic-ai/anthropic_chat.py": 3,
    "pydantic-ai/openai_chat.py": 3,
    "vercel-ai-sdk/anthropic_chat.mjs": 3,
    "vercel-ai-sdk/openai_chat.mjs": 3,
}


@pytest.fixture(scope="module")
def failing_gateway() -> Iterator[Gateway]:
    async def fail(_: web.Request) -> web.Response:
        error = {"type": "api_error", "message": "Out of order"}
        return web.json_response({"type": "error", "error": error}, status=500)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fail)
    with gateway_with_provider(app) as gateway:
        yield gateway


@pytest.mark.parametrize("program", REQUEST_COUNTS)
def test_a_client_retries_a_failing_provider(
    failing_gateway: Gateway, tmp_path: Path, program: str
):
    failing_gateway.inbox.clear()
    assert execute(failing_gateway, program, tmp_path).returncode != 0
    observations: list[Any] = [*failing_gateway.inbox.wait_for(REQUEST_COUNTS[program])]
    assert len(observations) == REQUEST_COUNTS[program]
    for observation in observations:
        assert observation["level"] == "ERROR"
        assert observation["status_message"].startswith("HTTP 500: ")
        assert "Out of order" in observation["status_message"]
