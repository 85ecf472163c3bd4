"""The streaming path: nothing is held back, and every way a stream can end is told apart."""

import asyncio
import gzip
import json
import socket

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
        received = []
        for event in events_of(response):
            received.append(event)
            provider.open(f"client has {len(received)} chunks")
    assert received == [*map(delta, texts), END]
    observation = stage.observation()
    assert observation["output"]["content"] == "".join(texts)
    assert observation["level"] == "DEFAULT"


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


@pytest.mark.parametrize("without_flags", [(), ("enable_request_signal",)])
def test_a_client_that_leaves_aborts_the_provider(stage_with, provider: Provider, without_flags):
    """Also where the runtime does not say so by the request's signal: the pump notices."""
    stage = stage_with(without_flags)

    async def script(request):
        response = await begin(request)
        try:
            await response.write(delta("never "))
            await provider.gate("client left").wait()
            for _ in range(500):  # at a model's pace, until the gateway closes the connection
                await response.write(delta("mind "))
                await asyncio.sleep(0.01)
        finally:
            provider.gate("aborted").set()
        return response

    provider.script = script
    with (
        stage.http() as client,
        client.stream(
            "POST", "/v1/chat/completions", json={**CHAT, "stream": True}, headers=SCRIPTED
        ) as response,
    ):
        assert next(events_of(response)) == delta("never ")
    provider.open("client left")
    provider.wait("aborted", timeout=4)
    observation = stage.observation()
    assert observation["output"]["content"].startswith("never ")
    assert observation["level"] == "WARNING"
    assert observation["status_message"].startswith("The client closed the connection while")
    assert observation["metadata"]["ending"] == "client_left"


def test_a_client_that_leaves_before_the_reply_is_traced(stage: Stage, provider: Provider):
    async def script(request):
        provider.gate("asked").set()
        await provider.gate("client left").wait()
        response = await begin(request)
        try:
            for _ in range(500):
                await response.write(delta("late "))
                await asyncio.sleep(0.01)
        finally:
            provider.gate("aborted").set()
        return response

    provider.script = script
    body = json.dumps(CHAT).encode()
    host, port = stage.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nx-portkey-provider: scripted"
        length = f"content-length: {len(body)}\r\ncontent-type: application/json"
        connection.sendall(f"{head}\r\n{length}\r\n\r\n".encode() + body)
        provider.wait("asked")
    provider.open("client left")
    provider.wait("aborted", timeout=4)
    observation = stage.observation()
    assert observation["input"] == CHAT["messages"]
    assert observation["metadata"]["ending"] == "client_left"
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
