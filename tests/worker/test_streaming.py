"""The streaming path: nothing is held back, and every way a stream can end is told apart."""

import asyncio
import gzip
import json
import socket
import struct
from datetime import UTC, datetime

import httpx
import openai
import pytest
from aiohttp import web

from .conftest import CHAT, SCRIPTED, Provider, Stage

EVENT_STREAM = {"content-type": "text/event-stream"}


def delta(text: str) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "model-2026-01-01",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


END = b"data: [DONE]\n\n"


async def begin(request: web.Request, **headers: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={**EVENT_STREAM, **headers})
    await response.prepare(request)
    return response


def events_of(response: httpx.Response):
    """The events of a stream, each as soon as the client has it."""
    buffer = b""
    for piece in response.iter_raw():
        buffer += piece
        while b"\n\n" in buffer:
            event, _, buffer = buffer.partition(b"\n\n")
            yield event + b"\n\n"


def test_a_stream_that_is_sent_as_json_has_a_first_byte(stage: Stage, provider: Provider):
    async def script(request):
        response = await begin(request, **{"content-type": "application/json"})
        await response.write(delta("a"))
        await provider.gate("client has it").wait()
        await asyncio.sleep(0.3)  # which the first byte must not have waited for
        await response.write(delta("b") + END)
        return response

    provider.script = script
    with (
        stage.http() as client,
        client.stream("POST", "/v1/chat/completions", json=CHAT, headers=SCRIPTED) as response,
    ):
        for _ in events_of(response):
            provider.open("client has it")
    metadata = stage.observation()["metadata"]
    assert metadata["streamed"]
    assert metadata["time_to_first_token_ms"] <= metadata["latency_ms"] - 300


def test_each_chunk_reaches_the_client_as_it_is_sent(stage: Stage, provider: Provider):
    """The provider sends a chunk only when the client has shown that it holds the one before."""
    texts = [f"word{n} " for n in range(20)]

    async def script(request):
        response = await begin(request)
        for n, text in enumerate(texts):
            await provider.gate(f"client has {n} chunks").wait()
            await response.write(delta(text))
        await response.write(END)
        return response

    provider.script = script
    with (
        stage.http() as client,
        client.stream(
            "POST", "/v1/chat/completions", json={**CHAT, "stream": True}, headers=SCRIPTED
        ) as response,
    ):
        provider.open("client has 0 chunks")
        received, second_came = [], ""
        for event in events_of(response):
            received.append(event)
            if len(received) == 2:
                # The third is not on its way yet: the time to first token must be before this.
                second_came = datetime.now(UTC).isoformat(timespec="milliseconds")
            provider.open(f"client has {len(received)} chunks")
    ended = datetime.now(UTC).isoformat(timespec="milliseconds")
    assert received == [*map(delta, texts), END]
    observation = stage.observation()
    assert observation["output"]["content"] == "".join(texts)
    assert observation["level"] == "DEFAULT"
    assert stage.began <= observation["completion_start_time"] <= second_came
    assert second_came <= observation["end_time"]
    assert observation["start_time"] <= ended


def test_a_provider_that_breaks_off_leaves_the_partial_output(stage: Stage, provider: Provider):
    async def script(request):
        response = await begin(request)
        await response.write(delta("The answer ") + delta("is"))
        await provider.gate("client has it").wait()
        request.transport.abort()
        return response

    provider.script = script
    with stage.openai(default_headers=SCRIPTED) as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        received = []

        def read_to_the_end():
            for chunk in stream:
                received.append(chunk.choices[0].delta.content)
                if len(received) == 2:
                    provider.open("client has it")

        # A stream that was cut must not look like one that ended.
        with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
            read_to_the_end()
    assert received == ["The answer ", "is"]
    observation = stage.observation()
    assert observation["output"]["content"] == "The answer is"
    assert observation["level"] == "ERROR"
    assert observation["status_message"].startswith("The provider broke off the reply")
    assert observation["metadata"]["ending"] == "cut"


