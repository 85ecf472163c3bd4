"""Tests of coding agents, run without their UI: the reply arrives, and each request is traced."""

import json
from pathlib import Path

import pytest

from clients.install import CLIENTS

from .conftest import Gateway, ProgramRun, run_program

pytestmark = pytest.mark.clients

REQUEST_COUNT = 3  # the greeting, the tool call, the reply to its result


def assert_traced(program_run: ProgramRun, endpoint: str, provider: str, tool: str) -> None:
    """Check the three traces of an agent that gets a greeting, and then a request to use a tool."""
    greeting, tool_call, final_reply = program_run.observations
    for observation in program_run.observations:
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
    assert "Hello!" in json.dumps(greeting["input"]["messages"])
    assert greeting["output"]["content"].startswith("You said: ")
    (call,) = tool_call["output"]["tool_calls"]
    assert call["function"]["name"] == tool
    assert "echo 18 degrees" in call["function"]["arguments"]
    result = final_reply["input"]["messages"][-1]
    assert result["role"] == "tool"
    assert "18 degrees" in json.dumps(result["content"])
    assert "18 degrees" in final_reply["output"]["content"]
    # The agent ran twice: two sessions, the second with two requests.
    sessions = [observation["session_id"] for observation in program_run.observations]
    assert all(sessions)
    assert sessions[0] != sessions[1]
    assert sessions[1] == sessions[2]


def test_the_requests_of_claude_code_are_traced(gateway: Gateway, tmp_path: Path):
    program_run = run_program(gateway, "claude-code/run.sh", REQUEST_COUNT, tmp_path)
    assert "Hello!" in program_run.output
    assert "You said: 18 degrees" in program_run.output
    assert_traced(program_run, "/v1/messages", "anthropic", "Bash")


def test_the_requests_of_codex_are_traced(gateway: Gateway, tmp_path: Path):
    home = tmp_path / ".codex"
    home.mkdir()
    config = (CLIENTS / "codex" / "config.toml").read_text()
    assert "http://127.0.0.1:8787" in config
    (home / "config.toml").write_text(config.replace("http://127.0.0.1:8787", gateway.url))
    program_run = run_program(gateway, "codex/run.sh", REQUEST_COUNT, tmp_path)
    assert "You said: Hello!" in program_run.output
    assert "18 degrees" in program_run.output
    assert_traced(program_run, "/v1/responses", "openai", "exec_command")
