"""The coding agents, run without their window: the answer arrives, and each request is traced."""

import json
from pathlib import Path

import pytest

from clients.install import CLIENTS

from .conftest import Gateway, Ran, run

pytestmark = pytest.mark.clients

REQUESTS = 3  # the greeting, the tool's call, the answer


def assert_traced(ran: Ran, endpoint: str, provider: str, tool: str) -> None:
    """What holds for the traces of an agent that was greeted, then told to use a tool."""
    greeted, called, answered = ran.observations
    for observation in ran.observations:
        assert (observation["level"], observation["status_message"]) == ("DEFAULT", None)
        assert observation["user_id"] == "ada"
        assert observation["completion_start_time"]
        assert observation["usage"]["input"] > 0
        metadata = observation["metadata"]
        expected = {
            "endpoint": endpoint,
            "provider": provider,
            "streamed": True,
            "ending": "complete",
            "gateway_key": "laptop",
            "team": "search",
        }
        assert {name: metadata.get(name) for name in expected} == expected
        assert "notes" not in metadata
        names = [t.get("function", t).get("name") for t in observation["input"]["tools"]]
        assert tool in names
    assert "Hello!" in json.dumps(greeted["input"]["messages"])
    assert greeted["output"]["content"].startswith("You said: ")
    (call,) = called["output"]["tool_calls"]
    assert call["function"]["name"] == tool
    assert "echo 18 degrees" in call["function"]["arguments"]
    result = answered["input"]["messages"][-1]
    assert result["role"] == "tool"
    assert "18 degrees" in json.dumps(result["content"])
    assert "18 degrees" in answered["output"]["content"]
    # Two runs are two sessions; the second made two requests.
    sessions = [observation["session_id"] for observation in ran.observations]
    assert all(sessions)
    assert sessions[0] != sessions[1]
    assert sessions[1] == sessions[2]


def test_claude_code(gateway: Gateway, tmp_path: Path):
    ran = run(gateway, "claude-code/run.sh", REQUESTS, tmp_path)
    assert "Hello!" in ran.printed
    assert "You said: 18 degrees" in ran.printed
    assert_traced(ran, "/v1/messages", "anthropic", "Bash")


def test_codex(gateway: Gateway, tmp_path: Path):
    home = tmp_path / ".codex"
    home.mkdir()
    config = (CLIENTS / "codex" / "config.toml").read_text()
    assert "http://127.0.0.1:8787" in config
    (home / "config.toml").write_text(config.replace("http://127.0.0.1:8787", gateway.url))
    ran = run(gateway, "codex/run.sh", REQUESTS, tmp_path)
    assert "You said: Hello!" in ran.printed
    assert "18 degrees" in ran.printed
    assert_traced(ran, "/v1/responses", "openai", "exec_command")