def test_a_whole_reply_that_breaks_off_is_no_clean_end(stage: Stage, provider: Provider):
    async def script(request):
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b'{"choices": [')
        await provider.gate("client has it").wait()
        request.transport.abort()
        return response

    provider.script = script

    def read_to_the_end(response):
        for _ in response.iter_raw():
            provider.open("client has it")

    with (
        stage.http() as client,
        client.stream("POST", "/v1/chat/completions", json=CHAT, headers=SCRIPTED) as response,
    ):
        assert response.headers["content-length"] == "1000"
        with pytest.raises(httpx.RemoteProtocolError):
            read_to_the_end(response)
    assert stage.observation()["metadata"]["ending"] == "cut"


def leave(stage: Stage, provider: Provider, headers: dict[str, str], until: bytes = b"") -> None:
    """Send a streamed chat request, wait for some bytes of the answer, and reset the connection."""
    body = json.dumps({**CHAT, "stream": True}).encode()
    named = {**headers, "content-length": str(len(body)), "content-type": "application/json"}
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: gateway"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in named.items()), "", ""])
    host, port = stage.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        received = b""
        while until not in received:
            received += connection.recv(65536)
        provider.wait("asked")
        # With no time to linger, closing is a reset, which the other side notices at once.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def until_aborted(provider: Provider) -> None:
    """Say nothing more, and tell the test when the gateway has given up."""
    provider.gate("asked").set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        provider.gate("aborted").set()
        raise


@pytest.fixture
def patient(provider: Provider) -> Provider:
    """A provider that says two words and then, until it is aborted, nothing that counts."""

    async def script(request):
        response = await begin(request)
        await response.write(delta("never ") + delta("mind"))
        provider.gate("asked").set()
        try:
            while True:
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.01)  # a model's pace
        except (asyncio.CancelledError, ConnectionError):
            provider.gate("aborted").set()
            raise
        return response

    provider.script = script
    return provider


# Two ways in which the gateway hears of it: by the request's signal, which fires at once, and by
# its own pump, which fails at the next write.
@pytest.mark.parametrize("without_flags", [(), ("enable_request_signal",)])
def test_a_client_that_leaves_aborts_the_provider(stage_with, patient: Provider, without_flags):
    stage = stage_with(without_flags=without_flags)
    leave(stage, patient, SCRIPTED, until=b"mind")
    patient.wait("aborted")
    observation = stage.observation()
    assert observation["output"]["content"] == "never mind"
    assert observation["level"] == "WARNING"
    assert observation["status_message"].startswith("The client closed the connection while")
    assert observation["metadata"]["ending"] == "client_left"


@pytest.mark.parametrize(
    "changes",
    [
        {"LANGFUSE_SECRET_KEY": None},
        {"TRACED_ENDPOINTS": "/v1/embeddings"},
    ],
)
def test_a_client_that_leaves_aborts_an_untraced_stream(stage_with, patient: Provider, changes):
    stage = stage_with(**changes)
    leave(stage, patient, SCRIPTED, until=b"mind")
    patient.wait("aborted")


def test_a_client_that_leaves_before_the_reply_is_traced(stage: Stage, provider: Provider):
    async def script(request):
        await until_aborted(provider)
        return web.Response()

    provider.script = script
    leave(stage, provider, SCRIPTED)
    provider.wait("aborted")
    observation = stage.observation()
    assert observation["input"] == CHAT["messages"]
    assert observation["metadata"]["ending"] == "client_left"
    assert observation["status_message"].startswith("The client closed the connection before")
    assert observation["level"] == "WARNING"


def test_a_stream_without_an_end_marker_is_marked(stage: Stage, provider: Provider):
    async def script(request):
        response = await begin(request)
        await response.write(delta("half an answ"))
        return response

    provider.script = script
    stream = stage.openai(default_headers=SCRIPTED).chat.completions.create(**CHAT, stream=True)
    assert [c.choices[0].delta.content for c in stream] == ["half an answ"]
    observation = stage.observation()
    assert observation["output"]["content"] == "half an answ"
    assert observation["level"] == "WARNING"
    assert observation["status_message"] == "The stream ended without its end marker."


