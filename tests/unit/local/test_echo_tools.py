"""Tests of the echo provider's tool calls, with the official client SDKs."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from local import echo
from local.server import Server

ARGUMENTS: Any = {"city": "Paris, 7ᵉ"}
QUESTION = f"Please ask get_weather({json.dumps(ARGUMENTS)})."
USER = {"role": "user", "content": QUESTION}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "parameters": SCHEMA}
CHAT_TOOLS: Any = [{"type": "function", "function": FUNCTION}]
TOOL_RESULT = "18 °C and sunny"
ECHOED_RESULT = f"You said: {TOOL_RESULT}"


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
def test_a_chat_completion_calls_a_tool_and_echoes_its_result(openai_client: Any, streamed: bool):
    options: dict[str, Any] = {"model": "m", "tools": CHAT_TOOLS}
    if streamed:
        with openai_client.chat.completions.stream(messages=[USER], **options) as stream:
            reply = stream.get_final_completion()
    else:
        reply = openai_client.chat.completions.create(messages=[USER], **options)
    (choice,) = reply.choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", ARGUMENTS)
    result = {"role": "tool", "tool_call_id": call.id, "content": TOOL_RESULT}
    messages = [USER, choice.message.model_dump(exclude_none=True), result]
    reply = openai_client.chat.completions.create(messages=messages, **options)
    assert reply.choices[0].message.content == ECHOED_RESULT
    assert reply.usage.prompt_tokens == len(f"{QUESTION} {TOOL_RESULT}".split())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("result", [TOOL_RESULT, [{"type": "text", "text": TOOL_RESULT}]])
def test_a_message_calls_a_tool_and_echoes_its_result(
    anthropic_client: Any, streamed: bool, result: Any
):
    tools = [{"name": "get_weather", "input_schema": SCHEMA}]
    options: dict[str, Any] = {"model": "m", "max_tokens": 99, "tools": tools}
    if streamed:
        with anthropic_client.messages.stream(messages=[USER], **options) as stream:
            reply = stream.get_final_message()
    else:
        reply = anthropic_client.messages.create(messages=[USER], **options)
    (use,) = reply.content
    assert reply.stop_reason == "tool_use"
    assert (use.type, use.name, use.input) == ("tool_use", "get_weather", ARGUMENTS)
    block = {"type": "tool_result", "tool_use_id": use.id, "content": result}
    messages = [
        USER,
        {"role": "assistant", "content": reply.content},
        {"role": "user", "content": [block]},
    ]
    assert (
        anthropic_client.messages.create(messages=messages, **options).content[0].text
        == ECHOED_RESULT
    )


@pytest.mark.parametrize("streamed", [False, True])
def test_a_response_calls_a_tool_and_echoes_its_result(openai_client: Any, streamed: bool):
    options: dict[str, Any] = {"model": "m", "tools": [{"type": "function", **FUNCTION}]}
    if streamed:
        with openai_client.responses.stream(input=[USER], **options) as stream:
            events = list(stream)
            reply = stream.get_final_response()
        assert [event.sequence_number for event in events] == list(range(len(events)))
    else:
        reply = openai_client.responses.create(input=[USER], **options)
    (call,) = reply.output
    assert (call.type, call.name, json.loads(call.arguments)) == (
        "function_call",
        "get_weather",
        ARGUMENTS,
    )
    result = {"type": "function_call_output", "call_id": call.call_id, "output": TOOL_RESULT}
    items = [USER, call.model_dump(exclude_none=True), result]
    assert openai_client.responses.create(input=items, **options).output_text == ECHOED_RESULT


@pytest.mark.parametrize(
    "text",
    [
        "Please ask get_weather.",
        "Please ask get_weather({'city': 'Paris'}).",
        'Please ask get_weather({"city": "Paris"}.',
        'Please ask get_time({"city": "Paris"}).',
    ],
)
def test_a_text_without_a_valid_call_is_echoed(openai_client: Any, text: str):
    messages: Any = [{"role": "user", "content": text}]
    reply = openai_client.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS)
    assert reply.choices[0].message.content == f"You said: {text}"


def test_a_request_without_tools_is_echoed(openai_client: Any):
    reply = openai_client.chat.completions.create(model="m", messages=[USER])
    assert reply.choices[0].message.content == f"You said: {QUESTION}"
