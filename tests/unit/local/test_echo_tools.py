"""The echo provider's tool calls, asked for by the real client SDKs."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from local import echo
from local.server import Server

PARIS: Any = {"city": "Paris, 7ᵉ"}
QUESTION = f"Please ask get_weather({json.dumps(PARIS)})."
USER = {"role": "user", "content": QUESTION}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "parameters": SCHEMA}
CHAT_TOOLS: Any = [{"type": "function", "function": FUNCTION}]
SUNNY = "18 °C and sunny"
SAID = f"You said: {SUNNY}"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Server(echo.app(delay_ms=0)) as server:
        yield server.url


@pytest.fixture(scope="module")
def openai_client(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def anthropic_client(url: str) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("streamed", [False, True])
def test_chat(openai_client: Any, streamed: bool):
    ask: dict[str, Any] = {"model": "m", "tools": CHAT_TOOLS}
    if streamed:
        with openai_client.chat.completions.stream(messages=[USER], **ask) as stream:
            reply = stream.get_final_completion()
    else:
        reply = openai_client.chat.completions.create(messages=[USER], **ask)
    (choice,) = reply.choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", PARIS)
    result = {"role": "tool", "tool_call_id": call.id, "content": SUNNY}
    messages = [USER, choice.message.model_dump(exclude_none=True), result]
    reply = openai_client.chat.completions.create(messages=messages, **ask)
    assert reply.choices[0].message.content == SAID
    assert reply.usage.prompt_tokens == len(f"{QUESTION} {SUNNY}".split())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("result", [SUNNY, [{"type": "text", "text": SUNNY}]])
def test_messages(anthropic_client: Any, streamed: bool, result: Any):
    tools = [{"name": "get_weather", "input_schema": SCHEMA}]
    ask: dict[str, Any] = {"model": "m", "max_tokens": 99, "tools": tools}
    if streamed:
        with anthropic_client.messages.stream(messages=[USER], **ask) as stream:
            reply = stream.get_final_message()
    else:
        reply = anthropic_client.messages.create(messages=[USER], **ask)
    (use,) = reply.content
    assert reply.stop_reason == "tool_use"
    assert (use.type, use.name, use.input) == ("tool_use", "get_weather", PARIS)
    block = {"type": "tool_result", "tool_use_id": use.id, "content": result}
    messages = [
        USER,
        {"role": "assistant", "content": reply.content},
        {"role": "user", "content": [block]},
    ]
    assert anthropic_client.messages.create(messages=messages, **ask).content[0].text == SAID


@pytest.mark.parametrize("streamed", [False, True])
def test_responses(openai_client: Any, streamed: bool):
    ask: dict[str, Any] = {"model": "m", "tools": [{"type": "function", **FUNCTION}]}
    if streamed:
        with openai_client.responses.stream(input=[USER], **ask) as stream:
            events = list(stream)
            reply = stream.get_final_response()
        assert [event.sequence_number for event in events] == list(range(len(events)))
    else:
        reply = openai_client.responses.create(input=[USER], **ask)
    (call,) = reply.output
    assert (call.type, call.name, json.loads(call.arguments)) == (
        "function_call",
        "get_weather",
        PARIS,
    )
    result = {"type": "function_call_output", "call_id": call.call_id, "output": SUNNY}
    items = [USER, call.model_dump(exclude_none=True), result]
    assert openai_client.responses.create(input=items, **ask).output_text == SAID


@pytest.mark.parametrize(
    "text",
    [
        "Please ask get_weather.",
        "Please ask get_weather({'city': 'Paris'}).",
        'Please ask get_weather({"city": "Paris"}.',
        'Please ask get_time({"city": "Paris"}).',
    ],
)
def test_nothing_is_called(openai_client: Any, text: str):
    messages: Any = [{"role": "user", "content": text}]
    reply = openai_client.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS)
    assert reply.choices[0].message.content == f"You said: {text}"


def test_nothing_is_called_without_tools(openai_client: Any):
    reply = openai_client.chat.completions.create(model="m", messages=[USER])
    assert reply.choices[0].message.content == f"You said: {QUESTION}"
