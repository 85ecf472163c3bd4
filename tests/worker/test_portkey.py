"""Portkey's own client through the gateway, used as with Portkey's gateway."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from portkey_ai import AsyncPortkey, Portkey
from portkey_ai._vendor import openai as vendored
from portkey_ai.api_resources import exceptions

from .conftest import CHAT, Provider, Stage, record
from .deployment import ALICE, PROVIDER_KEY, STORED, fallback
from .targets import (
    assert_no_key_is_recorded,
    called,
    fails,
    hangs,
    key_of,
    replies,
    set_replies,
    span_and_attempts,
)
from .test_clients import MESSAGES, REPLY, assert_generation

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def _no_key_from_the_environment(monkeypatch):
    monkeypatch.delenv("PORTKEY_API_KEY", raising=False)


@pytest.fixture(autouse=True)
def _replies(provider: Provider):
    async def script(request):
        await record(provider, request)
        status = int(request.headers.get("x-status", 200))
        return web.json_response({"error": {"message": "a failure"}}, status=status)

    provider.script = script


def portkey(stage: Stage, client: Any = Portkey, **options: Any) -> Any:
    """A client with a gateway key, and its caller's own key for the provider."""
    options = {"api_key": ALICE, "Authorization": PROVIDER_KEY, "provider": "openai", **options}
    return client(base_url=f"{stage.url}/v1", **options)


def test_chat_whole(with_keys: Stage):
    reply = portkey(with_keys).chat.completions.create(**CHAT, temperature=0.5)
    assert reply.choices[0].message.content == REPLY
    observation = with_keys.observation()
    assert_generation(observation, streamed=False, endpoint="/v1/chat/completions")
    assert observation["input"] == CHAT["messages"]
    assert observation["output"] == {"role": "assistant", "content": REPLY}
    assert observation["model_parameters"]["temperature"] == 0.5
    assert reply.get_headers() == {"trace-id": observation["trace_id"], "provider": "openai"}
    recorded = str(with_keys.inbox.requests)
    assert ALICE not in recorded
    assert PROVIDER_KEY not in recorded


