"""LangChain with Anthropic's models: whole, streamed, with a tool."""

import json
import os

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

model = ChatAnthropic(
    model="claude-opus-4-6",
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8787"),
    api_key=os.environ.get("GATEWAY_KEY", "your-key"),
    default_headers={"x-portkey-user-id": "ada", "x-portkey-session-id": "session-7"},
)

print("whole:", model.invoke("Hello!").text)
print("streamed:", "".join(chunk.text for chunk in model.stream("Hello!")))


@tool
def get_weather(city: str) -> str:
    """The temperature in a city."""
    return f"18 degrees in {city}"


with_tools = model.bind_tools([get_weather])
question = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).'
reply = with_tools.invoke([HumanMessage(question)])
messages = [HumanMessage(question), reply]
for call in reply.tool_calls:
    print("tool:", call["name"], json.dumps(call["args"]))
    messages.append(get_weather.invoke(call))
print("answer:", with_tools.invoke(messages).text)
