"""How often each client asks on its own where a provider fails: each time is a trace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from .conftest import Gateway, execute, gateway_before

pytestmark = pytest.mark.clients

# How many requests a program makes before it gives up; docs/clients.md says so.
REQUESTS = {
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
def failing() -> Iterator[Gateway]:
    async def fail(_: web.Request) -> web.Response:
        error = {"type": "api_error", "message": "Out of order"}
        return web.json_response({"type": "error", "error": error}, status=500)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fail)
    with gateway_before(app) as gateway:
        yield gateway


@pytest.mark.parametrize("program", REQUESTS)
def test_retries(failing: Gateway, tmp_path: Path, program: str):
    failing.inbox.clear()
    assert execute(failing, program, tmp_path).returncode != 0
    observations: list[Any] = [*failing.inbox.wait_for(REQUESTS[program])]
    assert len(observations) == REQUESTS[program]
    for observation in observations:
        assert observation["level"] == "ERROR"
        assert observation["status_message"].startswith("HTTP 500: ")
        assert "Out of order" in observation["status_message"]
