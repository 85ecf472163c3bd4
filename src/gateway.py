"""The story of a request, written against the platform as a set of small promises.

A call is checked, planned and fetched; the provider's reply goes straight back. For a traced
endpoint a second branch of the reply is captured meanwhile, and after the reply has ended it
becomes one Langfuse observation. Nothing that the client waits for waits for tracing.
"""

import asyncio
import json
from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol

import addresses
import context
import delivery
import errors
import keys
import memory
import providers
import redaction
import rewriting
import tracing
from config import VERSION, Destination, Settings
from logs import log
from vocabulary import (
    Answer,
    BodyTooLarge,
    Call,
    Capture,
    Ending,
    NetworkError,
    Refusal,
    UpstreamCall,
)

# Where a stream carries its usage only if the request asks for it.
STREAM_USAGE_ENDPOINT = "/v1/chat/completions"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# A body is searched for a model with a provider's name piece by piece, so that Python never holds a
# large one whole; the pieces overlap by more than such a name takes.
PIECE, OVERLAP = 256 * 1024, 256
_WHERE_NAMED = "the model's provider. Name it in x-portkey-provider instead of in the model."


class Body(Protocol):
    """A request's body, held by the platform."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def read(self, limit: int, start: int = 0) -> bytes:
        """At most `limit` bytes from `start` on."""
        ...

    def keep(self, limit: int) -> None:
        """Let go of all but the first `limit` bytes; `size` stays."""
        ...

    def replaced(self, data: bytes) -> "Body":
        """A body of these bytes."""
        ...


class Reply(Protocol):
    """A provider's response, held by the platform."""

    def relay(self, headers: tuple[tuple[str, str], ...]) -> Any:
        """The client's response: the provider's own, with `headers` added.

        Raises `NetworkError` for a reply that cannot be passed on.
        """
        ...

    def relay_captured(
        self, headers: tuple[tuple[str, str], ...], limit: int, hold: memory.Hold
    ) -> tuple[Any, Awaitable[Capture]]:
        """The same, and a capture of at most `limit` bytes of it, and as many as `hold` can take.
        The capture never fails."""
        ...


class Platform(delivery.Platform, Protocol):
    """What the gateway asks of the runtime, for one request."""

    async def read_body(self, limit: int) -> Body:
        """The request's body. Raises `BodyTooLarge`."""
        ...

    async def fetch(self, upstream: UpstreamCall, body: Any) -> Reply:
        """Call the provider with a body from `read_body`, or with None stream the request's own.

        Raises `NetworkError`.
        """
        ...

    def client_left(self) -> bool:
        """Whether the client is known to have closed the connection."""
        ...

    def run_after(self, name: str, job: Coroutine[Any, Any, None]) -> None:
        """Let a job go on after the response; log its failure under its name."""
        ...


async def handle(call: Call, settings: Settings, platform: Platform) -> Any:
    """Answer a call: with an `Answer` of the gateway's own, or with the platform's response."""
    if call.method == "OPTIONS":
        return Answer(204, "", headers=(("allow", ", ".join(METHODS)),))
    if call.method not in METHODS:
        refusal = Refusal(405, f"The gateway does not know the method {call.method[:32]}.")
        return errors.answer(refusal, call.path, (("allow", ", ".join(METHODS)),))
    if call.path in ("/", "/health"):
        return _about(call, settings)
    refusal = _refuse(call, settings)
    if refusal:
        return errors.answer(refusal, call.path)
    body, model = None, ""
    if call.method == "POST" and call.path in settings.traced_endpoints:
        body = await _read_body(settings, platform)
        if isinstance(body, Refusal):
            return errors.answer(body, call.path)
        model = _routed_model(call, body, settings)
        if isinstance(model, Refusal):
            return errors.answer(model, call.path)
    upstream = providers.plan(call, settings.routing, model)
    if isinstance(upstream, Refusal):
        return errors.answer(upstream, call.path)
    if body and upstream.routed_model:
        body = body.replaced(rewriting.without_provider(body.read(body.size)))
    if body is None or settings.destination is None:
        return await _proxy(call, upstream, body, platform)
    return await _proxy_traced(call, upstream, body, settings.destination, settings, platform)


def _about(call: Call, settings: Settings) -> Answer:
    if call.method not in ("GET", "HEAD"):
        refusal = Refusal(405, f"{call.path} answers GET.")
        return errors.answer(refusal, call.path, (("allow", "GET, HEAD"),))
    if call.path == "/":
        text = (
            f"This is an AI gateway, version {VERSION}. Point an OpenAI or Anthropic SDK at it.\n"
        )
        return Answer(200, text, "text/plain; charset=utf-8")
    status: dict[str, Any] = {
        "status": "misconfigured" if settings.problem else "ok",
        "version": VERSION,
        "tracing": settings.destination is not None,
    }
    # Where there are no keys to show, nobody is known to run this gateway.
    known = settings.gateway_keys and not keys.refuse(call, settings.gateway_keys)
    if known and settings.destination:
        status["delivery"] = delivery.outbox(settings.destination, settings).state()
    return Answer(200, json.dumps(status))


