"""OpenAI's SDK for Python, chat completions: whole, streamed, with a tool."""

import json
import os
from typing import Any

import openai

client = openai.OpenAI(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ.get("GATEWAY_KEY", "your-key"),
    default_headers={"x-portkey-user-id": "ada", "x-portkey-session-id": "session-7"},
)

reply = client.chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello!"}]
)
print("whole:", reply.choices[0].message.content)

stream = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "Hello!"}],
    stream=True,
    stream_options={"include_usage": True},  # without it the trace has no tokens
)
texts = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
print("streamed:", "".join(texts))


def get_weather(city: str) -> str:
    return f"18 degrees in {city}"


parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}]
question = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).'
messages: Any = [{"role": "user", "content": question}]
reply = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=tools)
messages.append(reply.choices[0].message)
for call in reply.choices[0].message.tool_calls or []:
    assert call.type == "function"
    print("tool:", call.function.name, call.function.arguments)
    result = get_weather(**json.loads(call.function.arguments))
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
reply = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=tools)
print("answer:", reply.choices[0].message.content)
