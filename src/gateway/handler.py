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

from core.memory_budget import Reservation, capture_budget
from core.platform import RequestBody, RequestPlatform
from core.safe_path import is_safe_path
from core.trace_context import read_trace_context
from core.types import BodyTooLarge, Call, GatewayResponse, NetworkError, Refusal
from export.outbox import deliver_observations
from gateway.cors import METHODS, cors_headers
from gateway.errors import error_response
from gateway.pages import PAGE_PATHS, page_response
from gateway.trace_recorder import TraceRecorder
from redaction.logs import log
from settings.gateway_keys import authenticate
from settings.load import Settings
from settings.routing_configs import Target, read_request_timeout, select_config
from tracing import Observation, effective_content_mode
from upstream.attempts import AdmittedRequest, Attempt, AttemptPlanner
from upstream.response_cache import CacheStatus, ResponseCache
from upstream.strategy import StrategyRun
from upstream.target_request import PATH_PREFIX

# The beginning of a path that is of plain words, as an API's are; what comes then may be anything.
_LOGGABLE_PATH = re.compile("(/(v[0-9]|[a-z_]{1,16})(?![^/]))*/?")


async def handle(call: Call, settings: Settings, platform: RequestPlatform) -> Any:
    """Answer a call: with an `Answer` of the gateway's own, or with the platform's response."""
    shared = cors_headers(call, settings.allowed_origins)
    answer = await _respond(call, settings, platform, shared)
    if isinstance(answer, Refusal):
        _log_refusal(call, answer)
        answer = error_response(answer, call)
    if isinstance(answer, GatewayResponse):
        return replace(answer, headers=(*answer.headers, *shared))
    return answer


def _log_refusal(call: Call, refusal: Refusal) -> None:
    """Log what the client was refused, in none of its own words."""
    known = _LOGGABLE_PATH.match(call.path)
    path = known[0] if known else ""
    log(
        "refused",
        request_id=call.request_id,
        method=call.method if call.method in METHODS else "…",
        path=path if path == call.path else f"{path}…",
        status=refusal.status,
        reason=refusal.message.replace(refusal.quoted_input, "…")
        if refusal.quoted_input
        else refusal.message,
    )


async def _respond(
    call: Call, settings: Settings, platform: RequestPlatform, shared: tuple[tuple[str, str], ...]
) -> Any | GatewayResponse | Refusal:
    allow = (("allow", ", ".join(METHODS)),)
    if call.method == "OPTIONS":
        return GatewayResponse(204, "", headers=allow)
    if call.method not in METHODS:
        method = call.method[:32]
        return Refusal(
            405, f"The gateway does not know the method {method}.", allow, quoted_input=method
        )
    if call.path in PAGE_PATHS:
        return page_response(call, settings)
    request = await admit(call, settings, platform)
    if isinstance(request, Refusal):
        return request
    return await _serve_request(request, settings, platform, shared)


async def admit(
    call: Call, settings: Settings, platform: RequestPlatform
) -> AdmittedRequest | Refusal:
    """The request of a call that may go on to a provider."""
    if settings.problem:
        return Refusal(500, f"This gateway is misconfigured: {settings.problem}.")
    caller = authenticate(call, settings.gateway_keys, anonymous=settings.allow_anonymous)
    if isinstance(caller, Refusal):
        return caller
    refusal = _check_path(call)
    if refusal:
        return refusal
    if caller and not await platform.is_within_rate_limit(caller.name):
        return Refusal(429, "This gateway key is over its rate limit. Try again in a minute.")
    config = select_config(call, settings.named_configs)
    if isinstance(config, Refusal):
        return config
    timeout = read_request_timeout(call)
    if isinstance(timeout, Refusal):
        return timeout
    is_traced = call.method == "POST" and call.path in settings.traced_endpoints
    body = None
    if is_traced or (config and config.needs_body and call.method not in ("GET", "HEAD")):
        body = await _read_body(settings, platform)
        if isinstance(body, Refusal):
            return body
        if is_traced and not body.size_bytes:
            return Refusal(400, "The request has no body. Send a JSON object.")
    request = AdmittedRequest(call, caller, config, body, timeout)
    destination = settings.destination(caller) if is_traced else None
    if destination is None:
        return request
    said = read_trace_context(call.headers)
    if effective_content_mode(said, settings) == "off":
        return request
    return replace(request, trace_context=said, destination=destination)


