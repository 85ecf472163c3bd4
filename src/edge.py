"""The platform's side: fetch, streams, timers, waitUntil, gzip, the queue and the cache.

A reply is never copied through Python on its way to the client. Two native pumps, each through an
`IdentityTransformStream`, carry the two branches of its body, since a branch of a `tee` that is
read directly stalls the other one; the captured branch is drained in a handful of growing reads.
https://developers.cloudflare.com/workers/runtime-apis/streams/
"""

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import Any

import js
from pyodide.ffi import JsException, jsnull, to_js

import strict_json
from bindings import Cache, RateLimit, trace_queue
from logs import describe, log
from memory import Hold
from vocabulary import (
    Answer,
    BodyTooLarge,
    Call,
    Capture,
    Ending,
    NetworkError,
    Received,
    UpstreamCall,
)

# The first read of a captured branch takes the first chunk, whose time matters; each further one
# waits for twice as much as the one before, so that a long stream costs few calls into Python. The
# buffer of a read takes memory for as long as it waits.
FIRST_READ, LARGEST_READ = 8 * 1024, 32 * 1024
# Langfuse's answer to a batch is short; one that is not comes from something else.
LARGEST_ANSWER = 1024 * 1024
# Seconds. A job that the platform ends does not give back what it holds.
LONGEST_SEND = 3.0
# What the runtime decodes when a body is read; it passes any other encoding on as it is.
DECODED = ("gzip", "br")
KEPT_HEADERS = ("content-type", "content-length")  # of a cached reply


class Isolate:
    """What any job can use: what `delivery.Platform` asks for. `queue` is the binding of one."""

    def __init__(self, queue: Any) -> None:
        self.queue = Queue(queue) if queue else None

    def now(self) -> float:
        return time.time()

    def random(self) -> float:
        return js.Math.random()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> Received:
        init = {
            "method": method,
            "headers": headers,
            "redirect": "manual",
            "signal": js.AbortSignal.timeout(max(1, int(timeout * 1000))),
        }
        if body:
            init["body"] = to_js(body)
        try:
            fetching = js.fetch(url, _object(init))
            # An answer may take long, and an error keeps what is here for even longer.
            del body, init
            response = await fetching
            read = await _read(response.body, LARGEST_ANSWER)
            text = strict_json.text_of(read.to_bytes())
            return Received(response.status, _headers(response.headers), text)
        except BodyTooLarge:
            raise NetworkError(f"an answer of more than {LARGEST_ANSWER} bytes") from None
        except JsException as error:
            raise NetworkError(error.message) from error

    async def gzip(self, data: bytes) -> bytes:
        stream = js.Blob.new(to_js([data])).stream()
        stream = stream.pipeThrough(js.CompressionStream.new("gzip"))
        return (await js.Response.new(stream).arrayBuffer()).to_bytes()

    async def gunzip(self, data: bytes, limit: int) -> bytes:
        # Its last four bytes say how long it is unpacked, so that one native read takes it whole.
        size = int.from_bytes(data[-4:], "little")
        if size > limit:
            raise ValueError(f"more than {limit} bytes")
        stream = js.Blob.new(to_js([data])).stream()
        stream = stream.pipeThrough(js.DecompressionStream.new("gzip"))
        reader = stream.getReader(_object({"mode": "byob"}))
        try:
            result = await reader.readAtLeast(size + 1, js.Uint8Array.new(size + 1))
            if result.value.byteLength == size:
                return result.value.to_bytes()
            await reader.cancel()
        except JsException as error:
            raise ValueError(error.message) from error
        raise ValueError("another length than it says")


