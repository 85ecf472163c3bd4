"""The platform's side: fetch, timers, waitUntil, gzip, the queue and the cache. Its replies and
their streams are in `reply`."""

import asyncio
import functools
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import js
from pyodide.ffi import JsException, jsnull, to_js

from cloudflare.bindings import CloudflareCache, RateLimit, trace_queue_binding
from cloudflare.reply import (
    CloudflareReply,
    byob_reader,
    headers_to_dict,
    read_at_least,
    to_js_object,
)
from core.limits import (
    MAX_UPLOAD_RESPONSE_BYTES,
    QUEUE_SEND_TIMEOUT_SECONDS,
    USUAL_UPLOAD_RESPONSE_BYTES,
)
from core.strict_json import decode_utf8
from core.types import (
    BodyTooLarge,
    Call,
    GatewayResponse,
    HttpResponse,
    NetworkError,
    UpstreamCall,
    UpstreamTimeout,
)
from gateway.request_id import choose_request_id
from redaction.logs import describe_error, log

CACHED_HEADERS = ("content-type", "content-length")  # of a cached reply


class CloudflareIsolate:
    """What any job can use: what `delivery.Platform` asks for. `queue` is the binding of one."""

    def __init__(self, queue: Any) -> None:
        self.queue = CloudflareQueue(queue) if queue else None

    def now(self) -> float:
        return time.time()

    def random(self) -> float:
        return js.Math.random()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> HttpResponse:
        init = {
            "method": method,
            "headers": headers,
            "redirect": "manual",
            "signal": js.AbortSignal.timeout(max(1, int(timeout * 1000))),
        }
        if body:
            init["body"] = to_js(body)
        try:
            fetching = js.fetch(url, to_js_object(init))
            # An answer may take long, and an error keeps what is here for even longer.
            del body, init
            response = await fetching
            answer = await _read_short_response(response.body)
            # Nobody asks for those of a success.
            headers = {} if response.ok else headers_to_dict(response)
            return HttpResponse(response.status, headers, decode_utf8(answer))
        except BodyTooLarge:
            raise NetworkError(
                f"an answer of more than {MAX_UPLOAD_RESPONSE_BYTES} bytes"
            ) from None
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
        reader = byob_reader(stream)
        try:
            result = await reader.readAtLeast(size + 1, js.Uint8Array.new(size + 1))
            if result.value.byteLength == size:
                return result.value.to_bytes()
            await reader.cancel()
        except JsException as error:
            raise ValueError(error.message) from error
        raise ValueError("another length than it says")


