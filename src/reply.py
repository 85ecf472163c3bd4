"""A provider's reply on its way to the client, and the branch of it that is captured for a trace.

A reply is never copied through Python on its way to the client. Two native pumps, each through an
`IdentityTransformStream`, carry the two branches of its body, since a branch of a `tee` that is
read directly stalls the other one; the captured branch is drained in a handful of large reads,
since each thing that Python waits for costs as much as dozens of calls.
https://developers.cloudflare.com/workers/runtime-apis/streams/
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

import js
from pyodide.ffi import JsException, jsnull, to_js

from cors import ALLOW_ORIGIN
from memory import Hold
from vocabulary import Capture, Ending, NetworkError

# The first read of a captured stream takes the first chunk, whose time matters; each further one
# waits for as much as it has room for, so that a long stream costs few calls into Python. The
# buffer of a read takes memory for as long as it waits.
FIRST_READ, LARGEST_READ = 8 * 1024, 32 * 1024
# What is read of a reply that another one takes the place of: an error, which is short.
LARGEST_GIVEN_UP, LONGEST_GIVEN_UP = 64 * 1024, 5.0
# What the runtime decodes when a body is read; it passes any other encoding on as it is.
DECODED = ("gzip", "br")


class Client(Protocol):
    """Whom a reply is for."""

    def client_left(self) -> bool:
        """Whether the client is known to have closed the connection."""
        ...


class Reply:
    """A provider's response, or a cached one: its head is there, its body on the way."""

    def __init__(self, response: Any, client: Client, abort: Any) -> None:
        self.response = response
        self.client = client
        self.abort = abort
        self.status: int = response.status

    @functools.cached_property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        return headers_of(self.response)

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    async def captured(self, limit: int, hold: Hold) -> Capture:
        if self.response.body is jsnull:
            return await _Recorder(self, hold).without_body()
        return await _Recorder(self, hold).record_alone(min(limit, LARGEST_GIVEN_UP))

    async def cancel(self) -> None:
        if self.abort:
            self.abort.abort()
        elif self.response.body is not jsnull:
            await self.response.body.cancel()

    def relay(self, headers: tuple[tuple[str, str], ...]) -> Any:
        # Raises `NetworkError` for what no response can be made of, such as a status of 999.
        return self._response(self.response.body, headers)

    def relay_captured(
        self, headers: tuple[tuple[str, str], ...], limit: int, hold: Hold
    ) -> tuple[Any, Awaitable[Capture]]:
        body = self.response.body
        if body is jsnull:
            return self.relay(headers), _Recorder(self, hold).without_body()
        to_client, to_trace = body.tee()
        encoding, length = self.header("content-encoding"), self.header("content-length")
        if length.isdigit() and not encoding and not self.header("transfer-encoding"):
            client = js.FixedLengthStream.new(int(length))
        else:
            client = js.IdentityTransformStream.new()
        copy = js.IdentityTransformStream.new()
        sent = to_client.pipeTo(client.writable)
        copied = to_trace.pipeTo(copy.writable, as_object({"preventAbort": True}))
        response = self._response(client.readable, headers)
        if encoding in DECODED:
            response.headers.delete("content-encoding")
            response.headers.delete("content-length")
        return response, _Recorder(self, hold).record(sent, copied, copy, limit)

    def _response(self, body: Any, headers: tuple[tuple[str, str], ...]) -> Any:
        # Made from the original, a response keeps its status and all its headers, repeated ones
        # too.
        try:
            response = js.Response.new(body, self.response)
        except JsException as error:
            raise NetworkError(f"a reply that cannot be passed on: {error.message}") from error
        changed = response.headers
        # Which pages may read the gateway's answers is not for a provider to say.
        changed.delete(ALLOW_ORIGIN)
        for name, value in headers:
            if name == "vary":
                changed.append(name, value)
            else:
                changed.set(name, value)
        return response


