"""OpenAI's SDK for Python, Responses API: whole, streamed, with a tool."""

import json
import os
from typing import Any

import openai

client = openai.OpenAI(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ.get("GATEWAY_KEY", "your-key"),
    default_headers={"x-portkey-user-id": "ada", "x-portkey-session-id": "session-7"},
)

print("whole:", client.responses.create(model="gpt-4o-mini", input="Hello!").output_text)

stream = client.responses.create(model="gpt-4o-mini", input="Hello!", stream=True)
texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
print("streamed:", "".join(texts))


def get_weather(city: str) -> str:
    return f"18 degrees in {city}"


parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools: Any = [{"type": "function", "name": "get_weather", "parameters": parameters}]
question = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).'
items: Any = [{"role": "user", "content": question}]
reply = client.responses.create(model="gpt-4o-mini", input=items, tools=tools)
items += reply.output
for item in reply.output:
    if item.type == "function_call":
        print("tool:", item.name, item.arguments)
        result = get_weather(**json.loads(item.arguments))
        items.append({"type": "function_call_output", "call_id": item.call_id, "output": result})
reply = client.responses.create(model="gpt-4o-mini", input=items, tools=tools)
print("answer:", reply.output_text)
