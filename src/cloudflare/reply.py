"""A provider's reply: relayed to the client and, on a second branch, captured for the trace.

The client's bytes never pass through Python. `tee` splits the body into two branches, and a native
`pipeTo` pumps each through a stream of its own: a branch of a `tee` that is read directly stalls
the other one. The capture is drained in a few large reads, since each await of a JavaScript
promise costs as much as dozens of calls.
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
from core.platform import ClientConnection, FirstTokenSearch
from core.types import Capture, Ending, NetworkError
from gateway.cors import ALLOW_ORIGIN

# The encodings that the runtime decodes when a body is read. Other bodies are passed on encoded.
DECODED_ENCODINGS = ("gzip", "br")


class CloudflareReply:
    """A provider's response, or a cached one: the `UpstreamReply` of `core.platform`, where the
    methods are documented.

    `response` is the JavaScript `Response`, and `connection` the connection to the client.
    `abort_controller` is the JavaScript `AbortController` of the call to the provider; None where
    that has none, and for a cached reply.
    """

    def __init__(self, response: Any, connection: ClientConnection, abort_controller: Any) -> None:
        self.response = response
        self.connection = connection
        self.abort_controller = abort_controller
        self.status: int = response.status

    @functools.cached_property
    def headers(self) -> dict[str, str]:
        """The headers of the reply: {lower-case name: value}."""
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
        return self._response(self.response.body, headers)

    def relay_and_capture(
        self,
        headers: tuple[tuple[str, str], ...],
        limit: int,
        reservation: Reservation,
        first_token: FirstTokenSearch,
    ) -> tuple[Any, Awaitable[Capture]]:
        body = self.response.body
        if body is jsnull:
            return self.relay(headers), _ReplyCapture(self, reservation).capture_without_body()
        client_branch, capture_branch = body.tee()
        encoding, length = self.header("content-encoding"), self.header("content-length")
        if length.isdigit() and not encoding and not self.header("transfer-encoding"):
            client_stream = js.FixedLengthStream.new(int(length))
        else:
            client_stream = js.IdentityTransformStream.new()
        capture_stream = js.IdentityTransformStream.new()
        client_pump = client_branch.pipeTo(client_stream.writable)
        # After a failure the stream stays open, so that the bytes in it can still be read.
        capture_pump = capture_branch.pipeTo(
            capture_stream.writable, to_js_object({"preventAbort": True})
        )
        response = self._response(client_stream.readable, headers)
        if encoding in DECODED_ENCODINGS:
            response.headers.delete("content-encoding")
            response.headers.delete("content-length")
        return response, _ReplyCapture(self, reservation, first_token).capture(
            client_pump, capture_pump, capture_stream, limit
        )

    def _response(self, body: Any, headers: tuple[tuple[str, str], ...]) -> Any:
        """The JavaScript `Response` for the client, with `body` and the provider's status and
        headers, but without the provider's CORS header. `headers` replace those of the same name,
        except that `vary` is added.

        Raises `NetworkError` where the runtime cannot make a response, such as for a status of 999.
        """
        # With the original as its init, the new response keeps repeated headers too.
        try:
            response = js.Response.new(body, self.response)
        except JsException as error:
            raise NetworkError(f"a reply that cannot be passed on: {error.message}") from error
        response_headers = response.headers
        # Only the gateway decides which pages may read its responses.
        response_headers.delete(ALLOW_ORIGIN)
        for name, value in headers:
            if name == "vary":
                response_headers.append(name, value)
            else:
                response_headers.set(name, value)
        return response


class _ReplyCapture:
    """Captures one reply for the trace: keeps what was read of its body, and how it ended.

    `reservation` is the part of the memory budget for what is kept. `truncated` is True where the
    capture ended at its limit or at that of the budget. `first_token` is None for a reply whose
    first token is not looked for. Times are in seconds since the epoch; `ended_at` is 0 until the
    pump of the capture has ended.
    """

    def __init__(
        self,
        reply: CloudflareReply,
        reservation: Reservation,
        first_token: FirstTokenSearch | None = None,
    ) -> None:
        self.reply = reply
        self.reservation = reservation
        self.first_token = first_token
        self.chunks: list[bytes] = []
        self.size_bytes = 0
        self.truncated = False
        self.first_token_at: float | None = None
        self.ended_at = 0.0

    async def capture_without_body(self) -> Capture:
        return self._result(Ending.COMPLETE)

    async def capture(
        self, client_pump: Any, capture_pump: Any, capture_stream: Any, limit: int
    ) -> Capture:
        """Capture at most `limit` bytes of a reply that is relayed to the client, and wait until
        both pumps have ended.

        `client_pump` and `capture_pump` are the promises of the `pipeTo` calls that feed the client
        and the capture; Pyodide turns them into futures. `capture_stream` is the TransformStream
        between `capture_pump` and this capture.
        """
        client_pump.add_done_callback(self._on_client_pump_end)
        capture_pump.add_done_callback(
            functools.partial(self._on_capture_pump_end, capture_stream.writable)
        )
        await self._drain(capture_stream.readable, limit, self._expected_size())
        capture_error, client_error = (
            await _pump_error(capture_pump),
            await _pump_error(client_pump),
        )
        # A truncated capture has cancelled its own pump, so only the client's pump shows how the
        # reply ended.
        error = client_error if self.truncated else capture_error or client_error
        if error is None:
            return self._result(Ending.COMPLETE)
        # An `AbortError` comes from the abort of the call after the client has left.
        client_left = error.name == "AbortError" or (
            error is client_error and self.reply.connection.client_left()
        )
        return self._result(
            Ending.CLIENT_LEFT if client_left else Ending.INTERRUPTED, error.message
        )

    async def capture_discarded(self, limit: int) -> Capture:
        """Capture at most `limit` bytes of a reply that is not relayed to the client, for at most
        `DISCARDED_TIMEOUT_SECONDS`, and cancel the rest of it. Where the time is over or the reply
        fails, the capture has what arrived until then and the ending `INTERRUPTED`."""
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

    def _on_client_pump_end(self, client_pump: Any) -> None:
        # The client has left: the abort makes the provider stop generating. After a failure of the
        # provider itself it has no effect. A cached reply has no controller.
        if client_pump.exception() and self.reply.abort_controller:
            self.reply.abort_controller.abort()

    def _on_capture_pump_end(self, writable: Any, capture_pump: Any) -> None:
        self.ended_at = time.time()
        if capture_pump.exception() and not self.truncated:
            # The end of the stream lets a waiting read return the bytes that had arrived.
            writable.getWriter().close()

    def _expected_size(self) -> int:
        """The size in bytes of a reply that can be read at once, since it is JSON and has a
        `content-length`; 0 for any other.

        The first reads of a stream must be short, because the time of its first token is recorded.
        Some providers send a stream with the content type of JSON, but without a `content-length`.
        """
        length = self.reply.header("content-length")
        is_whole = "json" in self.reply.header("content-type") and length.isdigit()
        return int(length) if is_whole else 0

    async def _drain(self, readable: Any, limit: int, known_size: int) -> None:
        """Read a ReadableStream into `chunks` until it ends. Where it has more than `limit` bytes,
        or more than can be reserved, set `truncated` and cancel it. `known_size` is the size of the
        whole reply in bytes, 0 where unknown."""
        reader = byob_reader(readable)
        search = None if known_size else self.first_token
        # A read of one byte more than the size also detects the end. A reply that the runtime
        # decodes is longer than its `content-length`, and further reads follow.
        size = min(known_size + 1 if known_size else FIRST_READ_BYTES, MAX_READ_BYTES, limit + 1)
        least = size if known_size else 1
        while chunk := await read_at_least(reader, least, size):
            if search:
                is_searched_on = search.feed(chunk)
                if search.found:
                    self.first_token_at = time.time()
                search = search if is_searched_on else None
            is_reserved = self.reservation.reserve(len(chunk), time.time())
            if is_reserved:
                self.chunks.append(chunk[: limit - self.size_bytes])
                self.size_bytes += len(chunk)
            if not is_reserved or self.size_bytes > limit:
                self.truncated = True
                await reader.cancel()
                return
            if len(chunk) < least:
                return  # the stream has ended
            size = min(MAX_READ_BYTES, limit + 1 - self.size_bytes)
            least = 1 if search else size

    def _result(self, ending: Ending, reason: str = "") -> Capture:
        encoding = self.reply.header("content-encoding")
        return Capture(
            ending=ending,
            ended_at=self.ended_at or time.time(),
            status=self.reply.status,
            content_type=self.reply.header("content-type"),
            content_encoding="" if encoding in DECODED_ENCODINGS else encoding,
            body=b"".join(self.chunks),
            truncated=self.truncated,
            first_token_at=self.first_token_at,
            notes=self.first_token.notes if self.first_token else (),
            reason=reason,
        )


def byob_reader(stream: Any) -> Any:
    """A reader of a JavaScript ReadableStream for `read_at_least`: one of mode "byob", which reads
    into buffers that the caller provides."""
    return stream.getReader(to_js_object({"mode": "byob"}))


async def read_at_least(reader: Any, min_bytes: int, max_bytes: int) -> bytes:
    """Read at least `min_bytes` and at most `max_bytes` from a reader that `byob_reader` made.
    Returns fewer bytes, or b"", only at the end of the stream.

    Raises `JsException` where the stream fails during the read: bytes that had arrived are lost.
    """
    # Returns bytes, so that the result and its buffer of `max_bytes` are released here: the next
    # read may have to wait for long, and allocates a buffer of its own.
    result = await reader.readAtLeast(min_bytes, js.Uint8Array.new(max_bytes))
    return b"" if result.done else result.value.to_bytes()


async def _pump_error(pump: Any) -> JsException | None:
    """Wait until a pump, the future of a `pipeTo`, has ended. Returns its error, None where it was
    successful."""
    try:
        await pump
    except JsException as error:
        return error
    return None


def headers_to_dict(message: Any) -> dict[str, str]:
    """The headers of a JavaScript `Request` or `Response`: {lower-case name: value}."""
    return js.Map.new(message.headers).to_py()


def to_js_object(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
    """Convert a dict to a JavaScript object, or a list of dicts to an array of such objects.

    Nested dicts and lists are converted in the same way, tuples become arrays, and bytes become a
    Uint8Array. JavaScript objects in them are kept.
    """
    # Without the converter a dict becomes a JavaScript Map, which `fetch` cannot read.
    return to_js(value, dict_converter=js.Object.fromEntries)
