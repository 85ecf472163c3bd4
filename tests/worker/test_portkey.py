"""Portkey's own client through the gateway, as it would speak to Portkey's."""

import asyncio
import hashlib
import json
from typing import Any

import pytest
from aiohttp import web
from portkey_ai import AsyncPortkey, Portkey
from portkey_ai._vendor import openai as vendored
from portkey_ai.api_resources import exceptions

from .conftest import CHAT, PROVIDER_KEY, Provider, Stage, keep
from .targets import (
    ALICE,
    STORED,
    asked,
    assert_no_key_is_recorded,
    fails,
    fallback,
    hangs,
    key_of,
    play,
    says,
    tree,
    variables,
)
from .test_clients import MESSAGES, SAID, assert_generation

pytestmark = pytest.mark.long

KEY = "gw_of-a-portkey-client-0123456789"
KEYS = json.dumps({"ada": hashlib.sha256(KEY.encode()).hexdigest()})


@pytest.fixture
def locked(stage_with) -> Stage:
    return stage_with(GATEWAY_API_KEYS=KEYS)


@pytest.fixture(autouse=True)
def _no_key_from_the_environment(monkeypatch):
    monkeypatch.delenv("PORTKEY_API_KEY", raising=False)


@pytest.fixture(autouse=True)
def _kept(provider: Provider):
    async def script(request):
        await keep(provider, request)
        status = int(request.headers.get("x-status", 200))
        return web.json_response({"error": {"message": "so it goes"}}, status=status)

    provider.script = script


def portkey(stage: Stage, client: Any = Portkey, **options: Any) -> Any:
    """A client with a gateway key, and its caller's own key for the provider."""
    options = {"api_key": KEY, "Authorization": PROVIDER_KEY, "provider": "openai", **options}
    return client(base_url=f"{stage.url}/v1", **options)


def test_chat_whole(locked: Stage):
    reply = portkey(locked).chat.completions.create(**CHAT, temperature=0.5)
    assert reply.choices[0].message.content == SAID
    observation = locked.observation()
    assert_generation(observation, streamed=False, endpoint="/v1/chat/completions")
    assert observation["input"] == CHAT["messages"]
    assert observation["output"] == {"role": "assistant", "content": SAID}
    assert observation["model_parameters"]["temperature"] == 0.5
    assert reply.get_headers() == {"trace-id": observation["trace_id"], "provider": "openai"}
    recorded = str(locked.inbox.requests)
    assert KEY not in recorded
    assert PROVIDER_KEY not in recorded


