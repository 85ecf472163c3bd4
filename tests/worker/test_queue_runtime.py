"""Queues in the local runtime, and the platform's side of them in a Worker made to show it."""

import base64
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.runtime import Runtime, bundle

pytestmark = pytest.mark.long

# Each message that arrives becomes a line of the log; its text says what then becomes of it.
ENTRY = """
import gzip
import json
import time

import js
from workers import Response, WorkerEntrypoint

from cloudflare.bindings import queue_messages
from cloudflare.platform import CloudflareIsolate, CloudflareQueue


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        match js.URL.new(request.url).pathname:
            case "/send":
                bodies = [bytes(b) if isinstance(b, list) else b for b in await request.json()]
                return Response(await outcome(CloudflareQueue(self.env.TRACE_QUEUE).send(bodies)))
            case "/reach":
                return Response(await outcome(js.fetch(await request.text())))
            case "/gzip":
                return Response(json.dumps(await pack()))
        return Response(self.env.TEXT + self.env.JSON.to_py()["name"])

    async def queue(self, batch, env, ctx):
        messages = queue_messages(batch)
        for m in messages:
            body = m.body if isinstance(m.body, str) else list(m.body[:8])
            line = {"body": body, "size": len(m.body), "attempts": m.attempts}
            print(json.dumps({**line, "of": len(messages), "at": time.time()}))
            match str(body).split(":")[0]:
                case "once more":
                    m.ack() if m.attempts > 1 else m.retry(2)
                case "never" | "[110, 111]":
                    m.retry(0)
                case "broken":
                    raise RuntimeError("out of order")
                case _:
                    m.ack()


async def outcome(awaitable):
    try:
        return str(await awaitable)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


async def pack():
    isolate = CloudflareIsolate(None)
    data = bytes(range(256)) * 4096
    packed = await isolate.gzip(data)
    return {
        "packed": len(packed),
        "by the book": gzip.decompress(packed) == data,
        "back": await isolate.gunzip(packed, len(data)) == data,
        "again": await isolate.gzip(data) == packed,
        "empty": await outcome(isolate.gunzip(await isolate.gzip(b""), 0)),
        "over": await outcome(isolate.gunzip(packed, len(data) - 1)),
        "says too little": await outcome(isolate.gunzip(packed[:-4] + bytes(4), len(data))),
        "says too much": await outcome(isolate.gunzip(packed[:-4] + bytes([1, 0, 16, 0]), 2**21)),
        "goes on": await outcome(isolate.gunzip(packed + b"junk" + packed[-4:], len(data))),
        "cut": await outcome(isolate.gunzip(packed[:100] + packed[-4:], len(data))),
        "longer": await outcome(isolate.gunzip(packed[:100] + bytes(4), len(data))),
        "not gzip": await outcome(isolate.gunzip(b"not gzip" + bytes(4), len(data))),
        "nothing": await outcome(isolate.gunzip(b"", 0)),
    }
"""
SETTINGS = {
    "queue": "traces",
    "max_batch_size": 10,
    "max_batch_timeout": 0,
    "max_retries": 2,
    "dead_letter_queue": "traces-dead",
}


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    env = {"TEXT": "text and ", "JSON": {"name": "JSON"}}
    with Runtime(
        env, modules={**bundle(), "entry.py": ENTRY}, queues={"TRACE_QUEUE": SETTINGS}
    ) as runtime:
        yield runtime


def ask(runtime: Runtime, path: str, **options: Any) -> str:
    return httpx.post(runtime.url + path, timeout=20, **options).text


def send(runtime: Runtime, *bodies: str | bytes) -> str:
    return ask(runtime, "/send", json=[b if isinstance(b, str) else list(b) for b in bodies])


def lines(runtime: Runtime, n: int, **fields: Any) -> list[dict[str, Any]]:
    """The log's lines with these fields, as soon as there are `n` of them."""

    def found() -> list[dict[str, Any]]:
        read = (json.loads(line) for line in runtime.logs if line.startswith("{"))
        return [line for line in read if line.items() >= fields.items()]

    runtime.wait_for_logs(lambda _: len(found()) >= n)
    assert len(found()) == n
    return found()


def test_the_worker_has_its_environment(runtime: Runtime):
    assert ask(runtime, "/") == "text and JSON"


def test_a_batch_arrives_with_its_texts_and_bytes(runtime: Runtime):
    data = bytes(range(256)) * 400
    assert send(runtime, "grüße", data) == "None"
    (text,) = lines(runtime, 1, body="grüße")
    (binary,) = lines(runtime, 1, size=len(data))
    assert (text["attempts"], text["of"]) == (binary["attempts"], binary["of"]) == (1, 2)
    assert binary["body"] == list(data[:8])


