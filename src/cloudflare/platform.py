"""The platform of an isolate and of one request: fetch, timers, `waitUntil`, gzip, queue and cache.

The classes implement the protocols of `core.platform`, where the methods are documented. A
provider's reply and its streams are in `cloudflare.reply`.
"""

import asyncio
import functools
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, cast

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
from core.platform import RequestBody
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
from redaction.logs import RequestLog, describe_error

# The headers of a cached reply that are sent to the client.
CACHED_HEADERS = ("content-type", "content-length")


class CloudflareIsolate:
    """What any job of an isolate uses of the runtime: the `IsolatePlatform` of `core.platform`. The
    parameter `queue` is the binding of the queue for traces, None where none is bound."""

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
            # Release the memory: the response may take long, and the traceback of an error keeps
            # this function's variables for even longer.
            del body, init
            response = await fetching
            data = await _read_short_response(response.body)
            # Only the headers of a failure are used; reading them costs a call into JavaScript.
            headers = {} if response.ok else headers_to_dict(response)
            return HttpResponse(response.status, headers, decode_utf8(data))
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
        # The last four bytes of gzip data are its unpacked size, so that one native read gets all
        # of it. The read requests one byte more, which arrives only where that size is wrong.
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
    """What one request of a client uses of the runtime: the `RequestPlatform` of `core.platform`.

    `request` is the JavaScript `Request`; `ctx` and `env` are those of the Worker. `call` is the
    request without its body, `url` its parsed URL, and `log` its log. `outlives_client` becomes
    True when a job has been started that continues after the response.
    """

    def __init__(self, request: Any, ctx: Any, env: Any) -> None:
        super().__init__(trace_queue_binding(env))
        self.request = request
        self.ctx = ctx
        # The runtime's parser resolves "." and ".." in the path.
        url = js.URL.new(request.url)
        headers, query = headers_to_dict(request), url.search[1:]
        self.call = Call(
            request.method, url.pathname, query, headers, choose_request_id(headers, query)
        )
        self.log = RequestLog(self.call)
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
        self, upstream: UpstreamCall, body: RequestBody | None, timeout: float | None
    ) -> CloudflareReply:
        init = {"method": upstream.method, "headers": upstream.headers, "redirect": "manual"}
        abort_controller = None
        if self.outlives_client or timeout:
            # While a job continues after the response, the runtime does not end the call to the
            # provider when the client leaves: the signal has to. The runtime ignores the request's
            # own signal in a fetch, but not one that is derived from it.
            abort_controller = js.AbortController.new()
            init["signal"] = js.AbortSignal.any(
                to_js([self.request.signal, abort_controller.signal])
            )
        if body is not None:
            init["body"] = cast("CloudflareRequestBody", body).buffer  # as `read_body` returns it
        elif upstream.method not in ("GET", "HEAD"):
            init["body"] = self.request.body
        fetching = js.fetch(upstream.url, to_js_object(init))
        try:
            # The timeout ends when the head of the reply arrives: a stream may take any time.
            response = await (asyncio.wait_for(fetching, timeout) if timeout else fetching)
        except TimeoutError:
            if abort_controller:
                abort_controller.abort()
            raise UpstreamTimeout(f"no reply in {timeout:g} s") from None
        except JsException as error:
            raise NetworkError(error.message) from error
        return CloudflareReply(response, self, abort_controller)

    async def is_within_rate_limit(self, name: str) -> bool:
        """Count one call for `name`, the name of a gateway key, and return whether it is within the
        rate limit that the deployment binds as `RATE_LIMIT`. Also True where it binds none, and
        where the rate limit fails."""
        limit = RateLimit(getattr(self.env, "RATE_LIMIT", None), self.log)
        return await limit.is_allowed(name)

    @functools.cached_property
    def cache(self) -> CloudflareCache:
        """The cache for the host that the request is for. Made on first use, since most requests
        use none."""
        return CloudflareCache(js.caches, self.url.hostname, self.log)

    @property
    def is_cache_enabled(self) -> bool:
        return self.cache.enabled

    async def read_cache(self, key: str) -> CloudflareReply | None:
        cached = await self.cache.match(key)
        if cached is None:
            return None
        # The cache adds headers of its own, which are not sent to the client.
        headers = {
            name: value for name, value in headers_to_dict(cached).items() if name in CACHED_HEADERS
        }
        init = to_js_object({"status": cached.status, "headers": headers})
        return CloudflareReply(js.Response.new(cached.body, init), self, None)

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
                return  # the request failed, and its own failure is reported
            except Exception as error:  # of any kind: no other code receives a job's exception
                self.log("job_failed", job=name, error=describe_error(error))

        self.outlives_client = True
        self.ctx.waitUntil(run())


class CloudflareQueue:
    """The producer's end of the queue for traces: the `TraceQueue` of `core.platform`. `binding` is
    the Worker's binding of the queue.

    https://developers.cloudflare.com/queues/configuration/javascript-apis/
    """

    def __init__(self, binding: Any) -> None:
        self.binding = binding

    async def send(self, bodies: Sequence[str | bytes]) -> None:
        """Put messages with these bodies into the queue, either all or none of them. The queue
        accepts at most 100 messages and 256 KB at once. Raises `NetworkError` where it refuses the
        messages, or does not answer within `QUEUE_SEND_TIMEOUT_SECONDS`."""
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
    """The body of a client's request, an ArrayBuffer in JavaScript's memory: the `RequestBody` of
    `core.platform`."""

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


def to_js_response(response: GatewayResponse) -> Any:
    """Convert a response of the gateway's own to a JavaScript `Response`."""
    headers = (*response.headers, ("content-type", response.content_type))
    body = response.body if response.body else None
    return js.Response.new(body, to_js_object({"status": response.status, "headers": headers}))


async def _read_short_response(stream: Any) -> bytes:
    """Read the whole body of a response to an upload, nearly always with a single read. `stream` is
    the body, a ReadableStream, or `jsnull` where there is none.

    Raises `BodyTooLarge` for more than `MAX_UPLOAD_RESPONSE_BYTES`, and `JsException` where the
    stream fails.
    """
    data = b""
    if stream is not jsnull:
        reader, size = byob_reader(stream), USUAL_UPLOAD_RESPONSE_BYTES
        while chunk := await read_at_least(reader, size, size):
            data += chunk
            if len(data) > MAX_UPLOAD_RESPONSE_BYTES:
                await reader.cancel()
                raise BodyTooLarge
            if len(chunk) < size:
                break
            size = 4 * USUAL_UPLOAD_RESPONSE_BYTES
    return data


async def _read_unsized_body(stream: Any, limit: int) -> Any:
    """Read the body of a request without `content-length` into a JavaScript ArrayBuffer. `stream`
    is the body, a ReadableStream, or `jsnull` where there is none.

    The bytes are counted as they arrive, since nothing else limits them. Raises `BodyTooLarge` for
    more than `limit` bytes, and `JsException` where the stream fails.
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
