"""One request from end to end, independent of the runtime (`core.platform`).

A call is admitted or refused, and sent to a provider, or to several where a config requires it. The
provider's reply is relayed to the client as it arrives. Where the call is traced, a second branch
of the reply is captured at the same time. After the reply has ended, the exchange becomes an
observation that is delivered to Langfuse. The client never waits for tracing.
"""

import re
from collections.abc import Coroutine, Sequence
from dataclasses import replace

from core.json_body import JsonBody
from core.memory_budget import Reservation, capture_budget
from core.observation import Observation
from core.platform import RequestPlatform
from core.safe_path import is_safe_path
from core.trace_context import read_trace_context
from core.types import BodyTooLarge, Call, GatewayResponse, NetworkError, Refusal
from export.outbox import deliver_observations
from gateway.cors import METHODS, cors_headers
from gateway.errors import error_response
from gateway.pages import PAGE_PATHS, page_response
from gateway.trace_job import TraceJob
from settings.gateway_keys import authenticate
from settings.load import Settings
from settings.routing_configs import Target, read_request_timeout, select_config
from tracing import effective_content_mode
from upstream.attempts import Attempt, AttemptPlanner
from upstream.request_scope import RequestScope
from upstream.response_cache import CacheStatus, ResponseCache
from upstream.strategy import StrategyRun
from upstream.target_request import PATH_PREFIX

# Matches the beginning of a path, as far as its segments are plain words, as those of an API are.
# The rest may contain anything, such as a credential, and is not logged.
_LOGGABLE_PATH = re.compile("(/(v[0-9]|[a-z_]{1,16})(?![^/]))*/?")


async def handle(call: Call, settings: Settings, platform: RequestPlatform) -> object:
    """Answer a client's call. Returns a `GatewayResponse`, or the runtime's own response object
    where a provider's reply is relayed; either has the CORS headers for the deployment's allowed
    origins. A refusal is logged and becomes an error response."""
    cors = cors_headers(call, settings.allowed_origins)
    response = await _respond(call, settings, platform, cors)
    if isinstance(response, Refusal):
        _log_refusal(call, response, platform)
        response = error_response(response, call)
    if isinstance(response, GatewayResponse):
        return replace(response, headers=(*response.headers, *cors))
    return response


def _log_refusal(call: Call, refusal: Refusal, platform: RequestPlatform) -> None:
    """Log a refusal without any text of the client, which may contain a credential: "…" replaces an
    unknown method, an unusual path and the input that the message quotes."""
    match = _LOGGABLE_PATH.match(call.path)
    path = match[0] if match else ""
    platform.log(
        "refused",
        method=call.method if call.method in METHODS else "…",
        path=path if path == call.path else f"{path}…",
        status=refusal.status,
        reason=refusal.message.replace(refusal.quoted_input, "…")
        if refusal.quoted_input
        else refusal.message,
    )


async def _respond(
    call: Call, settings: Settings, platform: RequestPlatform, cors: tuple[tuple[str, str], ...]
) -> object | GatewayResponse | Refusal:
    """Return the response to a call: a `GatewayResponse` for OPTIONS and the gateway's own pages,
    the runtime's own response object where a provider's reply is relayed, or a `Refusal`.

    Only the runtime's object gets the headers of `cors` here; `handle` adds them to the others.
    """
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
    scope = await admit(call, settings, platform)
    if isinstance(scope, Refusal):
        return scope
    return await _serve_request(scope, cors)


async def admit(
    call: Call, settings: Settings, platform: RequestPlatform
) -> RequestScope | Refusal:
    """Decide whether a call may be sent to a provider. Returns the call with all that was read of
    it, or a `Refusal`, an error response of the gateway's own.

    Checks settings, gateway key, path and rate limit, and the headers that select a config and set
    a timeout. Reads the body of a POST to a traced endpoint, and of any call whose config needs it.
    The result has a trace context and a destination only where the call is traced.
    """
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
    scope = RequestScope(call, settings, platform, caller, config, body, timeout)
    destination = settings.destination_for(caller) if is_traced else None
    if destination is None:
        return scope
    trace_context = read_trace_context(call.headers)
    mode = effective_content_mode(trace_context, settings)
    if mode == "off":
        return scope
    trace_context = replace(trace_context, content_mode=mode)
    return replace(scope, trace_context=trace_context, destination=destination)