def test_an_error_in_mid_stream_is_the_traces_too(stage: Stage, provider: Provider):
    error = b'data: {"error": {"type": "server_error", "message": "out of memory"}}\n\n'

    async def script(request):
        response = await begin(request)
        await response.write(delta("so far ") + error)
        return response

    provider.script = script
    stream = stage.openai(default_headers=SCRIPTED).chat.completions.create(**CHAT, stream=True)
    with pytest.raises(openai.APIError, match="out of memory"):
        list(stream)
    observation = stage.observation()
    assert observation["output"]["content"] == "so far "
    assert observation["level"] == "ERROR"
    assert "out of memory" in observation["status_message"]


def test_beyond_the_limit_only_the_capture_is_cut(stage_with, provider: Provider):
    stage = stage_with(MAX_CAPTURE_BYTES="20000")
    texts = [f"{n:06} " for n in range(1000)]

    async def script(request):
        response = await begin(request)
        for text in texts:
            await response.write(delta(text))
        await response.write(END)
        return response

    provider.script = script
    stream = stage.openai(default_headers=SCRIPTED).chat.completions.create(**CHAT, stream=True)
    assert [c.choices[0].delta.content for c in stream] == texts
    observation = stage.observation()
    content = observation["output"]["content"]
    assert content
    assert "".join(texts).startswith(content)
    assert len(content) < 20000
    assert "reply: the first 20000 bytes are recorded" in observation["metadata"]["notes"]
    assert observation["metadata"]["ending"] == "complete"
    assert observation["level"] == "DEFAULT"


def test_beyond_the_limit_a_client_that_leaves_is_told_apart(stage_with, provider: Provider):
    stage = stage_with(MAX_CAPTURE_BYTES="20000")

    async def script(request):
        response = await begin(request)
        await response.write(delta("x" * 30_000) + b": the end\n\n")
        await until_aborted(provider)
        return response

    provider.script = script
    leave(stage, provider, SCRIPTED, until=b": the end")
    provider.wait("aborted")
    assert stage.observation()["metadata"]["ending"] == "client_left"


def test_beyond_the_limit_a_provider_that_breaks_off_is_told_apart(stage_with, provider: Provider):
    stage = stage_with(MAX_CAPTURE_BYTES="20000")

    async def script(request):
        response = await begin(request)
        await response.write(delta("x" * 30_000))
        await provider.gate("client has it").wait()
        request.transport.abort()
        return response

    provider.script = script

    def read_to_the_end(response):
        for _ in events_of(response):
            provider.open("client has it")

    with (
        stage.http() as client,
        client.stream("POST", "/v1/chat/completions", json=CHAT, headers=SCRIPTED) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        read_to_the_end(response)
    assert stage.observation()["metadata"]["ending"] == "cut"


def test_an_encoded_stream_is_neither_held_back_nor_garbled(stage: Stage, provider: Provider):
    """Some providers encode although they were asked not to."""
    texts = ["eins ", "zwei ", "drei "]

    async def script(request):
        response = await begin(request, **{"content-encoding": "gzip"})
        for n, text in enumerate(texts):
            await provider.gate(f"client has {n} chunks").wait()
            # Each gzip member is complete, so that it can be decoded as soon as it is there.
            await response.write(gzip.compress(delta(text)))
        return response

    provider.script = script
    with (
        stage.http() as client,
        client.stream(
            "POST", "/v1/chat/completions", json={**CHAT, "stream": True}, headers=SCRIPTED
        ) as response,
    ):
        provider.open("client has 0 chunks")
        received = []
        for event in events_of(response):
            received.append(event)
            provider.open(f"client has {len(received)} chunks")
    assert received == [delta(text) for text in texts]
    assert "content-encoding" not in response.headers
    assert stage.observation()["output"]["content"] == "".join(texts)
