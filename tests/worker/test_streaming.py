"""Streamed replies: each chunk is relayed immediately, and every way in which a stream can end is
recorded as what it is."""

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

from core.limits import MAX_FIRST_TOKEN_READS

from .conftest import CHAT, SCRIPTED, TIMEOUT_SECONDS, Provider, Stage

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
    """The events of a stream, each as soon as the client has received it."""
    buffer = b""
    for piece in response.iter_raw():
        buffer += piece
        while b"\n\n" in buffer:
            event, _, buffer = buffer.partition(b"\n\n")
            yield event + b"\n\n"


def test_a_stream_sent_as_json_has_a_time_to_first_token(stage: Stage, provider: Provider):
    async def script(request):
        response = await begin(request, **{"content-type": "application/json"})
        await response.write(delta("a"))
        await provider.gate("client has it").wait()
        await asyncio.sleep(0.3)  # after the first byte
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


MESSAGE_START = {"type": "message_start", "message": {"model": "m", "usage": {}, "content": []}}
# By endpoint, what providers send before the first token, and an event with one.
BEFORE_THE_FIRST_TOKEN = {
    "/v1/chat/completions": (
        [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}],
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"function": {"name": "look"}}]}}]},
    ),
    "/v1/messages": (
        [MESSAGE_START, {"type": "ping"}],
        {"type": "content_block_delta", "index": 0, "delta": {"thinking": "Well"}},
    ),
    "/v1/responses": (
        [{"type": "response.created", "response": {"instructions": "Be brief."}}],
        {"type": "response.output_text.delta", "delta": "Hi"},
    ),
}


@pytest.mark.parametrize("path", BEFORE_THE_FIRST_TOKEN)
def test_the_first_token_comes_after_the_events_that_have_none(
    stage: Stage, provider: Provider, path: str
):
    before, token = BEFORE_THE_FIRST_TOKEN[path]
    pieces = [b": connected\n\n", *(f"data: {json.dumps(event)}\n\n".encode() for event in before)]

    async def script(request):
        response = await begin(request)
        for n, piece in enumerate(pieces):
            await response.write(piece)
            await provider.gate(f"client has {n}").wait()
        await asyncio.sleep(0.3)  # after the first byte, and before the first token
        await response.write(f"data: {json.dumps(token)}\n\n".encode())
        await provider.gate(f"client has {len(pieces)}").wait()
        await asyncio.sleep(0.3)  # before the end
        await response.write(END)
        return response

    provider.script = script
    with (
        stage.http() as client,
        client.stream("POST", path, json=CHAT, headers=SCRIPTED) as response,
    ):
        for n, _ in enumerate(events_of(response)):
            provider.open(f"client has {n}")
    observation = stage.observation()
    first_token_ms = observation["metadata"]["time_to_first_token_ms"]
    assert 300 <= first_token_ms <= observation["metadata"]["latency_ms"] - 300
    started, first = (
        datetime.fromisoformat(observation[name])
        for name in ("start_time", "completion_start_time")
    )
    assert (first - started).total_seconds() * 1000 == pytest.approx(first_token_ms, abs=2)


def test_a_stream_of_comments_is_not_searched_for_a_token_without_end(
    stage: Stage, provider: Provider
):
    """Each comment is sent after the client has received the one before, so that each is a read."""

    async def script(request):
        response = await begin(request)
        for n in range(MAX_FIRST_TOKEN_READS + 5):
            await response.write(b": keep-alive\n\n")
            await provider.gate(f"client has {n}").wait()
        await response.write(delta("a") + END)
        return response

    provider.script = script
    with (
        stage.http() as client,
        client.stream("POST", "/v1/chat/completions", json=CHAT, headers=SCRIPTED) as response,
    ):
        for n, _ in enumerate(events_of(response)):
            provider.open(f"client has {n}")
    observation = stage.observation()
    assert observation["output"] == {"role": "assistant", "content": "a"}
    assert "time_to_first_token_ms" not in observation["metadata"]
    assert observation["completion_start_time"] is None
    assert observation["metadata"]["notes"] == ["first token: not looked for after 64 reads"]


def test_each_chunk_reaches_the_client_as_it_is_sent(stage: Stage, provider: Provider):
    """The provider sends a chunk only after the client has received the one before."""
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
        received, second_received = [], ""
        for event in events_of(response):
            received.append(event)
            if len(received) == 2:
                # The third is not sent yet: the time of the first token must be before this.
                second_received = datetime.now(UTC).isoformat(timespec="milliseconds")
            provider.open(f"client has {len(received)} chunks")
    ended = datetime.now(UTC).isoformat(timespec="milliseconds")
    assert received == [*map(delta, texts), END]
    observation = stage.observation()
    assert observation["output"]["content"] == "".join(texts)
    assert observation["level"] == "DEFAULT"
    assert stage.began <= observation["completion_start_time"] <= second_received
    assert second_received <= observation["end_time"]
    assert observation["start_time"] <= ended


def test_a_stream_that_the_provider_interrupts_has_its_partial_output(
    stage: Stage, provider: Provider
):
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

        # The client must not take an interrupted stream for a complete one.
        with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
            read_to_the_end()
    assert received == ["The answer ", "is"]
    observation = stage.observation()
    assert observation["output"]["content"] == "The answer is"
    assert observation["level"] == "ERROR"
    assert observation["status_message"].startswith("The provider broke off the reply")
    assert observation["metadata"]["ending"] == "cut"