class _Recorder:
    """Follows a reply's two pumps to their end."""

    def __init__(self, reply: Reply, hold: Hold) -> None:
        self.reply = reply
        self.hold = hold
        self.pieces: list[bytes] = []
        self.size = 0
        self.cut = False
        self.first_byte: float | None = None
        self.ended = 0.0

    async def without_body(self) -> Capture:
        return self._capture(Ending.COMPLETE)

    async def record(self, sent: Any, copied: Any, copy: Any, limit: int) -> Capture:
        """Follow the pumps to the client and into the copy to their ends: their promises, which
        Pyodide has made futures."""
        sent.add_done_callback(self._client_ended)
        copied.add_done_callback(functools.partial(self._copy_ended, copy.writable))
        await self._drain(copy.readable, limit, self._known_size())
        not_copied, not_sent = await _failure(copied), await _failure(sent)
        # Once the limit has ended the copy, only the client's branch knows how the reply ended.
        error = not_sent if self.cut else not_copied or not_sent
        if error is None:
            return self._capture(Ending.COMPLETE)
        left = error.name == "AbortError" or (error is not_sent and self.reply.client.client_left())
        return self._capture(Ending.CLIENT_LEFT if left else Ending.CUT, error.message)

    async def record_alone(self, limit: int) -> Capture:
        """Record a reply that no client gets."""
        ending, reason = Ending.COMPLETE, ""
        try:
            drain = self._drain(self.reply.response.body, limit, 0)
            await asyncio.wait_for(drain, LONGEST_GIVEN_UP)
        except TimeoutError:
            ending, reason = Ending.CUT, "it was not waited for"
        except JsException as error:
            ending, reason = Ending.CUT, error.message
        await self.reply.cancel()
        return self._capture(ending, reason)

    def _client_ended(self, sent: Any) -> None:
        # The provider should not go on for nobody. After the provider's own failure this is without
        # effect, and a cached reply has none.
        if sent.exception() and self.reply.abort:
            self.reply.abort.abort()

    def _copy_ended(self, writable: Any, copied: Any) -> None:
        self.ended = time.time()
        if copied.exception() and not self.cut:
            # Closing hands the drain what had arrived.
            writable.getWriter().close()

    def _known_size(self) -> int:
        """The size of a reply that may be read at once, since nobody asks when it began; else 0.
        Some providers send a stream as JSON, but of that they do not know the size."""
        length = self.reply.header("content-length")
        whole = "json" in self.reply.header("content-type") and length.isdigit()
        return int(length) if whole else 0

    async def _drain(self, readable: Any, limit: int, known_size: int) -> None:
        reader = reader_of(readable)
        # One byte more shows the end. An encoded reply is longer than that, and is read on.
        size = min(known_size + 1 if known_size else FIRST_READ, LARGEST_READ, limit + 1)
        least = size if known_size else 1
        piece = await read(reader, least, size)
        if piece:
            self.first_byte = time.time()
        while piece:
            room = self.hold.take(len(piece))
            if room:
                self.pieces.append(piece[: limit - self.size])
                self.size += len(piece)
            if not room or self.size > limit:
                self.cut = True
                await reader.cancel()
                return
            if len(piece) < least:
                return  # it has ended
            size = least = min(LARGEST_READ, limit + 1 - self.size)
            piece = await read(reader, least, size)

    def _capture(self, ending: Ending, reason: str = "") -> Capture:
        return Capture(
            ending=ending,
            ended=self.ended or time.time(),
            status=self.reply.status,
            content_type=self.reply.header("content-type"),
            body=b"".join(self.pieces),
            cut=self.cut,
            first_byte=self.first_byte,
            reason=reason,
        )


def reader_of(stream: Any) -> Any:
    return stream.getReader(as_object({"mode": "byob"}))


async def read(reader: Any, least: int, size: int) -> bytes:
    """From `least` to `size` bytes; fewer, or none, only at the end. Where the stream fails while
    this waits for more, what had come is lost."""
    # The result itself should not outlive this, since the next read may have to wait for long, and
    # each has a buffer.
    result = await reader.readAtLeast(least, js.Uint8Array.new(size))
    return b"" if result.done else result.value.to_bytes()


async def _failure(pump: Any) -> JsException | None:
    try:
        await pump
    except JsException as error:
        return error
    return None


def headers_of(message: Any) -> dict[str, str]:
    """The headers of a request or a response by lower-case name."""
    return js.Map.new(message.headers).to_py()


def as_object(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
    """A dict, or a list of them, as JavaScript has it."""
    # Without the converter a dict arrives in JavaScript as a Map, which fetch does not understand.
    return to_js(value, dict_converter=js.Object.fromEntries)
