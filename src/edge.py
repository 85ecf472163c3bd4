"""The platform's side: fetch, timers, waitUntil, gzip, the queue and the cache. Its replies and
their streams are in `reply`."""

import asyncio
import functools
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import js
from pyodide.ffi import JsException, jsnull, to_js

import strict_json
from bindings import Cache, RateLimit, trace_queue
from logs import describe, log, request_id
from reply import Reply, as_object, headers_of, read, reader_of
from vocabulary import (
    Answer,
    BodyTooLarge,
    Call,
    NetworkError,
    Received,
    TimedOut,
    UpstreamCall,
)

# Langfuse's answer to a batch is short; one that is not comes from something else.
USUAL_ANSWER, LARGEST_ANSWER = 16 * 1024, 1024 * 1024
# Seconds. A job that the platform ends does not give back what it holds.
LONGEST_SEND = 3.0
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
            fetching = js.fetch(url, as_object(init))
            # An answer may take long, and an error keeps what is here for even longer.
            del body, init
            response = await fetching
            answer = await _answer(response.body)
            # Nobody asks for those of a success.
            headers = {} if response.ok else headers_of(response)
            return Received(response.status, headers, strict_json.text_of(answer))
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
        reader = reader_of(stream)
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
        # The URL as the runtime reads it, without "." and ".." in its path.
        url = js.URL.new(request.url)
        headers, query = headers_of(request), url.search[1:]
        self.call = Call(request.method, url.pathname, query, headers, request_id(headers, query))
        self.env = env
        self.url = url
        self.goes_on = False

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

    async def fetch(
        self, upstream: UpstreamCall, body: "Body | None", timeout: float | None
    ) -> Reply:
        init = {"method": upstream.method, "headers": upstream.headers, "redirect": "manual"}
        abort = None
        if self.goes_on or timeout:
            # What goes on after the reply outlives a client that leaves, so the provider has to be
            # told. The runtime leaves the request's own signal out of a fetch, but not one made
            # from it.
            abort = js.AbortController.new()
            init["signal"] = js.AbortSignal.any(to_js([self.request.signal, abort.signal]))
        if body is not None:
            init["body"] = body.buffer
        elif upstream.method not in ("GET", "HEAD"):
            init["body"] = self.request.body
        fetching = js.fetch(upstream.url, as_object(init))
        try:
            # Until the reply begins, and no longer: a stream may take any time.
            response = await (asyncio.wait_for(fetching, timeout) if timeout else fetching)
        except TimeoutError:
            if abort:
                abort.abort()
            raise TimedOut(f"no reply in {timeout:g} s") from None
        except JsException as error:
            raise NetworkError(error.message) from error
        return Reply(response, self, abort)

    async def within_limit(self, name: str) -> bool:
        limit = RateLimit(getattr(self.env, "RATE_LIMIT", None), self.call.request_id)
        return await limit.allows(name)

    @functools.cached_property
    def cache(self) -> Cache:
        """What is kept for the host that the request is for; most requests do not ask for it."""
        return Cache(js.caches, self.url.hostname, self.call.request_id)

    @property
    def cache_enabled(self) -> bool:
        return self.cache.enabled

    async def cached(self, key: str) -> Reply | None:
        found = await self.cache.match(key)
        if found is None:
            return None
        # The others of its headers are the cache's own, and none of the client's business.
        headers = {n: v for n, v in headers_of(found).items() if n in KEPT_HEADERS}
        init = as_object({"status": found.status, "headers": headers})
        return Reply(js.Response.new(found.body, init), self, None)

    async def keep_cached(
        self, key: str, status: int, content_type: str, body: bytes, max_age: int
    ) -> None:
        data = to_js(body) if body else None
        headers = {"content-type": content_type, "cache-control": f"max-age={max_age}"}
        response = js.Response.new(data, as_object({"status": status, "headers": headers}))
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
                log(
                    "job_failed",
                    request_id=self.call.request_id,
                    job=name,
                    error=describe(error),
                )

        self.goes_on = True
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
            await asyncio.wait_for(self.binding.sendBatch(as_object(messages)), LONGEST_SEND)
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


def to_response(answer: Answer) -> Any:
    """A JavaScript Response of an answer of the gateway's own."""
    headers = (*answer.headers, ("content-type", answer.content_type))
    body = answer.body if answer.body else None
    return js.Response.new(body, as_object({"status": answer.status, "headers": headers}))


async def _answer(stream: Any) -> bytes:
    """All of an answer; nearly always in one read. Raises `BodyTooLarge`."""
    answer = b""
    if stream is not jsnull:
        reader, size = reader_of(stream), USUAL_ANSWER
        while piece := await read(reader, size, size):
            answer += piece
            if len(answer) > LARGEST_ANSWER:
                await reader.cancel()
                raise BodyTooLarge
            if len(piece) < size:
                break
            size = 4 * USUAL_ANSWER
    return answer


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