def test_chat_streamed(with_keys: Stage):
    stream = portkey(with_keys).chat.completions.create(**CHAT, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == REPLY
    observation = with_keys.observation()
    assert observation["metadata"]["streamed"] is True
    assert observation["completion_start_time"] is not None
    assert observation["output"] == REPLY  # without usage, the text alone
    assert stream.response.headers["x-portkey-trace-id"] == observation["trace_id"]


def test_chat_of_the_async_client(with_keys: Stage):
    async def ask() -> Any:
        client = portkey(with_keys, AsyncPortkey)
        whole = await client.chat.completions.create(**CHAT)
        stream = await client.chat.completions.create(**CHAT, stream=True)
        chunks = [c async for c in stream]
        await client.openai_client.close()
        return whole.choices[0].message.content, chunks

    text, chunks = asyncio.run(ask())
    assert text == REPLY
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == REPLY
    first, second = with_keys.observations(2)
    assert (first["output"]["content"], second["output"]) == (REPLY, REPLY)


def test_embeddings(with_keys: Stage):
    reply = portkey(with_keys).embeddings.create(
        model="text-embedding-3-small", input=["one", "two"], encoding_format="float"
    )
    assert len(reply.data) == 2
    observation = with_keys.observation()
    assert observation["input"] == ["one", "two"]
    assert observation["output"] == {"dimensions": len(reply.data[0].embedding), "count": 2}


def test_completions_and_responses(with_keys: Stage):
    client = portkey(with_keys)
    text = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Hello there")
    assert "Hello there" in text.choices[0].text
    assert client.responses.create(model="gpt-4o-mini", input="Hello there").output_text == REPLY
    endpoints = {o["metadata"]["endpoint"] for o in with_keys.observations(2)}
    assert endpoints == {"/v1/completions", "/v1/responses"}


def test_messages_by_post(with_keys: Stage):
    reply = portkey(with_keys, provider="anthropic").post("/messages", **MESSAGES)
    assert reply.content[0]["text"] == REPLY
    observation = with_keys.observation()
    assert_generation(observation, streamed=False, endpoint="/v1/messages", provider="anthropic")
    assert reply.get_headers()["trace-id"] == observation["trace_id"]


def test_the_clients_trace_options_reach_the_trace(with_keys: Stage):
    client = portkey(
        with_keys,
        trace_id="checkout 42",
        span_name="summarize",
        metadata={"_user": "ada", "_session": "s1", "_tags": ["a", "b"], "team": "søk"},
    )
    client.chat.completions.create(**CHAT, user="body")
    client.with_options(metadata={"_user": "ada", "team": "søk"}).chat.completions.create(**CHAT)
    observations = with_keys.observations(2)
    assert len({o["trace_id"] for o in observations}) == 1
    trace = with_keys.trace_of(observations[0])
    assert (trace["user_id"], trace["session_id"]) == ("ada", "s1")
    assert sorted(trace["tags"]) == ["a", "b"]
    for observation in observations:
        assert observation["name"] == "summarize"
        assert observation["metadata"]["team"] == "søk"
        assert observation["metadata"]["x-portkey-trace-id"] == "checkout 42"


def test_options_of_one_call(with_keys: Stage):
    client = portkey(with_keys, metadata={"_user": "ada", "team": "search"})
    client.chat.completions.create(**CHAT)
    client.with_options(metadata={"_user": "grace"}).chat.completions.create(**CHAT)
    client.with_options(user_id="mary").chat.completions.create(**CHAT)
    teams = {o["user_id"]: o["metadata"].get("team") for o in with_keys.observations(3)}
    assert teams == {"ada": "search", "grace": None, "mary": "search"}


@pytest.mark.parametrize(
    ("provider_slug", "model"),
    [("scripted", "m"), ("scripted", "@openai/m"), (None, "@scripted/m")],
)
def test_which_provider_is_called(with_keys: Stage, provider: Provider, provider_slug, model):
    client = portkey(with_keys, provider=provider_slug, metadata={"_user": "ada"})
    reply = client.chat.completions.create(**{**CHAT, "model": model})
    (request,) = provider.received
    assert request.target == "/base/chat/completions"
    sent = {name.lower(): value for name, value in request.headers}
    assert sent["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert not [name for name in sent if name.startswith("x-portkey")]
    assert ALICE not in str(request)
    assert json.loads(request.body) == {**CHAT, "model": model.removeprefix("@scripted/")}
    assert reply.get_headers()["provider"] == "scripted"
    assert with_keys.observation()["metadata"]["provider"] == "scripted"


def test_an_untraced_path(with_keys: Stage, provider: Provider):
    reply = portkey(with_keys, provider="scripted").models.list()
    (request,) = provider.received
    assert (request.method, request.target) == ("GET", "/base/models")
    assert reply.get_headers() == {"provider": "scripted"}


@pytest.mark.parametrize(
    ("key", "message"), [("gw_unknown", "not valid"), (None, "asks for a gateway key")]
)
def test_without_a_valid_gateway_key_a_call_is_refused(
    with_keys: Stage, provider: Provider, key, message
):
    client = portkey(with_keys, api_key=key, provider="scripted")
    for streamed in (False, True):
        with pytest.raises(vendored.AuthenticationError, match=message) as caught:
            client.chat.completions.create(**CHAT, stream=streamed)
        assert caught.value.status_code == 401
    with pytest.raises(vendored.AuthenticationError, match=message):
        client.models.list()
    with pytest.raises(exceptions.AuthenticationError, match=message):
        client.post("/messages", **MESSAGES)
    assert provider.received == []
    portkey(with_keys).chat.completions.create(**CHAT)
    assert with_keys.observation()["metadata"]["provider"] == "openai"


@pytest.mark.parametrize(
    ("status", "error"), [(429, vendored.RateLimitError), (500, vendored.InternalServerError)]
)
def test_a_providers_error_is_not_tried_again(with_keys: Stage, provider: Provider, status, error):
    headers = {"x-status": str(status)}
    client = portkey(with_keys, provider="scripted")
    with pytest.raises(error, match="a failure") as caught:
        client.chat.completions.create(**CHAT, extra_headers=headers)
    observation = with_keys.observation()
    assert observation["level"] == "ERROR"
    assert caught.value.response.headers["x-portkey-trace-id"] == observation["trace_id"]
    # The client retries a 5xx, unless the response has Portkey's trace id.
    assert len(provider.received) == 1


# Configs.


OWN = [f"sk-own-of-an-app-{n}{n}{n}{n}" for n in range(2)]
TWO = {
    **fallback({"provider": "first", "api_key": OWN[0]}, {"provider": "second", "api_key": OWN[1]}),
    "retry": {"attempts": 1},
}


def an_app(base_url: str, **options: Any) -> tuple[str, dict[str, str]]:
    """A call of an app that is written for Portkey."""
    client = Portkey(base_url=f"{base_url}/v1", metadata={"_user": "ada", "team": "søk"}, **options)
    reply: Any = client.chat.completions.create(**CHAT)
    return reply.choices[0].message.content, reply.get_headers()


@pytest.mark.parametrize("config", ["one-after-the-other", fallback("first", "second")])
def test_an_app_with_a_gateway_key(with_configs: Stage, provider: Provider, config):
    set_replies(provider, first=fails(500), second=replies("here"))
    text, headers = an_app(with_configs.url, api_key=ALICE, config=config)
    assert text == "here"
    # The placeholder that Portkey's client sends without a key is not sent on.
    assert [key_of(request) for request in provider.received] == [
        f"Bearer {STORED['first']}",
        f"Bearer {STORED['second']}",
    ]
    span, calls = span_and_attempts(with_configs, 2)
    assert headers == {
        "trace-id": span["trace_id"],
        "provider": "second",
        "last-used-option-index": "config.targets[1]",
        "retry-attempt-count": "0",
    }
    assert span["user_id"] == "ada"
    assert span["metadata"]["config"] == (config if isinstance(config, str) else "inline")
    assert {o["metadata"]["team"] for o in (span, *calls)} == {"søk"}
    assert_no_key_is_recorded(with_configs)


@pytest.mark.parametrize("api_key", [None, ALICE])
def test_an_app_with_keys_of_its_own(with_configs: Stage, provider: Provider, api_key):
    set_replies(provider, first=fails(429, retry_after="0"), second=[fails(500), replies("here")])
    text, headers = an_app(with_configs.url, api_key=api_key, config=TWO)
    assert (text, headers["retry-attempt-count"]) == ("here", "1")
    assert called(provider) == ["first", "first", "second", "second"]
    assert [key_of(request) for request in provider.received] == [
        f"Bearer {key}" for key in (OWN[0], OWN[0], OWN[1], OWN[1])
    ]
    span, _ = span_and_attempts(with_configs, 4)
    assert span["metadata"].get("gateway_key") == (api_key and "alice")
    assert_no_key_is_recorded(with_configs, *OWN)


def test_a_stream_by_a_config(with_configs: Stage, provider: Provider):
    set_replies(provider, first=fails(500))
    client = portkey(
        with_configs,
        api_key=ALICE,
        Authorization=None,
        provider=None,
        config=fallback("first", "openai"),
    )
    stream = client.chat.completions.create(**CHAT, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == REPLY
    headers = stream.response.headers
    assert headers["x-portkey-last-used-option-index"] == "config.targets[1]"
    span, _ = span_and_attempts(with_configs, 2)
    assert span["output"] == REPLY


def test_the_client_does_not_retry_after_the_gateways_retries(
    with_configs: Stage, provider: Provider
):
    set_replies(provider, first=fails(500, retry_after="0"))
    client = portkey(
        with_configs,
        api_key=ALICE,
        Authorization=None,
        provider=None,
        config={"provider": "first", "retry": {"attempts": 1}},
    )
    with pytest.raises(vendored.InternalServerError, match="a failure") as caught:
        client.chat.completions.create(**CHAT)
    assert caught.value.response.headers["x-portkey-retry-attempt-count"] == "-1"
    assert len(provider.received) == 2
    span_and_attempts(with_configs, 2)


def test_the_clients_request_timeout(with_configs: Stage, provider: Provider):
    set_replies(provider, first=hangs(provider))
    options = {"api_key": ALICE, "Authorization": None, "request_timeout": 100}
    client = portkey(with_configs, provider="first", **options)
    with pytest.raises(vendored.InternalServerError, match=r"did not answer in 0\.1 s") as caught:
        client.chat.completions.create(**CHAT)
    assert caught.value.status_code == 504
    provider.wait("aborted")
    assert len(provider.received) == 1


def test_the_clients_cache_config(with_configs: Stage, provider: Provider):
    set_replies(provider, first=[replies("one"), replies("two"), replies("three")])
    prompt = f"to be cached by the client, {uuid4()}"
    config = {"provider": "first", "cache": {"mode": "simple", "max_age": 600}}
    options = {"api_key": ALICE, "Authorization": None, "provider": None, "config": config}

    def answer(**more: Any) -> tuple[str, str]:
        reply = portkey(with_configs, **options, **more).chat.completions.create(
            model="m", messages=[{"role": "user", "content": prompt}]
        )
        return reply.choices[0].message.content, reply.get_headers()["cache-status"]

    assert answer() == ("one", "MISS")
    span_and_attempts(with_configs, 1)  # the reply is cached before it is traced
    assert answer() == ("one", "HIT")
    assert answer(cache_force_refresh=False) == ("one", "HIT")
    assert answer(cache_force_refresh=True) == ("two", "REFRESH")


def test_an_unknown_config_is_refused(with_configs: Stage, provider: Provider):
    client = portkey(with_configs, api_key=ALICE, provider=None, config="pc-somewhere-else")
    with pytest.raises(vendored.BadRequestError, match="has no config 'pc-somewhere-else'"):
        client.chat.completions.create(**CHAT)
    assert provider.received == []