def _check_path(call: Call) -> Refusal | None:
    if not call.path.startswith(PATH_PREFIX):
        path = call.path[:128]
        return Refusal(404, f"There is no {path} here. Paths start with /v1/.", quoted_input=path)
    if not is_safe_path(call.path):
        return Refusal(
            400, 'The path must have no empty part, no "..", no backslash and no control character.'
        )
    if call.headers.get("upgrade", "").lower() == "websocket":
        return Refusal(501, "The gateway does not proxy WebSockets. Use HTTP streaming instead.")
    return None


async def _read_body(settings: Settings, platform: RequestPlatform) -> RequestBody | Refusal:
    limit = settings.max_request_bytes
    try:
        return await platform.read_body(limit)
    except BodyTooLarge:
        return Refusal(413, f"The request's body is over the gateway's limit of {limit} bytes.")
    except NetworkError:
        return Refusal(400, "The request's body broke off. Send it again.")


async def _serve_request(
    request: AdmittedRequest,
    settings: Settings,
    platform: RequestPlatform,
    shared: tuple[tuple[str, str], ...],
) -> Any | GatewayResponse | Refusal:
    """Ask providers until one's reply is good enough, and hand that back. Where the request is
    traced let what happened become observations once it has ended."""
    cache = ResponseCache(request, settings, platform)
    reservation = Reservation(capture_budget) if request.destination or cache.stores_reply else None
    planner = AttemptPlanner(request, settings, platform, reservation)
    run = StrategyRun(planner.plan_attempt, planner.condition_values, platform)
    if reservation is None:
        await run.run(request.config or Target())
        return _client_response(request, run, cache, shared)
    recorder = TraceRecorder(request, run, cache, reservation, settings)
    # Begun before there is a reply, so that a client that leaves while it waits is traced too.
    platform.run_after_response(
        "trace", _deliver_observations(recorder.collect_observations(), settings, platform)
    )
    try:
        kept = await cache.read()
        if kept:
            run.attempts.append(planner.cached_attempt(kept))
        else:
            await run.run(request.config or Target())
        recorder.release_bodies()
        answer = _client_response(request, run, cache, shared)
    except BaseException:
        recorder.reply_started.cancel()
        raise
    recorder.reply_started.set_result(None)
    return answer


def _client_response(
    request: AdmittedRequest,
    run: StrategyRun[Attempt],
    cache: ResponseCache,
    shared: tuple[tuple[str, str], ...],
) -> Any | GatewayResponse | Refusal:
    """The client's answer, from the last attempt."""
    if not run.attempts:
        return run.skipped[0][1] if run.skipped else Refusal(502, "No provider was asked.")
    last = run.attempts[-1]
    headers: list[tuple[str, str]] = []
    if request.trace_context:
        headers.append(("x-portkey-trace-id", request.trace_context.trace_id))
    if cache.status:
        headers.append(("x-portkey-cache-status", cache.status.value))
    if cache.status is not CacheStatus.HIT:
        headers.append(("x-portkey-provider", last.upstream.provider))
        if request.config:
            headers.append(("x-portkey-last-used-option-index", last.target.path))
            headers.append(("x-portkey-retry-attempt-count", str(last.portkey_retry_count)))
    answer = last.relay((*headers, *shared))
    if isinstance(answer, Refusal):
        return replace(answer, headers=tuple(headers))
    return answer


async def _deliver_observations(
    observed: Coroutine[Any, Any, Sequence[Observation]],
    settings: Settings,
    platform: RequestPlatform,
) -> None:
    # In a function of its own, which holds nothing of the exchange while Langfuse is waited for.
    await deliver_observations(await observed, settings, platform)
