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
from typing import Any

import js
from pyodide.ffi import JsException, jsnull, to_js

from core.limits import (
    DISCARDED_TIMEOUT_SECONDS,
    FIRST_READ_BYTES,
    MAX_DISCARDED_BYTES,
    MAX_READ_BYTES,
)
from core.memory_budget import Reservation
from core.platform import ClientConnection
from core.types import Capture, Ending, NetworkError
from gateway.cors import ALLOW_ORIGIN

# What the runtime decodes when a body is read; it passes any other encoding on as it is.
DECODED_ENCODINGS = ("gzip", "br")


class CloudflareReply:
    """A provider's response, or a cached one: its head is there, its body on the way."""

    def __init__(self, response: Any, connection: ClientConnection, abort_controller: Any) -> None:
        self.response = response
        self.connection = connection
        self.abort_controller = abort_controller
        self.status: int = response.status

    @functools.cached_property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        return headers_to_dict(self.response)

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    async def capture_discarded(self, limit: int, reservation: Reservation) -> Capture:
        if self.response.body is jsnull:
            return await _ReplyCapture(self, reservation).capture_without_body()
        return await _ReplyCapture(self, reservation).capture_discarded(
            min(limit, MAX_DISCARDED_BYTES)
        )

    async def cancel(self) -> None:
        if self.abort_controller:
            self.abort_controller.abort()
        elif self.response.body is not jsnull:
            await self.response.body.cancel()

    def relay(self, headers: tuple[tuple[str, str], ...]) -> Any:
        # Raises `NetworkError` for what no response can be made of, such as a status of 999.
        return self._response(self.response.body, headers)

    def relay_and_capture(
        self, headers: tuple[tuple[str, str], ...], limit: int, reservation: Reservation
    ) -> tuple[Any, Awaitable[Capture]]:
        body = self.response.body
        if body is jsnull:
            return self.relay(headers), _ReplyCapture(self, reservation).capture_without_body()
        to_client, to_trace = body.tee()
        encoding, length = self.header("content-encoding"), self.header("content-length")
        if length.isdigit() and not encoding and not self.header("transfer-encoding"):
            client = js.FixedLengthStream.new(int(length))
        else:
            client = js.IdentityTransformStream.new()
        copy = js.IdentityTransformStream.new()
        sent = to_client.pipeTo(client.writable)
        copied = to_trace.pipeTo(copy.writable, to_js_object({"preventAbort": True}))
        response = self._response(client.readable, headers)
        if encoding in DECODED_ENCODINGS:
            response.headers.delete("content-encoding")
            response.headers.delete("content-length")
        return response, _ReplyCapture(self, reservation).capture(sent, copied, copy, limit)

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


