"""Traces that are delivered by the queue: miniflare's here, Cloudflare's in a deployment.

tests/unit/export/test_queue_outage.py has longer outages at the real settings, in virtual time.
"""

import base64
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import web

from local.runtime import bundle

from .conftest import CHAT, SCRIPTED, TIMEOUT_SECONDS, Provider, Stage
from .deployment import PROVIDER_KEY, PUBLIC_KEY, SECRET_KEY

pytestmark = pytest.mark.long

TRACES = {
    "queue": "traces",
    "max_batch_size": 100,
    "max_batch_timeout": 1,
    "max_retries": 20,
    "dead_letter_queue": "traces-dead",
}
# A message that was not delivered comes again after one second instead of ten.
LIMITS = bundle()["core/limits.py"]
HASTY_LIMITS = LIMITS.replace("FIRST_REDELIVERY_SECONDS = 10\n", "FIRST_REDELIVERY_SECONDS = 1\n")

# The Worker, with a path that sends messages to its queue: texts, or lists of bytes.
SENDING_ENTRY = """
import js
from cloudflare.platform import CloudflareQueue
from gateway_entry import Default as Gateway
from workers import Response

class Default(Gateway):
    async def fetch(self, request):
        if js.URL.new(request.url).pathname != "/send":
            return await super().fetch(request)
        bodies = [bytes(b) if isinstance(b, list) else b for b in await request.json()]
        await CloudflareQueue(self.env.TRACE_QUEUE).send(bodies)
        return Response("sent")
"""
# Messages that the queue holds after an update, recorded with gateway 0.1.0.
MESSAGES_0_1_0 = json.loads(
    (Path(__file__).parents[1] / "unit" / "export" / "queue_messages_0.json").read_text()
)


async def _close(request):
    request.transport.abort()
    return web.Response()


def call_at_once(stage: Stage, count: int = 1, text: str = "Hello there") -> set[str]:
    """Make `count` calls at once. Returns the ids of their traces."""
    body = {**CHAT, "messages": [{"role": "user", "content": text}]}

    def call(_: int) -> str:
        with stage.http() as client:
            response = client.post("/v1/chat/completions", json=body, headers=SCRIPTED)
        assert response.status_code == 200
        return response.headers["x-portkey-trace-id"]

    with ThreadPoolExecutor(20) as pool:
        return set(pool.map(call, range(count)))


@pytest.fixture
def queueing(stage_with) -> Stage:
    """A gateway that sends every trace to the queue immediately."""
    return stage_with(queues={"TRACE_QUEUE": TRACES}, LANGFUSE_DELIVERY="queue")


def test_traces_of_an_outage_are_delivered_after_it(stage_with):
    assert HASTY_LIMITS != LIMITS
    stage: Stage = stage_with(
        queues={"TRACE_QUEUE": TRACES},
        modules={**bundle(), "core/limits.py": HASTY_LIMITS},
        LANGFUSE_RETRY_SECONDS="1",
    )
    stage.inbox.fault = _close
    traces = call_at_once(stage, 10)
    lines = stage.wait_for_logs("trace_queued", 10)
    assert {line["trace_ids"] for line in lines} == traces
    # The outage lasts until the queue has tried twice to deliver the messages.
    stage.wait_for_logs("trace_delayed", 2)
    assert stage.observations_now() == []
    stage.inbox.fault = None
    observations = stage.observations(10)
    assert {o["trace_id"] for o in observations} == traces
    assert not [line for line in stage.logs if "trace_not_delivered" in line]


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_every_trace_may_be_delivered_by_the_queue(queueing: Stage, version: str):
    queueing.inbox.version = version
    traces = call_at_once(queueing, 20)
    observations = queueing.observations(20)
    assert {o["trace_id"] for o in observations} == traces
    assert {o["input"][0]["content"] for o in observations} == {"Hello there"}
    # In batches.
    assert len([r for r in queueing.inbox.requests if r.method == "POST"]) < 10


def test_a_message_has_no_key(stage_with, provider: Provider):
    """A message that cannot be delivered becomes a dead letter, which the log shows."""
    stage: Stage = stage_with(
        queues={"TRACE_QUEUE": {**TRACES, "max_retries": 0}},
        LANGFUSE_DELIVERY="queue",
        LANGFUSE_RETRY_SECONDS="1",
    )
    stage.inbox.fault = _close
    (trace_id,) = call_at_once(stage)
    (letter,) = stage.wait_for_logs("dead_letter")
    message = json.loads(letter["text"])
    assert message["trace"]["id"] == trace_id
    assert message["destination"] == "default"
    for secret in (SECRET_KEY, PUBLIC_KEY, PROVIDER_KEY):
        assert secret not in letter["text"]
    (line,) = stage.wait_for_logs("trace_delayed")
    assert line["observations"] == 1


def test_a_large_trace_is_delivered_packed(queueing: Stage):
    call_at_once(queueing, text="many words " * 50_000)
    observation = queueing.observation()
    assert len(observation["input"][0]["content"]) == 550_000


def test_messages_of_the_version_before_are_delivered(stage_with):
    source = bundle()
    stage: Stage = stage_with(
        queues={"TRACE_QUEUE": {**TRACES, "max_retries": 1}},
        modules={
            **source,
            "core/limits.py": HASTY_LIMITS,
            "gateway_entry.py": source["entry.py"],
            "entry.py": SENDING_ENTRY,
        },
    )

    text, gzipped = MESSAGES_0_1_0["text"], base64.b64decode(MESSAGES_0_1_0["base64"])
    # One that no version can read yet is kept until its last retry, and becomes a dead letter.
    unknown = json.dumps({**json.loads(text), "schema": 99})
    with stage.http() as client:
        assert client.post("/send", json=[unknown, text, [*gzipped]]).text == "sent"
    ids = [json.loads(packed)["id"] for packed in (text, gzip.decompress(gzipped))]
    found = stage.inbox.wait_for(2, TIMEOUT_SECONDS, where=lambda o: o["id"] in ids)
    first, second = sorted(found, key=lambda o: ids.index(o["id"]))
    assert first["input"][0]["content"] == "Hello there"
    assert first["output"]["content"] == "Hallo, Grüße ✓"
    assert first["usage"] == {"input": 7, "input_cached_tokens": 3, "output": 2, "total": 12}
    assert len(second["input"][0]["content"]) == len("many words " * 13_000)
    (letter,) = stage.wait_for_logs("dead_letter")
    assert letter["text"] == unknown
    lines = stage.wait_for_logs("message_not_read", 2)
    assert [line["attempts"] for line in lines] == [1, 2]
    assert "its schema has version 99" in lines[0]["reason"]