class Edge(Isolate):
    """One request's platform: what `gateway.Platform` asks for."""

    def __init__(self, request: Any, ctx: Any, env: Any) -> None:
        super().__init__(trace_queue(env))
        self.request = request
        self.ctx = ctx
        self.abort: Any = None
        # The URL as the runtime reads it, without "." and ".." in its path.
        url = js.URL.new(request.url)
        self.call = Call(request.method, url.pathname, url.search[1:], _headers(request.headers))
        self.rate_limit = RateLimit(getattr(env, "RATE_LIMIT", None))
        self.cache = Cache(js.caches, url.hostname)

    async def read_body(self, limit: int) -> "Body":
        length = self.call.headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            raise BodyTooLarge
        try:
            if length.isdigit():
                return Body(await self.request.arrayBuffer())
            return Body(await _read(self.request.body, limit))
        except JsException as error:
            raise NetworkError(error.message) from error

    async def fetch(self, upstream: UpstreamCall, body: "Body | None") -> "Reply":
        init = {"method": upstream.method, "headers": upstream.headers, "redirect": "manual"}
        if body is not None:
            # A request that is traced outlives its client, so the provider has to be told. The
            # runtime leaves the request's own signal out of a fetch, but not one made from it.
            self.abort = js.AbortController.new()
            signals = [self.request.signal, self.abort.signal]
            init["signal"] = js.AbortSignal.any(to_js(signals))
            init["body"] = body.buffer
        elif upstream.method not in ("GET", "HEAD"):
            init["body"] = self.request.body
        try:
            return Reply(await js.fetch(upstream.url, _object(init)), self)
        except JsException as error:
            raise NetworkError(error.message) from error

    async def within_limit(self, name: str) -> bool:
        return await self.rate_limit.allows(name)

    @property
    def cache_enabled(self) -> bool:
        return self.cache.enabled

    async def cached(self, key: str) -> "Reply | None":
        found = await self.cache.match(key)
        if found is None:
            return None
        # The others of its headers are the cache's own, and none of the client's business.
        headers = {n: v for n, v in _headers(found.headers).items() if n in KEPT_HEADERS}
        init = _object({"status": found.status, "headers": headers})
        return Reply(js.Response.new(found.body, init), self)

    async def keep_cached(
        self, key: str, status: int, content_type: str, body: bytes, max_age: int
    ) -> None:
        data = to_js(body) if body else None
        headers = {"content-type": content_type, "cache-control": f"max-age={max_age}"}
        response = js.Response.new(data, _object({"status": status, "headers": headers}))
        await self.cache.put(key, response)

    def client_left(self) -> bool:
        return self.request.signal.aborted

    def run_after(self, name: str, job: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await job
            except asyncio.CancelledError:
                return  # by a request that failed, and said so
            except Exception as error:  # a job's last resort: nobody else would hear of it
                log("job_failed", job=name, error=describe(error))

        self.ctx.waitUntil(run())


class Queue:
    """The producer's end of a queue, made from its binding.

    https://developers.cloudflare.com/queues/configuration/javascript-apis/
    """

    def __init__(self, binding: Any) -> None:
        self.binding = binding

    async def send(self, bodies: Sequence[str | bytes]) -> None:
        """Put messages into the queue: at most 100, and 256 KB. Raises `NetworkError`."""
        messages = [
            {"body": body, "contentType": "text" if isinstance(body, str) else "bytes"}
            for body in bodies
        ]
        try:
            await asyncio.wait_for(self.binding.sendBatch(_object(messages)), LONGEST_SEND)
        except TimeoutError:
            raise NetworkError("no answer") from None
        except JsException as error:
            raise NetworkError(error.message) from error


class Body:
    """A request's body in JavaScript's memory."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        self.size: int = buffer.byteLength

    def read(self, limit: int, start: int = 0) -> bytes:
        whole = start == 0 and self.size <= limit
        buffer = self.buffer if whole else self.buffer.slice(start, start + limit)
        return buffer.to_bytes()

    def keep(self, limit: int) -> None:
        if self.size > limit:
            self.buffer = self.buffer.slice(0, limit)

    def replaced(self, data: bytes) -> "Body":
        return Body(to_js(data).buffer)


class Reply:
    """A provider's response, or a cached one: its head is there, its body on the way."""

    def __init__(self, response: Any, edge: Edge) -> None:
        self.response = response
        self.edge = edge

    def relay(self, headers: tuple[tuple[str, str], ...]) -> Any:
        # Raises `NetworkError` for what no response can be made of, such as a status of 999.
        return _response(self.response.body, self.response, headers)

    def relay_captured(
        self, headers: tuple[tuple[str, str], ...], limit: int, hold: Hold
    ) -> tuple[Any, Awaitable[Capture]]:
        if self.response.body is jsnull:
            return self.relay(headers), _Recorder(self, hold).without_body()
        to_client, to_trace = self.response.body.tee()
        encoding = self.response.headers.get("content-encoding")
        length = self.response.headers.get("content-length")
        sized = encoding is jsnull and length is not jsnull and length.isdigit()
        sized = sized and self.response.headers.get("transfer-encoding") is jsnull
        if sized:
            client = js.FixedLengthStream.new(int(length))
        else:
            client = js.IdentityTransformStream.new()
        copy = js.IdentityTransformStream.new()
        sent = to_client.pipeTo(client.writable)
        copied = to_trace.pipeTo(copy.writable, _object({"preventAbort": True}))
        response = _response(client.readable, self.response, headers)
        if encoding in DECODED:
            response.headers.delete("content-encoding")
            response.headers.delete("content-length")
        return response, _Recorder(self, hold).record(sent, copied, copy, limit)


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
        not_sent, not_copied, _ = await asyncio.gather(
            self._follow_client(sent),
            self._follow_copy(copied, copy.writable),
            self._drain(copy.readable, limit),
        )
        # Once the limit has ended the copy, only the client's branch knows how the reply ended.
        error = not_sent if self.cut else not_copied or not_sent
        if error is None:
            return self._capture(Ending.COMPLETE)
        left = error.name == "AbortError" or (error is not_sent and self.reply.edge.client_left())
        return self._capture(Ending.CLIENT_LEFT if left else Ending.CUT, error.message)

    async def _follow_client(self, sent: Any) -> JsException | None:
        try:
            await sent
        except JsException as error:
            # The provider should not go on for nobody. After the provider's own failure this is
            # without effect, and a cached reply has none.
            if self.reply.edge.abort:
                self.reply.edge.abort.abort()
            return error
        return None

    async def _follow_copy(self, copied: Any, writable: Any) -> JsException | None:
        try:
            await copied
        except JsException as error:
            if self.cut:
                return None
            # Closing hands the drain what had arrived.
            await writable.getWriter().close()
            return error
        finally:
            self.ended = time.time()
        return None

    async def _drain(self, readable: Any, limit: int) -> None:
        reader = readable.getReader(_object({"mode": "byob"}))
        size = min(FIRST_READ, limit + 1)
        piece = _bytes(await reader.read(js.Uint8Array.new(size)))
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
            size = min(2 * size, LARGEST_READ, limit + 1 - self.size)
            piece = _bytes(await reader.readAtLeast(size, js.Uint8Array.new(size)))

    def _capture(self, ending: Ending, reason: str = "") -> Capture:
        response = self.reply.response
        content_type = response.headers.get("content-type")
        return Capture(
            ending=ending,
            ended=self.ended or time.time(),
            status=response.status,
            content_type="" if content_type is jsnull else content_type,
            body=b"".join(self.pieces),
            cut=self.cut,
            first_byte=self.first_byte,
            reason=reason,
        )


def _bytes(result: Any) -> bytes | None:
    """What a reader has read; None at the end. The result itself should not outlive this, since
    the next read may have to wait for long, and each has a buffer."""
    return None if result.done else result.value.to_bytes()


def to_response(answer: Answer) -> Any:
    """A JavaScript Response of an answer of the gateway's own."""
    headers = (*answer.headers, ("content-type", answer.content_type))
    body = answer.body if answer.body else None
    return js.Response.new(body, _object({"status": answer.status, "headers": headers}))


def _response(body: Any, original: Any, headers: tuple[tuple[str, str], ...]) -> Any:
    # Made from the original, a response keeps its status and all its headers, repeated ones too.
    try:
        response = js.Response.new(body, original)
    except JsException as error:
        raise NetworkError(f"a reply that cannot be passed on: {error.message}") from error
    for name, value in headers:
        response.headers.set(name, value)
    return response


async def _read(stream: Any, limit: int) -> Any:
    """A stream of unknown length as an ArrayBuffer; only counting as it comes in bounds it.

    Raises `BodyTooLarge`.
    """
    chunks, size = js.Array.new(), 0
    if stream is not jsnull:
        reader = stream.getReader()
        while not (result := await reader.read()).done:
            size += result.value.byteLength
            if size > limit:
                await reader.cancel()
                raise BodyTooLarge
            chunks.push(result.value)
    return await js.Blob.new(chunks).arrayBuffer()


def _headers(headers: Any) -> dict[str, str]:
    return dict(js.Array.from_(headers).to_py())


def _object(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
    # Without the converter a dict arrives in JavaScript as a Map, which fetch does not understand.
    return to_js(value, dict_converter=js.Object.fromEntries)
