"""Each program of `clients/` gets the right answers, and the right traces stand in the inbox."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Gateway, Ran, run

pytestmark = pytest.mark.clients

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
# What each program calls.
PROGRAMS = {
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
EMBEDDINGS = ("openai-javascript/embeddings.mjs", "openai-python/embeddings.py")
# It asks Anthropic for a stream even where the app wants the whole.
ALWAYS_STREAMED = "pydantic-ai/anthropic_chat.py"
PROVIDERS = {
    CHAT: ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    RESPONSES: ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    MESSAGES: ("anthropic", "claude-opus-4-6", "claude-opus-4-6-20250929"),
}
HELLO, SAID = "Hello!", "You said: Hello!"
QUESTION = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).'
RESULT = "18 degrees in Paris"

Run = Callable[[str], Ran]


@pytest.fixture(scope="session")
def ran(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a program once for all of its tests."""
    known: dict[str, Ran] = {}

    def once(program: str) -> Ran:
        if program not in known:
            requests = 1 if program in EMBEDDINGS else 4
            known[program] = run(gateway, program, requests, tmp_path_factory.mktemp("home"))
        return known[program]

    return once


def line(ran: Ran, name: str) -> str:
    """What a program printed after `name:`."""
    (found,) = [text for text in ran.printed.splitlines() if text.startswith(f"{name}: ")]
    return found.removeprefix(f"{name}: ")


def assert_traced(observation: Any, endpoint: str, *, streamed: bool) -> None:
    """What holds for the trace of any of the programs' requests."""
    provider, requested, answered = PROVIDERS[endpoint]
    assert observation["type"] == "GENERATION"
    assert (observation["level"], observation["status_message"]) == ("DEFAULT", None)
    assert observation["model"] == answered
    assert (observation["user_id"], observation["session_id"]) == ("ada", "session-7")
    assert observation["usage"]["input"] > 0
    assert observation["usage"]["output"] > 0
    expected = {
        "endpoint": endpoint,
        "provider": provider,
        "requested_model": requested,
        "streamed": streamed,
        "http_status": 200,
        "ending": "complete",
        "gateway_key": "laptop",
    }
    metadata = observation["metadata"]
    assert {name: metadata.get(name) for name in expected} == expected
    assert "notes" not in metadata
    first = observation["completion_start_time"]
    assert (first is not None) == streamed
    if streamed:
        assert observation["start_time"] <= first <= observation["end_time"]


def messages_of(observation: Any) -> list[Any]:
    """The messages of an input, which stand beside the tools where there are any."""
    given = observation["input"]
    return given["messages"] if isinstance(given, dict) else given


def text_of(message: Any) -> str:
    """A message's text: a string, or the text of its parts."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@pytest.mark.parametrize("program", PROGRAMS)
def test_whole(ran: Run, program: str):
    observation = ran(program).observations[0]
    if not program.startswith("curl/"):
        assert line(ran(program), "whole") == SAID
    else:
        assert SAID in ran(program).printed.splitlines()[0]
    assert_traced(observation, PROGRAMS[program], streamed=program == ALWAYS_STREAMED)
    (message,) = messages_of(observation)
    assert (message["role"], text_of(message)) == ("user", HELLO)
    assert observation["output"] == {"role": "assistant", "content": SAID}


@pytest.mark.parametrize("program", PROGRAMS)
def test_streamed(ran: Run, program: str):
    observation = ran(program).observations[1]
    if not program.startswith("curl/"):
        assert line(ran(program), "streamed") == SAID
    else:
        assert ran(program).printed.count("data: ") > 3
    assert_traced(observation, PROGRAMS[program], streamed=True)
    (message,) = messages_of(observation)
    assert (message["role"], text_of(message)) == ("user", HELLO)
    assert observation["output"] == {"role": "assistant", "content": SAID}


@pytest.mark.parametrize("program", PROGRAMS)
def test_tool(ran: Run, program: str):
    asked, answered = ran(program).observations[2:]
    if not program.startswith("curl/"):
        assert line(ran(program), "tool").startswith("get_weather ")
        assert "Paris" in line(ran(program), "tool")
        assert line(ran(program), "answer") == f"You said: {RESULT}"
    else:
        *_, called, answer = filter(None, ran(program).printed.splitlines())
        assert "get_weather" in called
        assert f"You said: {RESULT}" in answer
    for observation in (asked, answered):
        assert_traced(observation, PROGRAMS[program], streamed=program == ALWAYS_STREAMED)
        (tool,) = observation["input"]["tools"]
        assert tool["function"]["name"] == "get_weather"
        assert tool["function"]["parameters"]["properties"]["city"]["type"] == "string"
        assert text_of(messages_of(observation)[0]) == QUESTION
    (call,) = asked["output"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    _, repeated, result = messages_of(answered)
    assert repeated["tool_calls"][0]["function"]["name"] == "get_weather"
    assert (result["role"], text_of(result)) == ("tool", RESULT)
    assert result["tool_call_id"] == repeated["tool_calls"][0]["id"]
    assert answered["output"] == {"role": "assistant", "content": f"You said: {RESULT}"}


@pytest.mark.parametrize("program", EMBEDDINGS)
def test_embeddings(ran: Run, program: str):
    assert line(ran(program), "embeddings") == "2 of 1536"
    (observation,) = ran(program).observations
    assert observation["type"] == "EMBEDDING"
    assert observation["level"] == "DEFAULT"
    assert observation["input"] == ["Hello!", "Goodbye!"]
    assert observation["output"] == {"dimensions": 1536, "count": 2}
    assert observation["usage"]["input"] == 2
    assert (observation["user_id"], observation["session_id"]) == ("ada", "session-7")
