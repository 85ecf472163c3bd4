"""The rate limit of a gateway key, where a rate limit is bound."""

import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from portkey_ai._vendor import openai as vendored

from .conftest import CHAT, Provider, Stage
from .deployment import PROVIDER_KEY, digest
from .targets import MESSAGES, post, replies, set_replies, using
from .test_portkey import portkey

pytestmark = pytest.mark.long

LIMIT = 3
# Each test has its own key, and so its own count.
KEYS = {n: f"gw_of-caller-{n}-0123456789abcdef" for n in range(7)}


@pytest.fixture
def stage(stage_with, environment, provider: Provider) -> Stage:
    set_replies(provider, first=replies())
    own = {"first": {"base_url": f"{provider.url}/first"}}
    return stage_with(
        rate_limits={"RATE_LIMIT": {"limit": LIMIT, "period": 60}},
        PROVIDERS=json.dumps({**json.loads(environment["PROVIDERS"]), **own}),
        GATEWAY_API_KEYS=json.dumps({f"caller {n}": digest(key) for n, key in KEYS.items()}),
        ALLOW_ANONYMOUS="true",
        FIRST_API_KEY="sk-stored-0123456789abcdef",
        DEFAULT_PROVIDER="first",
    )


def until_limited(call: Callable[[], Any], error: type[Exception]) -> tuple[int, Any]:
    """Repeat a call until it is refused. Returns the number of calls before, and the error."""
    # A new minute may begin meanwhile, and with it a new count.
    for n in range(2 * LIMIT + 1):
        try:
            call()
        except error as refused:
            assert n >= LIMIT
            return n, refused
    raise AssertionError("no call was refused")


def test_a_key_over_its_limit_is_refused(stage: Stage, provider: Provider):
    client = stage.openai(api_key=KEYS[0])
    n, refused = until_limited(
        lambda: client.chat.completions.create(**CHAT), openai.RateLimitError
    )
    assert "over its rate limit" in refused.message
    assert refused.body["type"] == "rate_limit_error"
    assert len(provider.received) == n
    # A refused call is not traced.
    assert len(stage.observations(n)) == n
    assert len(stage.traced_so_far()) == n
    # Another key has its own count.
    assert stage.openai(api_key=KEYS[1]).chat.completions.create(**CHAT).choices


@pytest.mark.parametrize("path", ["/v1/models", "/v1/files/file-1"])
def test_calls_of_every_path_are_counted(stage: Stage, provider: Provider, path):
    key = KEYS[2] if path == "/v1/models" else KEYS[3]
    with stage.http(headers={"authorization": f"Bearer {key}"}) as client:
        statuses = [client.get(path).status_code for _ in range(2 * LIMIT + 1)]
    assert statuses[:LIMIT] == [200] * LIMIT
    assert 429 in statuses
    assert len(provider.received) == statuses.count(200)


def test_a_refusal_is_the_rate_limit_error_of_each_client(stage: Stage):
    native = stage.anthropic(api_key=KEYS[4], default_headers={"x-portkey-provider": "first"})
    _, refused = until_limited(lambda: native.messages.create(**MESSAGES), anthropic.RateLimitError)
    assert refused.body["error"]["type"] == "rate_limit_error"
    client = portkey(stage, api_key=KEYS[5], Authorization=None, provider="first")
    until_limited(lambda: client.chat.completions.create(**CHAT), vendored.RateLimitError)


def test_a_gateway_key_is_counted_where_the_caller_has_a_provider_key(
    stage: Stage, provider: Provider
):
    headers = {"x-portkey-api-key": KEYS[6], **using({"provider": "first"})}
    statuses = [post(stage, headers, key=PROVIDER_KEY).status_code for _ in range(2 * LIMIT + 1)]
    assert statuses[:LIMIT] == [200] * LIMIT
    assert 429 in statuses
    assert len(provider.received) == statuses.count(200)


def test_calls_without_a_gateway_key_are_not_counted(stage: Stage, provider: Provider):
    client = stage.openai(api_key=PROVIDER_KEY)
    for _ in range(2 * LIMIT + 1):
        assert client.chat.completions.create(**CHAT).choices
    assert len(provider.received) == 2 * LIMIT + 1