def test_a_message_comes_again_after_the_delay_that_was_asked_for(runtime: Runtime):
    send(runtime, "once more: later", "at once")
    first, second = lines(runtime, 2, body="once more: later")
    assert (first["attempts"], second["attempts"]) == (1, 2)
    assert second["at"] - first["at"] >= 1.9
    assert len(lines(runtime, 1, body="at once")) == 1


def test_what_is_not_taken_ends_in_the_dead_letter_queue(runtime: Runtime):
    send(runtime, "never: 1", b"no")
    lines(runtime, 1, event="dead_letter", queue="traces-dead", text="never: 1")
    encoded = base64.b64encode(b"no").decode()
    lines(runtime, 1, event="dead_letter", queue="traces-dead", base64=encoded)
    assert [line["attempts"] for line in lines(runtime, 3, body="never: 1")] == [1, 2, 3]


def test_a_handler_that_fails_is_logged_and_its_batch_comes_again(runtime: Runtime):
    send(runtime, "broken: 1")
    lines(runtime, 1, event="dead_letter", text="broken: 1")
    assert sum("RuntimeError: out of order" in line for line in runtime.logs) == 3


@pytest.mark.parametrize(
    "bodies", [["x" * 128_001], ["x" * 100_000] * 3, ["x"] * 101, []], ids=lambda b: str(len(b))
)
def test_a_send_that_the_queue_refuses_is_a_network_error(runtime: Runtime, bodies):
    assert send(runtime, *bodies).startswith("NetworkError: ")


def test_gzip_is_bounded_and_whole(runtime: Runtime):
    answer = json.loads(ask(runtime, "/gzip"))
    assert answer.pop("packed") < 2**16
    assert answer == {
        "by the book": True,
        "back": True,
        "again": True,
        "empty": "b''",
        "over": "ValueError: more than 1048575 bytes",
        "says too little": "ValueError: Decompression failed.",
        "says too much": "ValueError: Decompression failed.",
        "goes on": "ValueError: Trailing bytes after end of compressed data",
        "cut": answer["cut"],
        "longer": "ValueError: another length than it says",
        "not gzip": "ValueError: Decompression failed.",
        "nothing": answer["nothing"],
    }
    assert answer["cut"].startswith("ValueError: ")
    assert answer["nothing"].startswith("ValueError: ")


def test_only_loopback_is_reached(runtime: Runtime):
    assert ask(runtime, "/reach", content=runtime.url) == "[object Response]"
    for address in ("http://192.0.2.1/", "http://10.0.0.1/"):  # no machine's, and a private one
        assert ask(runtime, "/reach", content=address).startswith("JsException: ")
        refused = f"connecting to {address[7:-1]}:80 is not allowed"
        runtime.wait_for_logs(lambda logs, said=refused: said in "\n".join(logs))


@pytest.mark.long
def test_a_worker_without_a_queue_handler_fails_the_batch():
    source = ENTRY.replace("async def queue(", "async def not_a_queue(")
    modules = {**bundle(), "entry.py": source}
    settings = {**SETTINGS, "max_retries": 0}
    with Runtime(
        {"TEXT": "", "JSON": {"name": ""}}, modules=modules, queues={"TRACE_QUEUE": settings}
    ) as runtime:
        send(runtime, "to nobody")
        lines(runtime, 1, event="dead_letter", text="to nobody")
        assert "TypeError: Method queue does not exist" in "\n".join(runtime.logs)


@pytest.mark.long
def test_an_interrupted_start_leaves_no_process_behind(monkeypatch):
    started = []

    def interrupt(runtime: Runtime) -> None:
        started.extend((runtime.pid, os.getpgid(runtime.pid)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Runtime, "_boot", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Runtime({}, queues={"TRACE_QUEUE": SETTINGS})
    workerd, miniflare = started
    assert workerd != miniflare
    with pytest.raises(ProcessLookupError):
        os.killpg(miniflare, 0)


@pytest.mark.long
def test_a_miniflare_that_was_killed_leaves_no_workerd_behind(monkeypatch):
    monkeypatch.setattr(Runtime, "_boot", lambda runtime: None)
    runtime = Runtime({}, queues={"TRACE_QUEUE": SETTINGS})
    os.kill(os.getpgid(runtime.pid), signal.SIGKILL)
    runtime.close()
    with pytest.raises(httpx.TransportError):
        httpx.get(runtime.url)


@pytest.mark.long
def test_a_start_that_fails_says_why():
    settings = {"queue": "traces", "max_retrys": 2}
    with pytest.raises(RuntimeError, match="maxRetrys"):
        Runtime({}, queues={"TRACE_QUEUE": settings})


def test_a_workerd_that_dies_ends_the_runtime(runtime: Runtime):
    """The last test, since it takes the runtime with it."""
    os.kill(runtime.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="ended with status 1"):
        runtime.wait()
