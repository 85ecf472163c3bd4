"""Recorded replies of many providers, through the gateway and into the inbox."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dialects.rendering import countable_output

from .conftest import SCRIPTED, Provider, Stage

RECORDED = Path(__file__).parents[1] / "unit" / "recorded"
CASES = {
    str(file.relative_to(RECORDED).with_suffix("")): json.loads(file.read_text())
    for file in sorted(RECORDED.rglob("*.json"))
}
FORMS = [
    (name, form) for name, case in CASES.items() for form in ("whole", "stream") if form in case
]
HELLO: Any = [{"role": "user", "content": "Hello"}]
TOOLS_AT_OPENAI = [("get_weather", {"city": "Paris"}), ("get_time", {"zone": "CET"})]


def reply_of(case: dict[str, Any], form: str) -> web.Response:
    if form == "whole":
        return web.json_response(case["whole"])
    return web.Response(text="\n".join([*case["stream"], ""]), content_type="text/event-stream")


def set_recorded_reply(provider: Provider, name: str, form: str = "stream") -> None:
    async def script(_: web.Request) -> web.Response:
        return reply_of(CASES[name], form)

    provider.script = script


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_recorded_reply_is_relayed_and_traced(stage: Stage, provider: Provider, name, form):
    set_recorded_reply(provider, name, form)
    case, expected = CASES[name], CASES[name]["expected"]
    with stage.http() as client:
        response = client.post(case["path"], json={"model": "m"}, headers=SCRIPTED)
    assert response.content == reply_of(case, form).body
    observation = stage.observation()
    if not expected.get("usage"):
        expected = expected | {
            "output": countable_output(expected.get("output"), expected.get("model"))
        }
    for name in ("model", "output", "usage", "cost"):
        if expected.get(name):
            assert observation[name] == expected[name]
    assert expected.get("metadata", {}).items() <= observation["metadata"].items()
    assert expected.get("parameters", {}).items() <= observation["model_parameters"].items()
    assert (observation["level"] == "ERROR") == bool(expected.get("error"))
    assert observation["metadata"]["streamed"] == (form == "stream")
    is_embedding = case["path"] == "/v1/embeddings"
    assert observation["type"] == ("EMBEDDING" if is_embedding else "GENERATION")


def test_tool_calls_of_a_stream_of_openai(stage: Stage, provider: Provider):
    set_recorded_reply(provider, "chat/openai_tool_calls")
    client = stage.openai(default_headers=SCRIPTED)
    with client.chat.completions.stream(model="gpt-4o", messages=HELLO) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls
    called = [(call.function.name, json.loads(call.function.arguments)) for call in calls]
    assert called == TOOLS_AT_OPENAI
    recorded = stage.observation()["output"]["tool_calls"]
    assert [
        (call["function"]["name"], json.loads(call["function"]["arguments"])) for call in recorded
    ] == TOOLS_AT_OPENAI


def test_several_choices_of_a_stream(stage: Stage, provider: Provider):
    set_recorded_reply(provider, "chat/openai_choices")
    client = stage.openai(default_headers=SCRIPTED)
    texts: dict[int, str] = {}
    stream = client.chat.completions.create(model="gpt-4o", messages=HELLO, n=2, stream=True)
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    observation = stage.observation()
    assert len(texts) == 2
    assert [m["content"] for m in observation["output"]] == [texts[0], texts[1]]
    assert observation["model_parameters"]["n"] == 2


def test_thinking_and_tool_use_of_a_stream_of_anthropic(stage: Stage, provider: Provider):
    set_recorded_reply(provider, "messages/thinking_and_tools")
    client = stage.anthropic(default_headers=SCRIPTED)
    tool: Any = {
        "name": "get_weather",
        "description": "Weather of a place",
        "input_schema": {"type": "object", "properties": {"location": {"type": "string"}}},
    }
    with client.messages.stream(
        model="claude-opus-4-6",
        max_tokens=2000,
        messages=HELLO,
        tools=[tool],
        thinking={"type": "enabled", "budget_tokens": 1024},
    ) as stream:
        message = stream.get_final_message()
    used = [block for block in message.content if block.type == "tool_use"]
    observation = stage.observation()
    output = observation["output"]
    assert [call["function"]["name"] for call in output["tool_calls"]] == [u.name for u in used]
    assert [json.loads(call["function"]["arguments"]) for call in output["tool_calls"]] == [
        block.input for block in used
    ]
    assert output["thinking"][0]["content"] == "The user wants weather."
    assert observation["input"]["tools"][0]["function"]["name"] == "get_weather"
    assert observation["input"]["messages"] == HELLO
    assert observation["model_parameters"]["thinking_budget_tokens"] == 1024
    assert observation["usage"]["input"] == message.usage.input_tokens


def test_reasoning_and_tool_calls_of_a_stream_of_responses(stage: Stage, provider: Provider):
    set_recorded_reply(provider, "responses/reasoning_and_tools")
    client = stage.openai(default_headers=SCRIPTED)
    with client.responses.stream(model="gpt-5", input="Hello") as stream:
        response = stream.get_final_response()
    called = [item.name for item in response.output if item.type == "function_call"]
    output = stage.observation()["output"]
    assert [call["function"]["name"] for call in output["tool_calls"]] == called
    assert output["content"] == response.output_text
    assert output["thinking"] == [{"type": "thinking", "content": "**Thinking** about it"}]


@pytest.mark.parametrize("chunks", [5000])
def test_a_stream_of_many_chunks(stage: Stage, provider: Provider, chunks):
    words = [f"word{n} " for n in range(chunks)]

    async def script(request):
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for word in words:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            event = {"object": "chat.completion.chunk", "model": "m-1", "choices": [choice]}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    provider.script = script
    stream = stage.openai(default_headers=SCRIPTED).chat.completions.create(
        model="m", messages=HELLO, stream=True
    )
    assert [chunk.choices[0].delta.content for chunk in stream] == words
    observation = stage.observation()
    assert observation["output"]["content"] == "".join(words)
    assert (observation["level"], observation["metadata"].get("notes")) == ("DEFAULT", None)


def test_a_reply_as_large_as_the_capture_limit(stage: Stage, provider: Provider):
    words = "many words " * 380_000
    reply = {"model": "m-1", "choices": [{"index": 0, "message": {"content": words}}]}

    async def script(_: web.Request) -> web.Response:
        return web.json_response(reply)

    provider.script = script
    with stage.http() as client:
        response = client.post("/v1/chat/completions", json={"model": "m"}, headers=SCRIPTED)
    assert 4_000_000 < len(response.content) < 4 * 1024 * 1024
    assert response.json() == reply
    observation = stage.observation()
    assert observation["model"] == "m-1"
    assert observation["output"]["content"].startswith("many words many")
    assert observation["output"]["content"].endswith(f" of {len(words)} characters]")
