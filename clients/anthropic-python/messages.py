"""Anthropic's SDK for Python: whole, streamed, with a tool."""

import json
import os
from typing import Any

import anthropic

client = anthropic.Anthropic(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8787"),
    api_key=os.environ.get("GATEWAY_KEY", "your-key"),
    default_headers={"x-portkey-user-id": "ada", "x-portkey-session-id": "session-7"},
)
asked: dict[str, Any] = {"model": "claude-opus-4-6", "max_tokens": 1024}


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


hello: Any = [{"role": "user", "content": "Hello!"}]
print("whole:", text_of(client.messages.create(messages=hello, **asked)))

with client.messages.stream(messages=hello, **asked) as stream:
    print("streamed:", "".join(stream.text_stream))


def get_weather(city: str) -> str:
    return f"18 degrees in {city}"


schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
asked["tools"] = [{"name": "get_weather", "input_schema": schema}]
question = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).'
messages: Any = [{"role": "user", "content": question}]
reply = client.messages.create(messages=messages, **asked)
results = []
for block in reply.content:
    if block.type == "tool_use":
        print("tool:", block.name, json.dumps(block.input))
        result = get_weather(**block.input)
        results.append({"type": "tool_result", "tool_use_id": block.id, "content": result})
messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": results}]
print("answer:", text_of(client.messages.create(messages=messages, **asked)))
