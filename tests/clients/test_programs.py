"""Tests of each program of `clients/`: its output, and its traces in the inbox."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Gateway, ProgramRun, run_program

pytestmark = pytest.mark.clients

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
# The endpoint that each program calls.
ENDPOINT_BY_PROGRAM = {
    "anthropic-javascript/messages.mjs": MESSAGES,
    "anthropic-python/messages.py": MESSAGES,
    "curl/chat.sh": CHAT,
    "curl/messages.sh": MESSAGES,
    "langchain/anthropic_chat.py": MESSAGES,
    "langchain/openai_chat.py": CHAT,
    "litellm/anthropic_chat.py": MESSAGES,
    "litellm/openai_chat.py": CHAT,
    "llamaindex/anthropic_chat.py": MESSAGES,
    "llamaindex/openai_chat.py": CHAT,
    "openai-javascript/chat.mjs": CHAT,
    "openai-javascript/responses.mjs": RESPONSES,
    "openai-python/chat.py": CHAT,
    "openai-python/responses.py": RESPONSES,
    "pydantic-ai/anthropic_chat.py": MESSAGES,
    "pydantic-ai/openai_chat.py": CHAT,
    "pydantic-ai/openai_responses.py": RESPONSES,
    "vercel-ai-sdk/anthropic_chat.mjs": MESSAGES,
    "vercel-ai-sdk/openai_chat.mjs": CHAT,
    "vercel-ai-sdk/openai_responses.mjs": RESPONSES,
}
EMBEDDING_PROGRAMS = ("openai-javascript/embeddings.mjs", "openai-python/embeddings.py")
# It requests a stream from Anthropic even where the app requests a whole reply.
ALWAYS_STREAMED = "pydantic-ai/anthropic_chat.py"
PROVIDER_AND_MODELS = {
    CHAT: ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    RESPONSES: ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    MESSAGES: ("anthropic", "claude-opus-4-6", "claude-opus-4-6-20250929"),
}
HELLO, ECHO = "Hello!", "You said: Hello!"
QUESTION = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).'
RESULT = "18 degrees in Paris"

ProgramRunner = Callable[[str], ProgramRun]


@pytest.fixture(scope="session")
def run_once(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> ProgramRunner:
    """A function that runs a program once for all of its tests."""
    program_runs: dict[str, ProgramRun] = {}

    def run(program: str) -> ProgramRun:
        if program not in program_runs:
            request_count = 1 if program in EMBEDDING_PROGRAMS else 4
            program_runs[program] = run_program(
                gateway, program, request_count, tmp_path_factory.mktemp("home")
            )
        return program_runs[program]

    return run


def printed_line(program_run: ProgramRun, name: str) -> str:
    """The rest of the line that a program printed with the prefix `name:`."""
    (line,) = [text for text in program_run.output.splitlines() if text.startswith(f"{name}: ")]
    return line.removeprefix(f"{name}: ")


def assert_traced(observation: Any, endpoint: str, *, streamed: bool) -> None:
    """Check the fields that the observation of each request must have."""
    provider, requested_model, reply_model = PROVIDER_AND_MODELS[endpoint]
    assert observation["type"] == "GENERATION"
    assert (observation["level"], observation["status_message"]) == ("DEFAULT", None)
    assert observation["model"] == reply_model
    assert (observation["user_id"], observation["session_id"]) == ("ada", "session-7")
    assert observation["usage"]["input"] > 0
    assert observation["usage"]["output"] > 0
    expected = {
        "endpoint": endpoint,
        "provider": provider,
        "requested_model": requested_model,
        "streamed": streamed,
        "http_status": 200,
        "ending": "complete",
        "gateway_key": "laptop",
    }
    metadata = observation["metadata"]
    assert {name: metadata.get(name) for name in expected} == expected
    assert "notes" not in metadata
    first_token_at = observation["completion_start_time"]
    assert (first_token_at is not None) == streamed
    if streamed:
        assert observation["start_time"] <= first_token_at <= observation["end_time"]


def messages_of(observation: Any) -> list[Any]:
    """The messages of an input, which is an object where the request has tools."""
    prompt = observation["input"]
    return prompt["messages"] if isinstance(prompt, dict) else prompt


def text_of(message: Any) -> str:
    """The text of a message, whose content is a string or a list of parts."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@pytest.mark.parametrize("program", ENDPOINT_BY_PROGRAM)