def test_chat_streamed(locked: Stage):
    stream = portkey(locked).chat.completions.create(**CHAT, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == SAID
    observation = locked.observation()
    assert observation["metadata"]["streamed"] is True
    assert observation["completion_start_time"] is not None
    assert observation["output"] == {"role": "assistant", "content": SAID}
    assert stream.response.headers["x-portkey-trace-id"] == observation["trace_id"]


def test_chat_of_the_async_client(locked: Stage):
    async def ask() -> Any:
        client = portkey(locked, AsyncPortkey)
        whole = await client.chat.completions.create(**CHAT)
        stream = await client.chat.completions.create(**CHAT, stream=True)
        chunks = [c async for c in stream]
        await client.openai_client.close()
        return whole.choices[0].message.content, chunks

    text, chunks = asyncio.run(ask())
    assert text == SAID
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == SAID
    assert [o["output"]["content"] for o in locked.observations(2)] == [SAID, SAID]


def test_embeddings(locked: Stage):
    reply = portkey(locked).embeddings.create(
        model="text-embedding-3-small", input=["one", "two"], encoding_format="float"
    )
    assert len(reply.data) == 2
    observation = locked.observation()
    assert observation["input"] == ["one", "two"]
    assert observation["output"] == {"dimensions": len(reply.data[0].embedding), "count": 2}


def test_completions_and_responses(locked: Stage):
    client = portkey(locked)
    text = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Hello there")
    assert "Hello there" in text.choices[0].text
    assert client.responses.create(model="gpt-4o-mini", input="Hello there").output_text == SAID
    endpoints = {o["metadata"]["endpoint"] for o in locked.observations(2)}
    assert endpoints == {"/v1/completions", "/v1/responses"}


def test_messages_by_post(locked: Stage):
    reply = portkey(locked, provider="anthropic").post("/messages", **MESSAGES)
    assert reply.content[0]["text"] == SAID
    observation = locked.observation()
    assert_generation(observation, streamed=False, endpoint="/v1/messages", provider="anthropic")
    assert reply.get_headers()["trace-id"] == observation["trace_id"]


def test_what_the_client_says_of_the_trace(locked: Stage):
    client = portkey(
        locked,
        trace_id="checkout 42",
        span_name="summarize",
        metadata={"_user": "ada", "_session": "s1", "_tags": ["a", "b"], "team": "søk"},
    )
    client.chat.completions.create(**CHAT, user="body")
    client.with_options(metadata={"_user": "ada", "team": "søk"}).chat.completions.create(**CHAT)
    observations = locked.observations(2)
    (trace_id,) = {o["trace_id"] for o in observations}
    (trace,) = (t for t in locked.inbox.traces() if t["id"] == trace_id)
    assert (trace["user_id"], trace["session_id"]) == ("ada", "s1")
    assert sorted(trace["tags"]) == ["a", "b"]
    for observation in observations:
        assert observation["name"] == "summarize"
        assert observation["metadata"]["team"] == "søk"
        assert observation["metadata"]["x-portkey-trace-id"] == "checkout 42"


def test_options_of_one_call(locked: Stage):
    client = portkey(locked, metadata={"_user": "ada", "team": "search"})
    client.chat.completions.create(**CHAT)
    client.with_options(metadata={"_user": "grace"}).chat.completions.create(**CHAT)
    client.with_options(user_id="mary").chat.completions.create(**CHAT)
    teams = {o["user_id"]: o["metadata"].get("team") for o in locked.observations(3)}
    assert teams == {"ada": "search", "grace": None, "mary": "search"}


@pytest.mark.parametrize(
    ("provider_slug", "model"),
    [("scripted", "m"), ("scripted", "@openai/m"), (None, "@scripted/m")],
)
def test_the_provider_of_choice(locked: Stage, provider: Provider, provider_slug, model):
    client = portkey(locked, provider=provider_slug, metadata={"_user": "ada"})
    reply = client.chat.completions.create(**{**CHAT, "model": model})
    (seen,) = provider.seen
    assert seen.target == "/base/chat/completions"
    sent = {name.lower(): value for name, value in seen.headers}
    assert sent["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert not [name for name in sent if name.startswith("x-portkey")]
    assert KEY not in str(seen)
    assert json.loads(seen.body) == {**CHAT, "model": model.removeprefix("@scripted/")}
    assert reply.get_headers()["provider"] == "scripted"
    assert locked.observation()["metadata"]["provider"] == "scripted"


def test_a_path_that_is_not_traced(locked: Stage, provider: Provider):
    reply = portkey(locked, provider="scripted").models.list()
    (seen,) = provider.seen
    assert (seen.method, seen.target) == ("GET", "/base/models")
    assert reply.get_headers() == {"provider": "scripted"}


@pytest.mark.parametrize(
    ("key", "words"), [("gw_unknown", "not valid"), (None, "asks for a gateway key")]
)
def test_without_a_valid_gateway_key(locked: Stage, provider: Provider, key, words):
    client = portkey(locked, api_key=key, provider="scripted")
    for streamed in (False, True):
        with pytest.raises(vendored.AuthenticationError, match=words) as caught:
            client.chat.completions.create(**CHAT, stream=streamed)
        assert caught.value.status_code == 401
    with pytest.raises(vendored.AuthenticationError, match=words):
        client.models.list()
    with pytest.raises(exceptions.AuthenticationError, match=words):
        client.post("/messages", **MESSAGES)
    assert provider.seen == []
    portkey(locked).chat.completions.create(**CHAT)
    assert locked.observation()["metadata"]["provider"] == "openai"


@pytest.mark.parametrize(
    ("status", "error"), [(429, vendored.RateLimitError), (500, vendored.InternalServerError)]
)
def test_a_providers_error(locked: Stage, provider: Provider, status, error):
    headers = {"x-status": str(status)}
    client = portkey(locked, provider="scripted")
    with pytest.raises(error, match="so it goes") as caught:
        client.chat.completions.create(**CHAT, extra_headers=headers)
    observation = locked.observation()
    assert observation["level"] == "ERROR"
    assert caught.value.response.headers["x-portkey-trace-id"] == observation["trace_id"]
    # The client tries a 5xx again by itself, unless the reply has Portkey's trace id.
    assert len(provider.seen) == 1


# Configs.


@pytest.fixture
def keyed(stage_with, environment, provider: Provider) -> Stage:
    """A gateway with providers' keys of its own."""
    return stage_with(**variables(provider, environment))


OWN = [f"sk-own-of-an-app-{n}{n}{n}{n}" for n in range(2)]
TWO = {
    **fallback({"provider": "first", "api_key": OWN[0]}, {"provider": "second", "api_key": OWN[1]}),
    "retry": {"attempts": 1},
}


def an_app(base_url: str, **options: Any) -> tuple[str, dict[str, str]]:
    """An app as it is written for Portkey, whichever keys it has."""
    client = Portkey(base_url=f"{base_url}/v1", metadata={"_user": "ada", "team": "søk"}, **options)
    reply: Any = client.chat.completions.create(**CHAT)
    return reply.choices[0].message.content, reply.get_headers()


@pytest.mark.parametrize("config", ["one-after-the-other", fallback("first", "second")])
def test_an_app_with_a_gateway_key(keyed: Stage, provider: Provider, config):
    play(provider, first=fails(500), second=says("here"))
    text, headers = an_app(keyed.url, api_key=ALICE, config=config)
    assert text == "here"
    # What Portkey's client sends where it is given no key goes to nobody.
    assert [key_of(seen) for seen in provider.seen] == [
        f"Bearer {STORED['first']}",
        f"Bearer {STORED['second']}",
    ]
    span, calls = tree(keyed, 2)
    assert headers == {
        "trace-id": span["trace_id"],
        "provider": "second",
        "last-used-option-index": "config.targets[1]",
        "retry-attempt-count": "0",
    }
    assert span["user_id"] == "ada"
    assert span["metadata"]["config"] == (config if isinstance(config, str) else "inline")
    assert {o["metadata"]["team"] for o in (span, *calls)} == {"søk"}
    assert_no_key_is_recorded(keyed)


@pytest.mark.parametrize("api_key", [None, ALICE])
def test_an_app_with_keys_of_its_own(keyed: Stage, provider: Provider, api_key):
    play(provider, first=fails(429, retry_after="0"), second=[fails(500), says("here")])
    text, headers = an_app(keyed.url, api_key=api_key, config=TWO)
    assert (text, headers["retry-attempt-count"]) == ("here", "1")
    assert asked(provider) == ["first", "first", "second", "second"]
    assert [key_of(seen) for seen in provider.seen] == [
        f"Bearer {key}" for key in (OWN[0], OWN[0], OWN[1], OWN[1])
    ]
    span, _ = tree(keyed, 4)
    assert span["metadata"].get("gateway_key") == (api_key and "alice")
    assert_no_key_is_recorded(keyed, *OWN)


def test_a_config_streamed(keyed: Stage, provider: Provider):
    play(provider, first=fails(500))
    client = portkey(
        keyed, api_key=ALICE, Authorization=None, provider=None, config=fallback("first", "openai")
    )
    stream = client.chat.completions.create(**CHAT, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == SAID
    headers = stream.response.headers
    assert headers["x-portkey-last-used-option-index"] == "config.targets[1]"
    span, _ = tree(keyed, 2)
    assert span["output"]["content"] == SAID


def test_retries_are_the_gateways_and_not_the_clients_too(keyed: Stage, provider: Provider):
    play(provider, first=fails(500, retry_after="0"))
    client = portkey(
        keyed,
        api_key=ALICE,
        Authorization=None,
        provider=None,
        config={"provider": "first", "retry": {"attempts": 1}},
    )
    with pytest.raises(vendored.InternalServerError, match="so it goes") as caught:
        client.chat.completions.create(**CHAT)
    assert caught.value.response.headers["x-portkey-retry-attempt-count"] == "-1"
    assert len(provider.seen) == 2
    tree(keyed, 2)


def test_a_timeout_of_the_client(keyed: Stage, provider: Provider):
    play(provider, first=hangs(provider))
    options = {"api_key": ALICE, "Authorization": None, "request_timeout": 100}
    client = portkey(keyed, provider="first", **options)
    with pytest.raises(vendored.InternalServerError, match=r"did not answer in 0\.1 s") as caught:
        client.chat.completions.create(**CHAT)
    assert caught.value.status_code == 504
    provider.wait("aborted")
    assert len(provider.seen) == 1


def test_a_cache_by_the_client(keyed: Stage, provider: Provider):
    play(provider, first=[says("one"), says("two"), says("three")])
    config = {"provider": "first", "cache": {"mode": "simple", "max_age": 600}}
    options = {"api_key": ALICE, "Authorization": None, "provider": None, "config": config}

    def answer(**more: Any) -> tuple[str, str]:
        reply = portkey(keyed, **options, **more).chat.completions.create(
            model="m", messages=[{"role": "user", "content": "to be kept by the client"}]
        )
        return reply.choices[0].message.content, reply.get_headers()["cache-status"]

    assert answer() == ("one", "MISS")
    tree(keyed, 1)  # it is kept before it is told
    assert answer() == ("one", "HIT")
    assert answer(cache_force_refresh=False) == ("one", "HIT")
    assert answer(cache_force_refresh=True) == ("two", "REFRESH")


def test_an_unknown_config(keyed: Stage, provider: Provider):
    client = portkey(keyed, api_key=ALICE, provider=None, config="pc-somewhere-else")
    with pytest.raises(vendored.BadRequestError, match="has no config 'pc-somewhere-else'"):
        client.chat.completions.create(**CHAT)
    assert provider.seen == []
