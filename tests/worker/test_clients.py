"""The official SDKs through the gateway: what they return, and what is traced."""

import asyncio

import anthropic
import openai
import pytest

from .conftest import CHAT, Stage

MESSAGES = {
    "model": "claude-opus-4-6",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Hello there"}],
}
REPLY = "You said: Hello there"


def assert_generation(observation, *, streamed, endpoint, provider="openai"):
    assert observation["level"] == "DEFAULT"
    assert observation["status_message"] is None
    assert observation["usage"]["total"] > 0
    assert (
        observation["metadata"].items()
        >= {
            "streamed": streamed,
            "endpoint": endpoint,
            "provider": provider,
            "http_status": 200,
            "ending": "complete",
        }.items()
    )
    assert observation["metadata"]["latency_ms"] >= 0
    assert (observation["completion_start_time"] is not None) == streamed
    assert observation["start_time"] <= observation["end_time"]
    if streamed:
        started, first = observation["start_time"], observation["completion_start_time"]
        assert started <= first <= observation["end_time"]


def test_chat_whole(stage: Stage):
    reply = stage.openai().chat.completions.create(**CHAT, temperature=0.5, user="body-user")
    assert reply.choices[0].message.content == REPLY
    observation = stage.observation()
    assert_generation(observation, streamed=False, endpoint="/v1/chat/completions")
    assert observation["type"] == "GENERATION"
    assert observation["model"] == reply.model
    assert observation["metadata"]["requested_model"] == "gpt-4o-mini"
    assert observation["input"] == CHAT["messages"]
    assert observation["output"] == {"role": "assistant", "content": REPLY}
    assert observation["model_parameters"]["temperature"] == 0.5
    assert reply.usage
    assert observation["usage"] == {
        "input": reply.usage.prompt_tokens,
        "output": reply.usage.completion_tokens,
        "total": reply.usage.total_tokens,
    }
    assert observation["user_id"] == "body-user"


def test_chat_streamed(stage: Stage):
    stream = stage.openai().chat.completions.create(
        **CHAT, stream=True, stream_options={"include_usage": True}
    )
    text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    assert text == REPLY
    observation = stage.observation()
    assert_generation(observation, streamed=True, endpoint="/v1/chat/completions")
    assert observation["output"] == {"role": "assistant", "content": REPLY}


def test_a_request_is_one_trace_with_its_context(stage: Stage):
    headers = {
        "x-portkey-user-id": "ada",
        "x-portkey-session-id": "session-7",
        "x-request-id": "request-42",
        "x-portkey-metadata": '{"team": "search"}',
        "x-portkey-virtual-key": "a-secret-virtual-key",
        "x-other-header": "never recorded",
    }
    response = stage.openai().chat.completions.with_raw_response.create(
        **CHAT, extra_headers=headers
    )
    observation = stage.observation()
    (trace,) = (t for t in stage.inbox.traces() if t["id"] == observation["trace_id"])
    assert response.headers["x-portkey-trace-id"] == trace["id"]
    assert response.headers["x-portkey-provider"] == "openai"
    assert (trace["user_id"], trace["session_id"]) == ("ada", "session-7")
    assert trace["input"] == CHAT["messages"]
    assert trace["output"] == observation["output"]
    assert observation["metadata"]["request_id"] == "request-42"
    assert observation["metadata"]["request_headers"] == {
        "x-portkey-user-id": "ada",
        "x-portkey-session-id": "session-7",
        "x-portkey-metadata": '{"team": "search"}',
        "x-portkey-virtual-key": "[redacted]",
    }


@pytest.mark.parametrize("streamed", [False, True])
def test_completions(stage: Stage, streamed):
    reply = stage.openai().completions.create(
        model="gpt-3.5-turbo-instruct", prompt="Hello there", stream=streamed
    )
    text = "".join(c.choices[0].text for c in reply) if streamed else reply.choices[0].text
    assert "Hello there" in text
    observation = stage.observation()
    assert observation["metadata"]["request_type"] == "completion"
    assert observation["metadata"]["streamed"] is streamed
    assert observation["input"] == "Hello there"
    assert text in str(observation["output"])