def test_a_whole_reply_is_printed_and_traced(run_once: ProgramRunner, program: str):
    observation = run_once(program).observations[0]
    if not program.startswith("curl/"):
        assert printed_line(run_once(program), "whole") == ECHO
    else:
        assert ECHO in run_once(program).output.splitlines()[0]
    assert_traced(observation, ENDPOINT_BY_PROGRAM[program], streamed=program == ALWAYS_STREAMED)
    (message,) = messages_of(observation)
    assert (message["role"], text_of(message)) == ("user", HELLO)
    assert observation["output"] == {"role": "assistant", "content": ECHO}


@pytest.mark.parametrize("program", ENDPOINT_BY_PROGRAM)
def test_a_streamed_reply_is_printed_and_traced(run_once: ProgramRunner, program: str):
    observation = run_once(program).observations[1]
    if not program.startswith("curl/"):
        assert printed_line(run_once(program), "streamed") == ECHO
    else:
        assert run_once(program).output.count("data: ") > 3
    assert_traced(observation, ENDPOINT_BY_PROGRAM[program], streamed=True)
    (message,) = messages_of(observation)
    assert (message["role"], text_of(message)) == ("user", HELLO)
    assert observation["output"] == {"role": "assistant", "content": ECHO}


@pytest.mark.parametrize("program", ENDPOINT_BY_PROGRAM)
def test_a_tool_call_and_its_result_are_printed_and_traced(run_once: ProgramRunner, program: str):
    first, second = run_once(program).observations[2:]
    if not program.startswith("curl/"):
        assert printed_line(run_once(program), "tool").startswith("get_weather ")
        assert "Paris" in printed_line(run_once(program), "tool")
        assert printed_line(run_once(program), "answer") == f"You said: {RESULT}"
    else:
        *_, call_line, reply_line = filter(None, run_once(program).output.splitlines())
        assert "get_weather" in call_line
        assert f"You said: {RESULT}" in reply_line
    for observation in (first, second):
        assert_traced(
            observation, ENDPOINT_BY_PROGRAM[program], streamed=program == ALWAYS_STREAMED
        )
        (tool,) = observation["input"]["tools"]
        assert tool["function"]["name"] == "get_weather"
        assert tool["function"]["parameters"]["properties"]["city"]["type"] == "string"
        assert text_of(messages_of(observation)[0]) == QUESTION
    (call,) = first["output"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    _, call_message, result = messages_of(second)
    assert call_message["tool_calls"][0]["function"]["name"] == "get_weather"
    assert (result["role"], text_of(result)) == ("tool", RESULT)
    assert result["tool_call_id"] == call_message["tool_calls"][0]["id"]
    assert second["output"] == {"role": "assistant", "content": f"You said: {RESULT}"}


@pytest.mark.parametrize("program", EMBEDDING_PROGRAMS)
def test_embeddings_are_printed_and_traced(run_once: ProgramRunner, program: str):
    assert printed_line(run_once(program), "embeddings") == "2 of 1536"
    (observation,) = run_once(program).observations
    assert observation["type"] == "EMBEDDING"
    assert observation["level"] == "DEFAULT"
    assert observation["input"] == ["Hello!", "Goodbye!"]
    assert observation["output"] == {"dimensions": 1536, "count": 2}
    assert observation["usage"]["input"] == 2
    assert (observation["user_id"], observation["session_id"]) == ("ada", "session-7")