class _ReplyCapture:
    """Follows a reply's two pumps to their end."""

    def __init__(self, reply: CloudflareReply, reservation: Reservation) -> None:
        self.reply = reply
        self.reservation = reservation
        self.chunks: list[bytes] = []
        self.size_bytes = 0
        self.truncated = False
        self.first_byte_at: float | None = None
        self.ended_at = 0.0

    async def capture_without_body(self) -> Capture:
        return self._result(Ending.COMPLETE)

    async def capture(self, sent: Any, copied: Any, copy: Any, limit: int) -> Capture:
        """Follow the pumps to the client and into the copy to their ends: their promises, which
        Pyodide has made futures."""
        sent.add_done_callback(self._on_client_pump_end)
        copied.add_done_callback(functools.partial(self._on_capture_pump_end, copy.writable))
        await self._drain(copy.readable, limit, self._expected_size())
        not_copied, not_sent = await _pump_error(copied), await _pump_error(sent)
        # Once the limit has ended the copy, only the client's branch knows how the reply ended.
        error = not_sent if self.truncated else not_copied or not_sent
        if error is None:
            return self._result(Ending.COMPLETE)
        left = error.name == "AbortError" or (
            error is not_sent and self.reply.connection.client_left()
        )
        return self._result(Ending.CLIENT_LEFT if left else Ending.INTERRUPTED, error.message)

    async def capture_discarded(self, limit: int) -> Capture:
        """Record a reply that no client gets."""
        ending, reason = Ending.COMPLETE, ""
        try:
            drain = self._drain(self.reply.response.body, limit, 0)
            await asyncio.wait_for(drain, DISCARDED_TIMEOUT_SECONDS)
        except TimeoutError:
            ending, reason = Ending.INTERRUPTED, "it was not waited for"
        except JsException as error:
            ending, reason = Ending.INTERRUPTED, error.message
        await self.reply.cancel()
        return self._result(ending, reason)

    def _on_client_pump_end(self, sent: Any) -> None:
        # The provider should not go on for nobody. After the provider's own failure this is without
        # effect, and a cached reply has none.
        if sent.exception() and self.reply.abort_controller:
            self.reply.abort_controller.abort()

    def _on_capture_pump_end(self, writable: Any, copied: Any) -> None:
        self.ended_at = time.time()
        if copied.exception() and not self.truncated:
            # Closing hands the drain what had arrived.
            writable.getWriter().close()

    def _expected_size(self) -> int:
        """The size of a reply that may be read at once, since nobody asks when it began; else 0.
        Some providers send a stream as JSON, but of that they do not know the size."""
        length = self.reply.header("content-length")
        whole = "json" in self.reply.header("content-type") and length.isdigit()
        return int(length) if whole else 0

    async def _drain(self, readable: Any, limit: int, known_size: int) -> None:
        reader = byob_reader(readable)
        # One byte more shows the end. An encoded reply is longer than that, and is read on.
        size = min(known_size + 1 if known_size else FIRST_READ_BYTES, MAX_READ_BYTES, limit + 1)
        least = size if known_size else 1
        piece = await read_at_least(reader, least, size)
        if piece:
            self.first_byte_at = time.time()
        while piece:
            room = self.reservation.reserve(len(piece))
            if room:
                self.chunks.append(piece[: limit - self.size_bytes])
                self.size_bytes += len(piece)
            if not room or self.size_bytes > limit:
                self.truncated = True
                await reader.cancel()
                return
            if len(piece) < least:
                return  # it has ended
            size = least = min(MAX_READ_BYTES, limit + 1 - self.size_bytes)
            piece = await read_at_least(reader, least, size)

    def _result(self, ending: Ending, reason: str = "") -> Capture:
        return Capture(
            ending=ending,
            ended_at=self.ended_at or time.time(),
            status=self.reply.status,
            content_type=self.reply.header("content-type"),
            body=b"".join(self.chunks),
            truncated=self.truncated,
            first_byte_at=self.first_byte_at,
            reason=reason,
        )


def byob_reader(stream: Any) -> Any:
    return stream.getReader(to_js_object({"mode": "byob"}))


async def read_at_least(reader: Any, least: int, size: int) -> bytes:
    """From `least` to `size` bytes; fewer, or none, only at the end. Where the stream fails while
    this waits for more, what had come is lost."""
    # The result itself should not outlive this, since the next read may have to wait for long, and
    # each has a buffer.
    result = await reader.readAtLeast(least, js.Uint8Array.new(size))
    return b"" if result.done else result.value.to_bytes()


async def _pump_error(pump: Any) -> JsException | None:
    try:
        await pump
    except JsException as error:
        return error
    return None


def headers_to_dict(message: Any) -> dict[str, str]:
    """The headers of a request or a response by lower-case name."""
    return js.Map.new(message.headers).to_py()


def to_js_object(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
    """A dict, or a list of them, as JavaScript has it."""
    # Without the converter a dict arrives in JavaScript as a Map, which fetch does not understand.
    return to_js(value, dict_converter=js.Object.fromEntries)