@pytest.mark.parametrize("streamed", [False, True])
def test_responses(stage: Stage, streamed):
    reply = stage.openai().responses.create(
        model="gpt-4o-mini", input="Hello there", stream=streamed
    )
    if streamed:
        text = "".join(e.delta for e in reply if e.type == "response.output_text.delta")
    else:
        text = reply.output_text
    assert text == REPLY
    observation = stage.observation()
    assert_generation(observation, streamed=streamed, endpoint="/v1/responses")
    assert REPLY in str(observation["output"])


def test_embeddings(stage: Stage):
    reply = stage.openai().embeddings.create(
        model="text-embedding-3-small", input=["one", "two"], encoding_format="float"
    )
    assert len(reply.data) == 2
    observation = stage.observation()
    assert observation["input"] == ["one", "two"]
    assert observation["output"] == {"dimensions": len(reply.data[0].embedding), "count": 2}
    assert observation["metadata"]["request_type"] == "embedding"


def test_embeddings_are_generations_in_langfuse_2(stage: Stage, monkeypatch):
    monkeypatch.setattr(stage.inbox, "version", "2.95.0")
    stage.openai().embeddings.create(model="text-embedding-3-small", input="one")
    observation = stage.observation()
    assert observation["type"] == "GENERATION"
    assert observation["input"] == "one"


def test_messages_whole(stage: Stage):
    reply = stage.anthropic().messages.create(**MESSAGES, system="Be brief.")
    assert reply.content[0].text == REPLY
    observation = stage.observation()
    assert_generation(observation, streamed=False, endpoint="/v1/messages", provider="anthropic")
    assert observation["input"][0] == {"role": "system", "content": "Be brief."}
    assert observation["output"]["content"] == REPLY
    assert observation["model_parameters"]["max_tokens"] == 50
    assert observation["usage"]["input"] == reply.usage.input_tokens
    assert observation["usage"]["output"] == reply.usage.output_tokens


def test_messages_streamed(stage: Stage):
    with stage.anthropic().messages.stream(**MESSAGES) as stream:
        assert "".join(stream.text_stream) == REPLY
    observation = stage.observation()
    assert_generation(observation, streamed=True, endpoint="/v1/messages", provider="anthropic")
    assert observation["output"]["content"] == REPLY


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_a_providers_error_reaches_the_client_and_the_trace(stage: Stage, status):
    headers = {"x-echo-status": str(status)}
    with pytest.raises(openai.APIStatusError) as caught:
        stage.openai().chat.completions.create(**CHAT, extra_headers=headers)
    assert caught.value.status_code == status
    observation = stage.observation()
    assert observation["level"] == "ERROR"
    assert observation["status_message"].startswith(f"HTTP {status}: ")
    assert observation["metadata"]["http_status"] == status
    assert observation["input"] == CHAT["messages"]
    assert caught.value.response.json()["error"]["message"] in observation["status_message"]


def test_an_anthropic_error_keeps_its_shape(stage: Stage):
    with pytest.raises(anthropic.RateLimitError) as caught:
        stage.anthropic().messages.create(**MESSAGES, extra_headers={"x-echo-status": "429"})
    assert caught.value.response.json()["error"]["type"] == "rate_limit_error"
    assert "rate_limit_error" in stage.observation()["status_message"]


def test_concurrent_requests_are_not_mixed_up(stage: Stage):
    async def call(client, n):
        reply = await client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": f"question {n}"}],
            extra_headers={"x-portkey-user-id": f"user-{n}"},
        )
        return reply.choices[0].message.content

    async def call_all():
        async with openai.AsyncOpenAI(base_url=f"{stage.url}/v1", api_key="sk-test-12345") as c:
            return await asyncio.gather(*(call(c, n) for n in range(40)))

    assert asyncio.run(call_all()) == [f"You said: question {n}" for n in range(40)]
    observations = stage.observations(40)
    assert len({o["trace_id"] for o in observations}) == 40
    for observation in observations:
        n = observation["user_id"].removeprefix("user-")
        assert observation["input"][0]["content"] == f"question {n}"
        assert observation["output"]["content"] == f"You said: question {n}"