class CloudflareRequest(CloudflareIsolate):
    """One request's platform: what `gateway.Platform` asks for."""

    def __init__(self, request: Any, ctx: Any, env: Any) -> None:
        super().__init__(trace_queue_binding(env))
        self.request = request
        self.ctx = ctx
        # The URL as the runtime reads it, without "." and ".." in its path.
        url = js.URL.new(request.url)
        headers, query = headers_to_dict(request), url.search[1:]
        self.call = Call(
            request.method, url.pathname, query, headers, choose_request_id(headers, query)
        )
        self.env = env
        self.url = url
        self.outlives_client = False

    async def read_body(self, limit: int) -> "CloudflareRequestBody":
        length = self.call.headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            raise BodyTooLarge
        try:
            if length.isdigit():
                return CloudflareRequestBody(await self.request.arrayBuffer())
            return CloudflareRequestBody(await _read_unsized_body(self.request.body, limit))
        except JsException as error:
            raise NetworkError(error.message) from error

    async def fetch(
        self, upstream: UpstreamCall, body: "CloudflareRequestBody | None", timeout: float | None
    ) -> CloudflareReply:
        init = {"method": upstream.method, "headers": upstream.headers, "redirect": "manual"}
        abort = None
        if self.outlives_client or timeout:
            # What goes on after the reply outlives a client that leaves, so the provider has to be
            # told. The runtime leaves the request's own signal out of a fetch, but not one made
            # from it.
            abort = js.AbortController.new()
            init["signal"] = js.AbortSignal.any(to_js([self.request.signal, abort.signal]))
        if body is not None:
            init["body"] = body.buffer
        elif upstream.method not in ("GET", "HEAD"):
            init["body"] = self.request.body
        fetching = js.fetch(upstream.url, to_js_object(init))
        try:
            # Until the reply begins, and no longer: a stream may take any time.
            response = await (asyncio.wait_for(fetching, timeout) if timeout else fetching)
        except TimeoutError:
            if abort:
                abort.abort()
            raise UpstreamTimeout(f"no reply in {timeout:g} s") from None
        except JsException as error:
            raise NetworkError(error.message) from error
        return CloudflareReply(response, self, abort)

    async def is_within_rate_limit(self, name: str) -> bool:
        limit = RateLimit(getattr(self.env, "RATE_LIMIT", None), self.call.request_id)
        return await limit.is_allowed(name)

    @functools.cached_property
    def cache(self) -> CloudflareCache:
        """What is kept for the host that the request is for; most requests do not ask for it."""
        return CloudflareCache(js.caches, self.url.hostname, self.call.request_id)

    @property
    def is_cache_enabled(self) -> bool:
        return self.cache.enabled

    async def read_cache(self, key: str) -> CloudflareReply | None:
        found = await self.cache.match(key)
        if found is None:
            return None
        # The others of its headers are the cache's own, and none of the client's business.
        headers = {n: v for n, v in headers_to_dict(found).items() if n in CACHED_HEADERS}
        init = to_js_object({"status": found.status, "headers": headers})
        return CloudflareReply(js.Response.new(found.body, init), self, None)

    async def write_cache(
        self, key: str, status: int, content_type: str, body: bytes, max_age: int
    ) -> None:
        data = to_js(body) if body else None
        headers = {"content-type": content_type, "cache-control": f"max-age={max_age}"}
        response = js.Response.new(data, to_js_object({"status": status, "headers": headers}))
        await self.cache.put(key, response)

    def client_left(self) -> bool:
        return self.request.signal.aborted

    def run_after_response(self, name: str, job: Coroutine[Any, Any, None]) -> None:
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
                    error=describe_error(error),
                )

        self.outlives_client = True
        self.ctx.waitUntil(run())


class CloudflareQueue:
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
            await asyncio.wait_for(
                self.binding.sendBatch(to_js_object(messages)), QUEUE_SEND_TIMEOUT_SECONDS
            )
        except TimeoutError:
            raise NetworkError("no answer") from None
        except JsException as error:
            raise NetworkError(error.message) from error


class CloudflareRequestBody:
    """A request's body in JavaScript's memory."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        self.size_bytes: int = buffer.byteLength

    def read(self, limit: int, start: int = 0) -> bytes:
        whole = start == 0 and self.size_bytes <= limit
        buffer = self.buffer if whole else self.buffer.slice(start, start + limit)
        return buffer.to_bytes()

    def truncate(self, limit: int) -> None:
        if self.size_bytes > limit:
            self.buffer = self.buffer.slice(0, limit)

    def with_content(self, data: bytes) -> "CloudflareRequestBody":
        return CloudflareRequestBody(to_js(data).buffer)


def to_js_response(answer: GatewayResponse) -> Any:
    """A JavaScript Response of an answer of the gateway's own."""
    headers = (*answer.headers, ("content-type", answer.content_type))
    body = answer.body if answer.body else None
    return js.Response.new(body, to_js_object({"status": answer.status, "headers": headers}))


async def _read_short_response(stream: Any) -> bytes:
    """All of an answer; nearly always in one read. Raises `BodyTooLarge`."""
    answer = b""
    if stream is not jsnull:
        reader, size = byob_reader(stream), USUAL_UPLOAD_RESPONSE_BYTES
        while piece := await read_at_least(reader, size, size):
            answer += piece
            if len(answer) > MAX_UPLOAD_RESPONSE_BYTES:
                await reader.cancel()
                raise BodyTooLarge
            if len(piece) < size:
                break
            size = 4 * USUAL_UPLOAD_RESPONSE_BYTES
    return answer


async def _read_unsized_body(stream: Any, limit: int) -> Any:
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
