"""Requests that are made to harm: to hang the isolate, or to get at what is another's."""

import json
import time
from typing import Any

import pytest

from . import test_keys
from .conftest import Provider, Stage
from .test_keys import ALICE, MO, ask, inline

pytestmark = pytest.mark.long

settings, stage, _kept = test_keys.settings, test_keys.stage, test_keys._kept
A = {"x-portkey-api-key": ALICE}
# Seconds. Each of these took many times as long before it was bounded.
SOON = 4.0


def conditional(query: Any) -> str:
    conditions = [{"query": query, "then": "t"}]
    return inline(
        strategy={"mode": "conditional", "conditions": conditions, "default": "t"},
        targets=[{"name": "t", "provider": "other"}],
    )


def test_a_condition_on_a_long_list_is_checked_soon(stage: Stage, provider: Provider):
    messages = [{"role": "user", "content": "x"}] * 20_000
    query = {"params.messages": {"$in": ["a"] * 1000}}
    began = time.monotonic()
    answer = ask(stage, {**A, "x-portkey-config": conditional(query)}, {"messages": messages})
    assert answer.status_code == 200
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize(
    "headers",
    [
        {"x-portkey-config": '{"weight": 1' + 400 * "0" + "}"},
        {"x-portkey-request-timeout": "1" + 5000 * "0"},
        {"x-portkey-request-timeout": "000000001" + 12 * "9"},
    ],
)
def test_a_number_of_any_length_is_refused(stage: Stage, provider: Provider, headers):
    answer = ask(stage, {**A, **headers})
    assert answer.status_code == 400, answer.text
    assert provider.seen == []


SMALL = {"model": "small", "messages": []}


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json; charset=utf-7"},
        {"content-type": "application/json; charset=cp037"},
        {"content-type": "application/json, multipart/form-data; boundary=x"},
        {"content-type": "application/json-patch+json"},
        {"content-type": "application/jsonl"},
        {"content-type": "application/json", "content-encoding": "deflate"},
        {"content-type": "application/json", "content-encoding": "br"},
    ],
)
def test_a_key_for_some_models_sends_plain_json(stage: Stage, provider: Provider, headers):
    answer = send(stage, {"authorization": f"Bearer {MO}", **headers}, json.dumps(SMALL).encode())
    assert answer.status_code == 403
    assert provider.seen == []


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", ';charset="UTF-8"'])
def test_a_key_for_some_models_may_say_that_it_is_utf_8(stage: Stage, provider, charset):
    headers = {"authorization": f"Bearer {MO}", "content-type": f"application/json{charset}"}
    assert send(stage, headers, json.dumps(SMALL).encode()).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        # The tools of a provider that call another model.
        {**SMALL, "tools": [{"type": "image_generation", "model": "o1"}]},
        {**SMALL, "tools": [{"type": "x:search", "parameters": {"models": ["small", "o1"]}}]},
        {**SMALL, "plugins": [{"id": "x", "model": "o1"}]},
        # What some readers take for the same letters.
        {**SMALL, "model\u017f": ["o1"]},
        b'{"model": "small", "\xc1\xadodel": "o1"}',
    ],
)
def test_no_other_model_is_asked_by_a_detour(stage: Stage, provider: Provider, body):
    headers = {"authorization": f"Bearer {MO}", "content-type": "application/json"}
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    assert send(stage, headers, data, "/responses").status_code == 403
    assert provider.seen == []


def test_a_function_with_a_model_among_its_parameters_is_none_that_is_asked(stage: Stage, provider):
    properties = {"model": {"type": "string", "enum": ["o1"]}, "models": {"type": "array"}}
    function = {"name": "f", "parameters": {"properties": properties, "required": ["model"]}}
    body = {**SMALL, "tools": [{"type": "function", "function": function}]}
    assert ask(stage, {"authorization": f"Bearer {MO}"}, body).status_code == 200


def send(stage: Stage, headers: dict[str, str], body: bytes, path: str = "/chat/completions"):
    with stage.http() as client:
        return client.post(f"/v1{path}", content=body, headers=headers)


def test_no_kept_reply_is_for_who_shows_another_key(stage_with, settings, provider: Provider):
    stage: Stage = stage_with(**settings, ALLOW_ANONYMOUS="true")
    config = {"x-portkey-config": inline(provider="bare", cache={"mode": "simple"})}
    for headers in ({"x-goog-api-key": "A"}, {"x-goog-api-key": "B"}, {"x-auth-token": "C"}, {}):
        answer = ask(stage, {**config, **headers}, {**SMALL, "user": "kept"})
        assert answer.headers["x-portkey-cache-status"] == "MISS"
    assert len(provider.seen) == 4


@pytest.mark.parametrize("own", [{}, {"x-portkey-trace-id": "a" * 32}])
def test_who_shows_no_key_is_not_taken_for_one_who_does(stage_with, settings, provider, own):
    stage: Stage = stage_with(**settings, ALLOW_ANONYMOUS="true")
    said = {"x-portkey-provider": "bare", "x-portkey-metadata": '{"gateway_key": "alice"}', **own}
    answer = ask(stage, said, {**SMALL, "metadata": {"gateway_key": "alice"}})
    assert answer.status_code == 200
    observation = stage.observation()
    assert "gateway_key" not in observation["metadata"]
    (trace,) = (t for t in stage.inbox.traces() if t["id"] == observation["trace_id"])
    assert "gateway_key" not in trace["metadata"]


def test_a_text_like_the_beginnings_of_many_tokens_is_searched_soon(stage: Stage, provider):
    began = time.monotonic()
    content = "eyJ" * 500_000
    assert ask(stage, A, {"messages": [{"role": "user", "content": content}]}).status_code == 200
    stage.observation()
    assert time.monotonic() - began < SOON


def test_metadata_of_any_number_is_recorded_soon(stage: Stage, provider: Provider):
    began = time.monotonic()
    names = {f"k{i}": "v" for i in range(100_000)}
    assert ask(stage, A, {"messages": [], "metadata": names}).status_code == 200
    assert '"k0":"v"' in stage.observation()["metadata"]["cut"]
    assert time.monotonic() - began < SOON


def test_many_credentials_and_much_to_search_for_them(stage: Stage, provider: Provider):
    began = time.monotonic()
    names = {f"k{i}": "v" for i in range(2000)}
    headers = {
        "x-portkey-key": " ".join(f"{i:09d}" for i in range(5000)),
        "x-portkey-metadata": json.dumps(names),
        "langfuse-tags": ",".join(names),
    }
    body = {"messages": [], "tool_choice": [*names], "metadata": names}
    assert ask(stage, {**A, **headers}, body).status_code == 200
    metadata = stage.observation()["metadata"]
    assert metadata["gateway_key"] == "alice"
    assert "too many credentials" in str(metadata["notes"])
    assert time.monotonic() - began < SOON