def _check_path(call: Call) -> Refusal | None:
    """Return the `Refusal` of a path that is outside of "/v1/" or unsafe (such as one with ".."),
    and of a call that opens a WebSocket; else None."""
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


async def _read_body(settings: Settings, platform: RequestPlatform) -> JsonBody | Refusal:
    """Read the whole body of the client's request. Returns a `Refusal` where it is larger than
    `max_request_bytes` (413) or breaks off (400)."""
    limit = settings.max_request_bytes
    try:
        return JsonBody(await platform.read_body(limit))
    except BodyTooLarge:
        return Refusal(413, f"The request's body is over the gateway's limit of {limit} bytes.")
    except NetworkError:
        return Refusal(400, "The request's body broke off. Send it again.")


async def _serve_request(
    scope: RequestScope, cors: tuple[tuple[str, str], ...]
) -> object | Refusal:
    """Send an admitted request to the providers that its config selects, or take its reply from the
    cache. Returns the response for the client.

    That is the runtime's own response object, which relays the reply and has the headers of `cors`,
    or a `Refusal` where there is no reply. Where the reply is to be traced or cached, this also
    starts a job that goes on after the response (`waitUntil`).
    """
    cache = ResponseCache(scope)
    if scope.destination or cache.stores_reply:
        scope = replace(scope, reservation=Reservation(capture_budget))
    planner = AttemptPlanner(scope)
    run = StrategyRun(planner.plan_attempt, planner.condition_values, scope.platform)
    if scope.reservation is None:
        await run.run(scope.config or Target())
        return _client_response(scope, run, cache, cors)
    job = TraceJob(scope, scope.reservation, run, cache)
    # The job starts before there is a reply, so that a request whose client leaves before that is
    # traced too.
    scope.platform.run_after_response(
        "trace", _deliver_observations(job.collect_observations(), scope.settings, scope.platform)
    )
    try:
        cached = await cache.read()
        if cached:
            run.attempts.append(planner.cached_attempt(cached))
        else:
            await run.run(scope.config or Target())
        job.release_bodies()
        response = _client_response(scope, run, cache, cors)
    except BaseException:
        job.reply_started.cancel()
        raise
    job.reply_started.set_result(None)
    return response


def _client_response(
    scope: RequestScope,
    run: StrategyRun[Attempt],
    cache: ResponseCache,
    cors: tuple[tuple[str, str], ...],
) -> object | Refusal:
    """Return the runtime's own response object, which relays the reply of the last attempt. It has
    the headers of `cors`, and `x-portkey-*` headers about trace, cache, provider and target.

    Returns a `Refusal` where no provider was called, or where the last attempt has no reply to
    relay.
    """
    if not run.attempts:
        return run.skipped[0][1] if run.skipped else Refusal(502, "No provider was asked.")
    last = run.attempts[-1]
    headers: list[tuple[str, str]] = []
    if scope.trace_context:
        headers.append(("x-portkey-trace-id", scope.trace_context.trace_id))
    if cache.status:
        headers.append(("x-portkey-cache-status", cache.status.value))
    if cache.status is not CacheStatus.HIT:
        headers.append(("x-portkey-provider", last.upstream.provider))
        if scope.config:
            headers.append(("x-portkey-last-used-option-index", last.target.path))
            headers.append(("x-portkey-retry-attempt-count", str(last.portkey_retry_count)))
    response = last.relay((*headers, *cors))
    if isinstance(response, Refusal):
        return replace(response, headers=tuple(headers))
    return response


async def _deliver_observations(
    observations: Coroutine[object, object, Sequence[Observation]],
    settings: Settings,
    platform: RequestPlatform,
) -> None:
    # A separate function, so that no variable keeps the exchange in memory during the delivery.
    await deliver_observations(await observations, settings, platform)
