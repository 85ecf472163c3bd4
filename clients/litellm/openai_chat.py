"""LiteLLM with OpenAI's models: whole, streamed, with a tool."""

import json
import os
from typing import Any

import litellm

asked: dict[str, Any] = {
    "model": "openai/gpt-4o-mini",
    "api_base": os.environ.get("GATEWAY_URL", "http://127.0.0.1:8787") + "/v1",
    "api_key": os.environ.get("GATEWAY_KEY", "your-key"),
    "extra_headers": {"x-portkey-user-id": "ada", "x-portkey-session-id": "session-7"},
}

hello = [{"role": "user", "content": "Hello!"}]
reply: Any = litellm.completion(messages=hello, **asked)
print("whole:", reply.choices[0].message.content)

stream: Any = litellm.completion(
    messages=hello, stream=True, stream_options={"include_usage": True}, **asked
)
print("streamed:", "".join(chunk.choices[0].delta.content or "" for chunk in stream))


def get_weather(city: str) -> str:
    return f"18 degrees in {city}"


parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools = [{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}]
question = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).'
messages: list[Any] = [{"role": "user", "content": question}]
reply = litellm.completion(messages=messages, tools=tools, **asked)
messages.append(reply.choices[0].message)
for call in reply.choices[0].message.tool_calls:
    print("tool:", call.function.name, call.function.arguments)
    result = get_weather(**json.loads(call.function.arguments))
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
reply = litellm.completion(messages=messages, tools=tools, **asked)
print("answer:", reply.choices[0].message.content)
