"""LlamaIndex with Anthropic's models: whole, streamed, with a tool."""

import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.anthropic import Anthropic

llm = Anthropic(
    model="claude-opus-4-6",
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8787"),
    api_key=os.environ.get("GATEWAY_KEY", "your-key"),
    default_headers={"x-portkey-user-id": "ada", "x-portkey-session-id": "session-7"},
)

hello = [ChatMessage("Hello!")]
print("whole:", llm.chat(hello).message.content)

chunks = llm.stream_chat(hello)
print("streamed:", "".join(chunk.delta or "" for chunk in chunks))


def get_weather(city: str) -> str:
    """The temperature in a city."""
    return f"18 degrees in {city}"


tools = [FunctionTool.from_defaults(get_weather)]
question = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).'
messages = [ChatMessage(question)]
reply = llm.chat_with_tools(tools, chat_history=messages)
messages.append(reply.message)
for call in llm.get_tool_calls_from_response(reply):
    print("tool:", call.tool_name, json.dumps(call.tool_kwargs))
    result = get_weather(**call.tool_kwargs)
    about = {"tool_call_id": call.tool_id}
    messages.append(ChatMessage(result, role="tool", additional_kwargs=about))
print("answer:", llm.chat_with_tools(tools, chat_history=messages).message.content)