def test_a_whole_reply_that_the_provider_interrupts(stage: Stage, provider: Provider):
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


def leave(
    stage: Stage,
    provider: Provider,
    headers: dict[str, str],
    until: bytes = b"",
    path: str = "/v1/chat/completions",
) -> None:
    """Send a streamed request, wait for some bytes of the response and for the gate "called", and
    reset the connection."""
    body = json.dumps({**CHAT, "stream": True}).encode()
    named = {**headers, "content-length": str(len(body)), "content-type": "application/json"}
    lines = [f"POST {path} HTTP/1.1", "host: gateway"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in named.items()), "", ""])
    host, port = stage.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(head.encode() + body)
        received = b""
        while until not in received:
            piece = connection.recv(65536)
            assert piece, received
            received += piece
        provider.wait("called")
        # Without time to linger, closing is a reset, which the other side notices immediately.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def until_aborted(provider: Provider) -> None:
    """Open the gate "called", wait until the gateway closes the connection, and open "aborted"."""
    provider.gate("called").set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        provider.gate("aborted").set()
        raise


@pytest.fixture
def endless(provider: Provider) -> Provider:
    """A provider that streams two words and then comments, until it is aborted."""

    async def script(request):
        response = await begin(request)
        await response.write(delta("never ") + delta("mind"))
        provider.gate("called").set()
        try:
            while True:
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.01)
        except (asyncio.CancelledError, ConnectionError):
            provider.gate("aborted").set()
            raise
        return response

    provider.script = script
    return provider


# The gateway notices it in two ways: by the request's signal, which fires immediately, and by its
# own pump, which fails at the next write.
@pytest.mark.parametrize(
    "options", [{}, {"without_flags": ("enable_request_signal",)}], ids=["signal", "pump"]
)
def test_a_client_that_leaves_aborts_the_provider(stage_with, endless: Provider, options):
    stage = stage_with(**options)
    leave(stage, endless, SCRIPTED, until=b"mind")
    endless.wait("aborted")
    observation = stage.observation()
    assert observation["output"]["content"] == "never mind"
    assert observation["level"] == "WARNING"
    assert observation["status_message"].startswith("The client closed the connection while")
    assert observation["metadata"]["ending"] == "client_left"


def test_a_client_that_leaves_aborts_the_provider_without_tracing(
    untraced: Stage, endless: Provider
):
    leave(untraced, endless, SCRIPTED, until=b"mind")
    endless.wait("aborted")


def test_a_client_that_leaves_aborts_the_provider_of_an_untraced_path(
    stage: Stage, endless: Provider
):
    leave(stage, endless, SCRIPTED, until=b"mind", path="/v1/other")
    endless.wait("aborted")


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


def test_a_stream_without_an_end_marker_is_a_warning(stage: Stage, provider: Provider):
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


def test_an_error_within_a_stream_is_recorded(stage: Stage, provider: Provider):
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


def test_beyond_the_capture_limit_the_reply_is_still_relayed(
    with_variables: Stage, provider: Provider
):
    texts = [f"{n:06} " for n in range(1000)]

    async def script(request):
        response = await begin(request)
        for text in texts:
            await response.write(delta(text))
        await response.write(END)
        return response

    provider.script = script
    client = with_variables.openai(default_headers=SCRIPTED)
    stream = client.chat.completions.create(**CHAT, stream=True)
    assert [c.choices[0].delta.content for c in stream] == texts
    observation = with_variables.observation()
    content = observation["output"]["content"]
    assert content
    assert "".join(texts).startswith(content)
    assert len(content) < 20000
    assert "reply: the first 20000 bytes are recorded" in observation["metadata"]["notes"]
    assert observation["metadata"]["ending"] == "complete"
    assert observation["level"] == "DEFAULT"


def test_beyond_the_capture_limit_a_client_that_leaves_is_recorded(
    with_variables: Stage, provider: Provider
):

    async def script(request):
        response = await begin(request)
        await response.write(delta("x" * 30_000) + b": the end\n\n")
        await until_aborted(provider)
        return response

    provider.script = script
    leave(with_variables, provider, SCRIPTED, until=b": the end")
    provider.wait("aborted")
    assert with_variables.observation()["metadata"]["ending"] == "client_left"


def test_beyond_the_capture_limit_an_interrupted_reply_is_recorded(
    with_variables: Stage, provider: Provider
):

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
        with_variables.http() as client,
        client.stream("POST", "/v1/chat/completions", json=CHAT, headers=SCRIPTED) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        read_to_the_end(response)
    assert with_variables.observation()["metadata"]["ending"] == "cut"


def test_an_encoded_stream_is_decoded_chunk_by_chunk(stage: Stage, provider: Provider):
    """Some providers encode although `Accept-Encoding` forbids it."""
    texts = ["eins ", "zwei ", "drei "]

    async def script(request):
        response = await begin(request, **{"content-encoding": "gzip"})
        for n, text in enumerate(texts):
            await provider.gate(f"client has {n} chunks").wait()
            # Each gzip member is complete, so that it can be decoded as soon as it has arrived.
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
