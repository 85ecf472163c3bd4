"""Queues in the local runtime, and their bindings in `cloudflare`, in a Worker that uses them."""

import base64
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.runtime import Runtime, bundle

from .conftest import TIMEOUT_SECONDS

pytestmark = pytest.mark.long

# The Worker logs each message that it receives. The text of a message selects what it does with it.
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
        "readable by gzip": gzip.decompress(packed) == data,
        "restored": await isolate.gunzip(packed, len(data)) == data,
        "deterministic": await isolate.gzip(data) == packed,
        "empty": await outcome(isolate.gunzip(await isolate.gzip(b""), 0)),
        "over the limit": await outcome(isolate.gunzip(packed, len(data) - 1)),
        "length too small": await outcome(isolate.gunzip(packed[:-4] + bytes(4), len(data))),
        "length too large": await outcome(
            isolate.gunzip(packed[:-4] + bytes([1, 0, 16, 0]), 2**21)
        ),
        "trailing bytes": await outcome(isolate.gunzip(packed + b"junk" + packed[-4:], len(data))),
        "cut": await outcome(isolate.gunzip(packed[:100] + packed[-4:], len(data))),
        "wrong length": await outcome(isolate.gunzip(packed[:100] + bytes(4), len(data))),
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


def post(runtime: Runtime, path: str, **options: Any) -> str:
    return httpx.post(runtime.url + path, timeout=TIMEOUT_SECONDS, **options).text


def send(runtime: Runtime, *bodies: str | bytes) -> str:
    return post(runtime, "/send", json=[b if isinstance(b, str) else list(b) for b in bodies])


def lines(runtime: Runtime, n: int, **fields: Any) -> list[dict[str, Any]]:
    """The log's lines with these fields, as soon as there are `n` of them."""

    def found() -> list[dict[str, Any]]:
        read = (json.loads(line) for line in runtime.logs if line.startswith("{"))
        return [line for line in read if line.items() >= fields.items()]

    runtime.wait_for_logs(lambda _: len(found()) >= n, TIMEOUT_SECONDS)
    assert len(found()) == n
    return found()


def test_the_worker_has_its_variables(runtime: Runtime):
    assert post(runtime, "/") == "text and JSON"


def test_a_batch_has_messages_of_text_and_of_bytes(runtime: Runtime):
    data = bytes(range(256)) * 400
    assert send(runtime, "grüße", data) == "None"
    (text,) = lines(runtime, 1, body="grüße")
    (binary,) = lines(runtime, 1, size=len(data))
    assert (text["attempts"], text["of"]) == (binary["attempts"], binary["of"]) == (1, 2)
    assert binary["body"] == list(data[:8])


def test_a_message_is_delivered_again_after_its_delay(runtime: Runtime):
    send(runtime, "once more: later", "at once")
    first, second = lines(runtime, 2, body="once more: later")
    assert (first["attempts"], second["attempts"]) == (1, 2)
    assert second["at"] - first["at"] >= 1.9
    assert len(lines(runtime, 1, body="at once")) == 1


def test_a_message_without_retries_left_becomes_a_dead_letter(runtime: Runtime):
    send(runtime, "never: 1", b"no")
    lines(runtime, 1, event="dead_letter", queue="traces-dead", text="never: 1")
    encoded = base64.b64encode(b"no").decode()
    lines(runtime, 1, event="dead_letter", queue="traces-dead", base64=encoded)
    assert [line["attempts"] for line in lines(runtime, 3, body="never: 1")] == [1, 2, 3]


def test_a_failed_handler_is_logged_and_its_batch_delivered_again(runtime: Runtime):
    send(runtime, "broken: 1")
    lines(runtime, 1, event="dead_letter", text="broken: 1")
    assert sum("RuntimeError: out of order" in line for line in runtime.logs) == 3


@pytest.mark.parametrize(
    "bodies", [["x" * 128_001], ["x" * 100_000] * 3, ["x"] * 101, []], ids=lambda b: str(len(b))
)
def test_a_refused_send_is_a_network_error(runtime: Runtime, bodies):
    assert send(runtime, *bodies).startswith("NetworkError: ")


def test_gzip_and_gunzip(runtime: Runtime):
    answer = json.loads(post(runtime, "/gzip"))
    assert answer.pop("packed") < 2**16
    assert answer == {
        "readable by gzip": True,
        "restored": True,
        "deterministic": True,
        "empty": "b''",
        "over the limit": "ValueError: more than 1048575 bytes",
        "length too small": "ValueError: Decompression failed.",
        "length too large": "ValueError: Decompression failed.",
        "trailing bytes": "ValueError: Trailing bytes after end of compressed data",
        "cut": answer["cut"],
        "wrong length": "ValueError: another length than it says",
        "not gzip": "ValueError: Decompression failed.",
        "nothing": answer["nothing"],
    }
    assert answer["cut"].startswith("ValueError: ")
    assert answer["nothing"].startswith("ValueError: ")


def test_only_loopback_is_reachable(runtime: Runtime):
    assert post(runtime, "/reach", content=runtime.url) == "[object Response]"
    for address in ("http://192.0.2.1/", "http://10.0.0.1/"):  # a public and a private address
        assert post(runtime, "/reach", content=address).startswith("JsException: ")
        refused = f"connecting to {address[7:-1]}:80 is not allowed"
        runtime.wait_for_logs(lambda logs, line=refused: line in "\n".join(logs), TIMEOUT_SECONDS)


def test_without_a_queue_handler_the_batch_fails():
    source = ENTRY.replace("async def queue(", "async def not_a_queue(")
    modules = {**bundle(), "entry.py": source}
    settings = {**SETTINGS, "max_retries": 0}
    with Runtime(
        {"TEXT": "", "JSON": {"name": ""}}, modules=modules, queues={"TRACE_QUEUE": settings}
    ) as runtime:
        send(runtime, "unhandled")
        lines(runtime, 1, event="dead_letter", text="unhandled")
        assert "TypeError: Method queue does not exist" in "\n".join(runtime.logs)


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


def test_closing_after_miniflare_was_killed_ends_workerd(monkeypatch):
    monkeypatch.setattr(Runtime, "_boot", lambda runtime: None)
    runtime = Runtime({}, queues={"TRACE_QUEUE": SETTINGS})
    os.kill(os.getpgid(runtime.pid), signal.SIGKILL)
    runtime.close()
    with pytest.raises(httpx.TransportError):
        httpx.get(runtime.url)


def test_an_invalid_setting_of_a_queue_is_named():
    settings = {"queue": "traces", "max_retrys": 2}
    with pytest.raises(RuntimeError, match="maxRetrys"):
        Runtime({}, queues={"TRACE_QUEUE": settings})


def test_the_end_of_workerd_ends_the_runtime(runtime: Runtime):
    """The last test of this module, since it ends the runtime."""
    os.kill(runtime.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="ended with status 1"):
        runtime.wait()
