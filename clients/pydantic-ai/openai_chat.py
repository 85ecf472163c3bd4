"""Pydantic AI with OpenAI's models: whole, streamed, with a tool."""

import asyncio
import os

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

client = AsyncOpenAI(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ.get("GATEWAY_KEY", "your-key"),
    default_headers={"x-portkey-user-id": "ada", "x-portkey-session-id": "session-7"},
)
model = OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client))
agent = Agent(model)
weather_agent = Agent(model)


@weather_agent.tool_plain
def get_weather(city: str) -> str:
    """The temperature in a city."""
    print("tool: get_weather", city)
    return f"18 degrees in {city}"


async def main() -> None:
    print("whole:", (await agent.run("Hello!")).output)

    async with agent.run_stream("Hello!") as stream:
        print("streamed:", "".join([text async for text in stream.stream_text(delta=True)]))

    question = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).'
    print("answer:", (await weather_agent.run(question)).output)


asyncio.run(main())
