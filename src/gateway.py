"""The story of a request, written against the runtime as a set of small promises.

A call is checked, let in and sent to a provider, or to several where a config says so; the
provider's reply goes straight back. For a traced endpoint a second branch of the reply is captured
meanwhile, and after the reply has ended it becomes a Langfuse observation. Nothing that the client
waits for waits for tracing.
"""

import re
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

import about
import addresses
import configs
import context
import cors
import delivery
import errors
import keys
import memory
import providers
import tracing
from attempts import Attempt, Planner, Request
from caching import Cache, Status
from config import Settings
from configs import Target
from logs import log
from recording import Recorder
from resilience import Run
from runtime import Body, Platform
from tracing import Observation
from vocabulary import Answer, BodyTooLarge, Call, NetworkError, Refusal

# The beginning of a path that is of plain words, as an API's are; what comes then may be anything.
_WORDS = re.compile("(/(v[0-9]|[a-z_]{1,16})(?![^/]))*/?")


async def handle(call: Call, settings: Settings, platform: Platform) -> Any:
    """Answer a call: with an `Answer` of the gateway's own, or with the platform's response."""
    shared = cors.headers(call, settings.allowed_origins)
    answer = await _answer(call, settings, platform, shared)
    if isinstance(answer, Refusal):
        _report(call, answer)
        answer = errors.answer(answer, call)
    if isinstance(answer, Answer):
        return replace(answer, headers=(*answer.headers, *shared))
    return answer


def _report(call: Call, refusal: Refusal) -> None:
    """Log what the client was refused, in none of its own words."""
    known = _WORDS.match(call.path)
    path = known[0] if known else ""
    log(
        "refused",
        request_id=call.request_id,
        method=call.method if call.method in cors.METHODS else "…",
        path=path if path == call.path else f"{path}…",
        status=refusal.status,
        reason=refusal.message.replace(refusal.quote, "…") if refusal.quote else refusal.message,
    )


async def _answer(
    call: Call, settings: Settings, platform: Platform, shared: tuple[tuple[str, str], ...]
) -> Any | Answer | Refusal:
    allow = (("allow", ", ".join(cors.METHODS)),)
    if call.method == "OPTIONS":
        return Answer(204, "", headers=allow)
    if call.method not in cors.METHODS:
        method = call.method[:32]
        return Refusal(405, f"The gateway does not know the method {method}.", allow, quote=method)
    if call.path in about.PATHS:
        return about.answer(call, settings)
    request = await _let_in(call, settings, platform)
    if isinstance(request, Refusal):
        return request
    return await _serve(request, settings, platform, shared)


async def _let_in(call: Call, settings: Settings, platform: Platform) -> Request | Refusal:
    """The request of a call that may go on to a provider."""
    if settings.problem:
        return Refusal(500, f"This gateway is misconfigured: {settings.problem}.")
    caller = keys.identify(call, settings.gateway_keys, anonymous=settings.allow_anonymous)
    if isinstance(caller, Refusal):
        return caller
    refusal = _refuse(call)
    if refusal:
        return refusal
    if caller and not await platform.within_limit(caller.name):
        return Refusal(429, "This gateway key is over its rate limit. Try again in a minute.")
    config = configs.chosen(call, settings.configs)
    if isinstance(config, Refusal):
        return config
    timeout = configs.timeout(call)
    if isinstance(timeout, Refusal):
        return timeout
    is_traced = call.method == "POST" and call.path in settings.traced_endpoints
    body = None
    if is_traced or (config and config.needs_body and call.method not in ("GET", "HEAD")):
        body = await _read_body(settings, platform)
        if isinstance(body, Refusal):
            return body
        if is_traced and not body.size:
            return Refusal(400, "The request has no body. Send a JSON object.")
    request = Request(call, caller, config, body, timeout)
    destination = settings.destination(caller) if is_traced else None
    if destination is None:
        return request
    said = context.read(call.headers)
    if tracing.content_mode(said, settings) == "off":
        return request
    return replace(request, context=said, destination=destination)


def _refuse(call: Call) -> Refusal | None:
    if not call.path.startswith(providers.PREFIX):
        path = call.path[:128]
        return Refusal(404, f"There is no {path} here. Paths start with /v1/.", quote=path)
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
        return await platform.read_body(limit)
    except BodyTooLarge:
        return Refusal(413, f"The request's body is over the gateway's limit of {limit} bytes.")
    except NetworkError:
        return Refusal(400, "The request's body broke off. Send it again.")


async def _serve(
    request: Request, settings: Settings, platform: Platform, shared: tuple[tuple[str, str], ...]
) -> Any | Answer | Refusal:
    """Ask providers until one's reply is good enough, and hand that back. Where the request is
    traced let what happened become observations once it has ended."""
    cache = Cache(request, settings, platform)
    hold = memory.Hold(memory.captured) if request.destination or cache.keeps else None
    planner = Planner(request, settings, platform, hold)
    run = Run(planner.plan, planner.facts, platform)
    if hold is None:
        await run.ask(request.config or Target())
        return _outcome(request, run, cache, shared)
    recorder = Recorder(request, run, cache, hold, settings)
    # Begun before there is a reply, so that a client that leaves while it waits is traced too.
    platform.run_after("trace", _deliver(recorder.observed(), settings, platform))
    try:
        kept = await cache.reply()
        if kept:
            run.attempts.append(planner.kept(kept))
        else:
            await run.ask(request.config or Target())
        recorder.let_go()
        answer = _outcome(request, run, cache, shared)
    except BaseException:
        recorder.ended.cancel()
        raise
    recorder.ended.set_result(None)
    return answer


def _outcome(
    request: Request, run: Run[Attempt], cache: Cache, shared: tuple[tuple[str, str], ...]
) -> Any | Answer | Refusal:
    """The client's answer, from the last attempt."""
    if not run.attempts:
        return run.skipped[0][1] if run.skipped else Refusal(502, "No provider was asked.")
    last = run.attempts[-1]
    headers: list[tuple[str, str]] = []
    if request.context:
        headers.append(("x-portkey-trace-id", request.context.trace_id))
    if cache.status:
        headers.append(("x-portkey-cache-status", cache.status.value))
    if cache.status is not Status.HIT:
        headers.append(("x-portkey-provider", last.upstream.provider))
        if request.config:
            headers.append(("x-portkey-last-used-option-index", last.target.path))
            headers.append(("x-portkey-retry-attempt-count", str(last.retries)))
    answer = last.relay((*headers, *shared))
    if isinstance(answer, Refusal):
        return replace(answer, headers=tuple(headers))
    return answer


async def _deliver(
    observed: Coroutine[Any, Any, Sequence[Observation]], settings: Settings, platform: Platform
) -> None:
    # In a function of its own, which holds nothing of the exchange while Langfuse is waited for.
    await delivery.deliver(await observed, settings, platform)
