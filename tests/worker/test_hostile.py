"""Hostile requests: to block the isolate, or to use the keys of others."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import Provider, Stage, reply_json
from .deployment import ALICE, SOME_MODELS
from .test_keys import REPLY, call, inline

pytestmark = pytest.mark.long

A = {"x-portkey-api-key": ALICE}
# Of CPU time, which does not depend on the load of the machine. Each of these needed many times as
# much before it was bounded.
MAX_CPU_SECONDS = 4.0


@pytest.fixture
def stage(with_keys: Stage) -> Stage:
    return with_keys


@pytest.fixture(autouse=True)
def _replies(provider: Provider):
    reply_json(provider, REPLY)


@contextmanager
def cpu_limit(stage: Stage) -> Iterator[None]:
    """Assert that workerd uses little CPU time within this context."""
    before = cpu_seconds(stage.gateway.pid)
    yield
    assert cpu_seconds(stage.gateway.pid) - before < MAX_CPU_SECONDS


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process; 0 on a system without this file.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    file = Path(f"/proc/{pid}/stat")
    if not file.exists():
        return 0.0
    fields = file.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def conditional(query: Any) -> str:
    conditions = [{"query": query, "then": "t"}]
    return inline(
        strategy={"mode": "conditional", "conditions": conditions, "default": "t"},
        targets=[{"name": "t", "provider": "other"}],
    )


def test_a_condition_on_a_long_list_is_evaluated_quickly(stage: Stage):
    messages = [{"role": "user", "content": "x"}] * 20_000
    query = {"params.messages": {"$in": ["a"] * 1000}}
    headers = {**A, "x-portkey-config": conditional(query)}
    with cpu_limit(stage):
        assert call(stage, headers, {"messages": messages}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"x-portkey-config": '{"weight": 1' + 400 * "0" + "}"},
        {"x-portkey-request-timeout": "1" + 5000 * "0"},
        {"x-portkey-request-timeout": "000000001" + 12 * "9"},
    ],
)
def test_a_number_that_is_too_large_is_refused(stage: Stage, provider: Provider, headers):
    answer = call(stage, {**A, **headers})
    assert answer.status_code == 400, answer.text
    assert provider.received == []


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
def test_a_key_for_some_models_needs_plain_json(stage: Stage, provider: Provider, headers):
    answer = send(
        stage, {"authorization": f"Bearer {SOME_MODELS}", **headers}, json.dumps(SMALL).encode()
    )
    assert answer.status_code == 403
    assert provider.received == []


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", ';charset="UTF-8"'])
def test_a_key_for_some_models_may_name_utf_8(stage: Stage, provider, charset):
    headers = {
        "authorization": f"Bearer {SOME_MODELS}",
        "content-type": f"application/json{charset}",
    }
    assert send(stage, headers, json.dumps(SMALL).encode()).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        # Tools of a provider that call another model.
        {**SMALL, "tools": [{"type": "image_generation", "model": "o1"}]},
        {**SMALL, "tools": [{"type": "x:search", "parameters": {"models": ["small", "o1"]}}]},
        {**SMALL, "plugins": [{"id": "x", "model": "o1"}]},
        # Characters that some parsers take for the same letters.
        {**SMALL, "model\u017f": ["o1"]},
        b'{"model": "small", "\xc1\xadodel": "o1"}',
    ],
)
def test_a_key_for_some_models_cannot_name_another_one_elsewhere_in_the_body(
    stage: Stage, provider: Provider, body
):
    headers = {"authorization": f"Bearer {SOME_MODELS}", "content-type": "application/json"}
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    assert send(stage, headers, data, "/responses").status_code == 403
    assert provider.received == []


def test_a_function_may_have_a_parameter_that_is_called_model(stage: Stage):
    properties = {"model": {"type": "string", "enum": ["o1"]}, "models": {"type": "array"}}
    function = {"name": "f", "parameters": {"properties": properties, "required": ["model"]}}
    body = {**SMALL, "tools": [{"type": "function", "function": function}]}
    assert call(stage, {"authorization": f"Bearer {SOME_MODELS}"}, body).status_code == 200


def send(stage: Stage, headers: dict[str, str], body: bytes, path: str = "/chat/completions"):
    with stage.http() as client:
        return client.post(f"/v1{path}", content=body, headers=headers)


def test_a_cached_reply_is_not_used_for_another_credential(with_configs: Stage, provider: Provider):
    config = {"x-portkey-config": inline(provider="bare", cache={"mode": "simple"})}
    for headers in ({"x-goog-api-key": "A"}, {"x-goog-api-key": "B"}, {"x-auth-token": "C"}, {}):
        answer = call(with_configs, {**config, **headers}, {**SMALL, "user": "cached"})
        assert answer.headers["x-portkey-cache-status"] == "MISS"
    assert len(provider.received) == 4


@pytest.mark.parametrize("own", [{}, {"x-portkey-trace-id": "a" * 32}])
def test_metadata_cannot_name_a_gateway_key(with_configs: Stage, own):
    metadata = {"x-portkey-metadata": '{"gateway_key": "alice"}'}
    headers = {"x-portkey-provider": "bare", **metadata, **own}
    answer = call(with_configs, headers, {**SMALL, "metadata": {"gateway_key": "alice"}})
    assert answer.status_code == 200
    observation = with_configs.observation()
    assert "gateway_key" not in observation["metadata"]
    assert "gateway_key" not in with_configs.trace_of(observation)["metadata"]


def test_a_text_with_many_beginnings_of_tokens_is_searched_quickly(stage: Stage):
    content = "eyJ" * 500_000
    with cpu_limit(stage):
        body = {"messages": [{"role": "user", "content": content}]}
        assert call(stage, A, body).status_code == 200
        stage.observation()


def test_metadata_with_many_names_is_recorded_quickly(stage: Stage):
    names = {f"k{i}": "v" for i in range(100_000)}
    with cpu_limit(stage):
        assert call(stage, A, {"messages": [], "metadata": names}).status_code == 200
        assert '"k0":"v"' in stage.observation()["metadata"]["cut"]


def test_many_credentials_and_long_texts_are_handled_quickly(stage: Stage):
    names = {f"k{i}": "v" for i in range(2000)}
    headers = {
        "x-portkey-key": " ".join(f"{i:09d}" for i in range(5000)),
        "x-portkey-metadata": json.dumps(names),
        "langfuse-tags": ",".join(names),
    }
    body = {"messages": [], "tool_choice": [*names], "metadata": names}
    with cpu_limit(stage):
        assert call(stage, {**A, **headers}, body).status_code == 200
        metadata = stage.observation()["metadata"]
    assert metadata["gateway_key"] == "alice"
    assert "too many credentials" in str(metadata["notes"])
