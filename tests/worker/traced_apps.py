"""Apps that use Langfuse's SDK and call their models through the gateway.

`test_langfuse_sdk` runs each in a process of its own, since the SDK's tracing is global:
`python -m tests.worker.traced_apps NAME`. The variable `GATEWAY` is the gateway's URL; those of
Langfuse are read by the SDK. An app prints JSON.
"""

import asyncio
import json
import os
import sys
from functools import cache
from typing import Any

import anthropic
import httpx2
import openai
from langfuse import Langfuse, get_client, observe, propagate_attributes
from opentelemetry import propagate

GATEWAY = os.environ["GATEWAY"]
KEY = "sk-caller-0123456789abcdef"
MODEL, CLAUDE = "gpt-4o-mini", "claude-opus-4-6"


def messages(text: str) -> Any:
    return [{"role": "user", "content": text}]


def inject(request: httpx2.Request) -> None:
    """Add the headers that name the current span to a request."""
    propagate.inject(request.headers)


async def inject_async(request: httpx2.Request) -> None:
    propagate.inject(request.headers)


@cache
def openai_client() -> openai.OpenAI:
    http = openai.DefaultHttpxClient(event_hooks={"request": [inject]})
    return openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, http_client=http)


@cache
def anthropic_client() -> anthropic.Anthropic:
    """A client that does not create spans itself."""
    http = anthropic.DefaultHttpxClient(event_hooks={"request": [inject]})
    return anthropic.Anthropic(
        base_url=GATEWAY, api_key=KEY, http_client=http, open_telemetry=False
    )


def agent(langfuse: Langfuse) -> dict[str, Any]:
    """Four steps below one agent, each with a call. The bodies name other users than the app."""
    ids, replies = {}, {}
    app_attributes = propagate_attributes(
        user_id="ada",
        session_id="session-7",
        tags=["search", "beta"],
        trace_name="my app",
        metadata={"team": "discovery"},
    )
    with (
        langfuse.start_as_current_observation(
            name="agent", as_type="agent", input="Hello there"
        ) as root,
        app_attributes,
    ):
        with langfuse.start_as_current_observation(name="plan") as span:
            ids["plan"] = span.id
            reply = openai_client().chat.completions.create(
                model=MODEL,
                messages=messages("plan"),
                user="another",
                tools=[{"type": "function", "function": {"name": "look_up"}}],
                extra_headers={"x-portkey-provider": "scripted"},
            )
            (call,) = reply.choices[0].message.tool_calls or []
            replies["plan"] = call.to_dict()
        with langfuse.start_as_current_observation(name="look_up", as_type="tool") as span:
            ids["look_up"] = span.id
            # Without the hook of the client.
            headers: dict[str, str] = {}
            propagate.inject(headers)
            stream = openai_client().chat.completions.create(
                model=MODEL,
                messages=messages("look up"),
                metadata={"session_id": "another"},
                stream=True,
                stream_options={"include_usage": True},
                extra_headers=headers,
            )
            chunks = [c.choices[0].delta.content or "" for c in stream if c.choices]
            replies["look_up"] = "".join(chunks)
        with langfuse.start_as_current_observation(name="write") as span:
            ids["write"] = span.id
            reply = anthropic_client().messages.create(
                model=CLAUDE,
                max_tokens=50,
                messages=messages("write"),
                metadata={"user_id": "another"},
            )
            replies["write"] = reply.content[0].to_dict()["text"]
        with langfuse.start_as_current_observation(name="check") as span:
            ids["check"] = span.id
            with anthropic_client().messages.stream(
                model=CLAUDE,
                max_tokens=50,
                messages=messages("check"),
                metadata={"user_id": "another"},
            ) as stream:
                replies["check"] = "".join(stream.text_stream)
        root.update(output="Goodbye", metadata={"steps": 4})
        return {"trace": root.trace_id, "agent": root.id, "ids": ids, "replies": replies}


@observe(name="ask")
def ask() -> str | None:
    """A call that the decorator turns into a span."""
    reply = openai_client().chat.completions.create(model=MODEL, messages=messages("Hello there"))
    return reply.choices[0].message.content


def baggage(langfuse: Langfuse) -> dict[str, Any]:
    """A call with all attributes that can be propagated, also to the gateway."""
    with propagate_attributes(
        user_id="ada",
        session_id="session-7",
        tags=["search", "two words", "it's, so to say"],
        trace_name="my app",
        environment="staging",
        version="7",
        metadata={"team": "discovery & more"},
        prompt={"name": "greeting", "version": 3},
        as_baggage=True,
    ):
        return {"replies": ask()}


def at_once(langfuse: Langfuse) -> dict[str, Any]:
    """Concurrent steps, each with its own call."""

    async def step(client: openai.AsyncOpenAI, n: int) -> tuple[str, str]:
        with langfuse.start_as_current_observation(name=f"step {n}") as span:
            await client.chat.completions.create(model=MODEL, messages=messages(f"step {n}"))
            return f"step {n}", span.id

    async def steps() -> dict[str, str]:
        http = openai.DefaultAsyncHttpxClient(event_hooks={"request": [inject_async]})
        async with openai.AsyncOpenAI(
            base_url=f"{GATEWAY}/v1", api_key=KEY, http_client=http
        ) as client:
            return dict(await asyncio.gather(*(step(client, n) for n in range(8))))

    with langfuse.start_as_current_observation(name="agent") as root:
        return {"trace": root.trace_id, "ids": asyncio.run(steps())}


def drop_in(langfuse: Langfuse, **headers: str) -> dict[str, Any]:
    """The SDK's OpenAI client, which creates a generation for each call."""
    # Its import makes every OpenAI client of the process do so.
    from langfuse.openai import OpenAI  # pyright: ignore[reportPrivateImportUsage]

    http = openai.DefaultHttpxClient(event_hooks={"request": [inject]})
    client = OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, http_client=http)
    with langfuse.start_as_current_observation(name="agent") as root:
        reply = client.chat.completions.create(
            model=MODEL, messages=messages("Hello there"), extra_headers=headers
        )
        assert reply.usage
        return {"trace": root.trace_id, "agent": root.id, "total": reply.usage.total_tokens}


def drop_in_alone(langfuse: Langfuse) -> dict[str, Any]:
    """The same, with the gateway's tracing switched off."""
    return drop_in(langfuse, **{"x-portkey-trace": "off"})


def anthropic_alone(langfuse: Langfuse) -> dict[str, Any]:
    """Anthropic's client by default: it creates a span for each call, and sends its id."""
    client = anthropic.Anthropic(base_url=GATEWAY, api_key=KEY)
    with langfuse.start_as_current_observation(name="agent") as root:
        client.messages.create(model=CLAUDE, max_tokens=50, messages=messages("Hello there"))
        return {"trace": root.trace_id, "agent": root.id}


def sampled(langfuse: Langfuse) -> dict[str, Any]:
    """Many traces, which the SDK samples at the rate in its environment."""
    for _ in range(24):
        ask()
    return {}


APPS = {
    app.__name__: app
    for app in (agent, anthropic_alone, at_once, baggage, drop_in, drop_in_alone, sampled)
}

if __name__ == "__main__":
    result = APPS[sys.argv[1]](get_client())
    get_client().flush()
    print(json.dumps(result))