def _refuse(call: Call, settings: Settings) -> Refusal | None:
    if settings.problem:
        return Refusal(500, f"This gateway is misconfigured: {settings.problem}.")
    refusal = keys.refuse(call, settings.gateway_keys)
    if refusal:
        return refusal
    if not call.path.startswith(providers.PREFIX):
        return Refusal(404, f"There is no {call.path[:128]} here. Paths start with /v1/.")
    if not addresses.is_safe_path(call.path):
        return Refusal(
            400, 'The path must have no empty part, no "..", no backslash and no control character.'
        )
    if call.headers.get("upgrade", "").lower() == "websocket":
        return Refusal(501, "The gateway does not proxy WebSockets. Use HTTP streaming instead.")
    return None


async def _read_body(settings: Settings, platform: Platform) -> Body | Refusal:
    limit = settings.max_request_bytes
    try:
        body = await platform.read_body(limit)
    except BodyTooLarge:
        return Refusal(413, f"The request's body is over the gateway's limit of {limit} bytes.")
    except NetworkError:
        return Refusal(400, "The request's body broke off.")
    return body if body.size else Refusal(400, "The request has no body. Send a JSON object.")


def _routed_model(call: Call, body: Body, settings: Settings) -> str | Refusal:
    """The body's model if it may name a provider, else "". Other bodies are not parsed here."""
    pieces = (body.read(PIECE + OVERLAP, start) for start in range(0, body.size, PIECE))
    if not any(map(rewriting.may_name_provider, pieces)):
        return ""
    # What can't be read may have named a provider, and its credential must not go to another one.
    if body.size > settings.max_capture_bytes:
        refusal = Refusal(413, f"The body is too large to find {_WHERE_NAMED}")
    else:
        try:
            return rewriting.routed_model(body.read(body.size))
        except ValueError:
            refusal = Refusal(400, f"The body is no JSON in which to find {_WHERE_NAMED}")
    return "" if providers.named(call) else refusal


async def _proxy(call: Call, upstream: UpstreamCall, body: Body | None, platform: Platform) -> Any:
    """Send a call on and hand its reply back, and look at neither."""
    try:
        reply = await platform.fetch(upstream, body)
        return reply.relay((("x-portkey-provider", upstream.provider),))
    except NetworkError as error:
        return _unreachable(call, upstream, error, platform)


async def _proxy_traced(
    call: Call,
    upstream: UpstreamCall,
    body: Body,
    destination: Destination,
    settings: Settings,
    platform: Platform,
) -> Any:
    """The same, and let the exchange become an observation once it has ended."""
    said = context.read(call.headers)
    if tracing.content_mode(said, settings) == "off":
        return await _proxy(call, upstream, body, platform)
    if settings.stream_usage and call.path == STREAM_USAGE_ENDPOINT:
        body = _asking_for_usage(body, settings)
    headers = (("x-portkey-provider", upstream.provider), ("x-portkey-trace-id", said.trace_id))
    started = platform.now()
    seen: asyncio.Future[Awaitable[Capture]] = asyncio.Future()
    hold = memory.Hold(memory.captured)
    kept = min(body.size, settings.max_capture_bytes)
    kept = kept if hold.take(kept) else 0

    async def observed() -> tracing.Observation:
        with hold:
            capture = await (await seen)
            exchange = tracing.Exchange(
                call=call,
                context=said,
                destination=destination,
                provider=upstream.provider,
                request=body.read(kept),
                request_size=body.size,
                started=started,
                capture=capture,
                routed_model=upstream.routed_model,
            )
            return tracing.observe(exchange, settings)

    # Begun before there is a reply, so that a client that leaves while it waits is traced too.
    platform.run_after("trace", _deliver(observed(), settings, platform))
    try:
        reply = await platform.fetch(upstream, body)
        body.keep(kept)
        response, capture = reply.relay_captured(headers, settings.max_capture_bytes, hold)
    except NetworkError as error:
        ending = Ending.CLIENT_LEFT if platform.client_left() else Ending.UNREACHABLE
        seen.set_result(_already(Capture(ending, platform.now(), reason=str(error))))
        return _unreachable(call, upstream, error, platform, headers)
    except BaseException:
        seen.cancel()
        raise
    seen.set_result(capture)
    return response


async def _deliver(
    observed: Awaitable[tracing.Observation], settings: Settings, platform: Platform
) -> None:
    # In a function of its own, which holds nothing of the exchange while Langfuse is waited for.
    await delivery.deliver([await observed], settings, platform)


def _asking_for_usage(body: Body, settings: Settings) -> Body:
    # What is too large to be recorded is too large to be copied for this.
    if body.size > settings.max_capture_bytes:
        return body
    data = body.read(body.size)
    changed = rewriting.with_stream_usage(data)
    return body if changed == data else body.replaced(changed)


async def _already(capture: Capture) -> Capture:
    return capture


def _unreachable(
    call: Call,
    upstream: UpstreamCall,
    error: NetworkError,
    platform: Platform,
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    if not platform.client_left():
        secrets = redaction.credentials(call.headers, call.query)
        log("provider_unreachable", secrets, provider=upstream.provider, reason=str(error))
    refusal = Refusal(502, f"The provider {upstream.provider} could not be reached.")
    return errors.answer(refusal, call.path, headers)
