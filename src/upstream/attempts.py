"""One attempt at a provider: what it sends, and what came of it.

`AttemptPlanner` decides what is sent to a target: URL, headers, credential and body. `Attempt`
sends it, and then either relays the reply to the client or discards it. `upstream.strategy` decides
the order of the attempts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from core import strict_json
from core.json_body import JsonBody
from core.platform import UpstreamReply
from core.retry_after import parse_retry_after
from core.strict_json import JsonObject, JsonValue
from core.types import (
    Capture,
    Ending,
    NetworkError,
    Refusal,
    UpstreamCall,
    UpstreamTimeout,
)
from dialects.first_token import FirstTokenSearch
from settings.routing_configs import Target
from upstream.credentials import (
    credential_provider,
    with_target_credential,
    with_target_headers,
    without_foreign_credentials,
)
from upstream.gateway_key_rights import refuse_beyond_rights
from upstream.request_body import (
    find_prefixed_model,
    override_body,
    strip_provider_prefix,
    with_stream_usage,
)
from upstream.request_scope import RequestScope
from upstream.target_request import build_upstream_call, named_provider, resolve_provider

# The endpoint whose streams contain token counts only where the request asks for them.
STREAM_USAGE_ENDPOINT = "/v1/chat/completions"

# The statuses of an attempt without a reply, for the status codes that a config lists: where the
# provider could not be reached, and where it did not reply in time. The gateway's own response has
# the first status of each. 408 is Portkey's status for a timeout, which existing configs list.
UNREACHABLE_STATUSES, TIMEOUT_STATUSES = (502,), (504, 408)


class Attempt:
    """One call to one provider: `send` it, then `relay` its reply to the client or `discard_reply`.

    `upstream` and `body` are what is sent; with a `body` of None, the runtime streams the client's
    own. `target` is the entry of the routing config that is called. `retry_number` is 0 for the
    first attempt at it.

    `send` sets either `reply` or `error`. `capture` is set when the call fails, and when its reply
    is discarded or relayed; awaiting it returns what was recorded of the reply. It stays None where
    a reply is relayed without a reservation. `replied_at` is when the head of the reply arrived, or
    when the call failed. Times are in seconds since the epoch.
    """

    def __init__(
        self,
        scope: RequestScope,
        upstream: UpstreamCall,
        body: JsonBody | None,
        target: Target,
        retry_number: int = 0,
    ) -> None:
        self.scope, self.upstream, self.body = scope, upstream, body
        self.target, self.retry_number = target, retry_number
        self.timeout_seconds = scope.timeout_seconds or target.timeout_seconds
        self.started_at = self.replied_at = 0.0
        self.is_discarded = False
        self.reply: UpstreamReply | None = None
        self.error: NetworkError | None = None
        self.capture: Awaitable[Capture] | None = None

    async def send(self) -> None:
        """Call the provider, and wait until the head of its reply arrives or the call fails. A
        failure is recorded in `error` and `capture`; no `NetworkError` is raised."""
        platform, content = self.scope.platform, None
        for body in filter(None, (self.scope.body, self.body)):
            body.forget()
            content = body.content
        self.started_at = platform.now()
        try:
            self.reply = await platform.fetch(self.upstream, content, self.timeout_seconds)
        except NetworkError as error:
            self._record_failure(error)
        self.replied_at = platform.now()

    @property
    def statuses(self) -> Collection[int]:
        """The status of the reply. Where there is no reply, the statuses that represent the failure
        in a config: 504 and 408 for a timeout, 502 for any other failure."""
        if self.reply:
            return (self.reply.status,)
        return TIMEOUT_STATUSES if isinstance(self.error, UpstreamTimeout) else UNREACHABLE_STATUSES

    @property
    def portkey_retry_count(self) -> int:
        """The value of Portkey's header `x-portkey-retry-attempt-count`: the number of this retry,
        or -1 where the target has retries and this attempt still ended with a status to retry."""
        retry = self.target.retry
        still_fails = any(status in retry.on_status_codes for status in self.statuses)
        return -1 if retry.attempts and still_fails else self.retry_number

    @property
    def retry_after(self) -> float | None:
        """The pause in seconds that the reply's `Retry-After` header requires. None where there is
        no reply, no such header, or a malformed one."""
        value = self.reply.header("retry-after") if self.reply else ""
        return parse_retry_after(value, self.scope.platform.now())

    def discard_reply(self) -> None:
        """Release the reply instead of relaying it, and capture its beginning for the trace.
        Without a reservation, cancel it and set an empty capture. Does nothing where there is no
        reply, or where it was discarded or relayed with a capture before."""
        if self.capture or self.reply is None:
            return
        self.is_discarded = True
        if self.scope.reservation:
            capture = self.reply.capture_discarded(
                self.scope.settings.max_capture_bytes, self.scope.reservation
            )
            self.capture = asyncio.ensure_future(capture)
        else:
            self.scope.platform.run_after_response("cancel", self.reply.cancel())
            self.capture = _resolved(Capture(Ending.COMPLETE, self.scope.platform.now()))

    def relay(self, headers: tuple[tuple[str, str], ...]) -> object | Refusal:
        """Return the runtime's response for the client: the provider's reply, with `headers` added.

        Returns a `Refusal`, an error response of the gateway's own, where there is no reply to
        relay: with status 504 after a timeout, else 502. That includes a reply that was discarded,
        and one that the runtime cannot pass on.
        """
        name, scope = self.upstream.provider, self.scope
        if self.reply and self.capture is None:
            try:
                if scope.reservation is None:
                    return self.reply.relay(headers)
                first_token = FirstTokenSearch(scope.call.path, self.reply.header("content-type"))
                response, self.capture = self.reply.relay_and_capture(
                    headers, scope.settings.max_capture_bytes, scope.reservation, first_token
                )
                return response
            except NetworkError as error:
                self._record_failure(error)
        if isinstance(self.error, UpstreamTimeout):
            return Refusal(
                504, f"The provider {name} did not answer in {self.timeout_seconds or 0:g} s."
            )
        return Refusal(502, f"The provider {name} could not be reached.")

    def _record_failure(self, error: NetworkError) -> None:
        """Set `error`, and a `capture` that records it. Log the failure, unless the client has
        left: that ends the call too."""
        self.error = error
        client_left = self.scope.platform.client_left()
        ending = Ending.CLIENT_LEFT if client_left else Ending.UNREACHABLE
        self.capture = _resolved(
            Capture(
                ending,
                self.scope.platform.now(),
                reason=str(error),
                timed_out=isinstance(error, UpstreamTimeout),
            )
        )
        if not client_left:
            self.scope.platform.log(
                "provider_unreachable", provider=self.upstream.provider, reason=str(error)
            )


class AttemptPlanner:
    """Decides what the attempts of one request send: URL, headers, credential and body. All
    attempts at a target, which is a provider in the routing config, send the same.

    `model` is the body's model where it may name a provider ("@groq/…"), else ""; or a `Refusal`
    where it cannot be read. `named_provider` is the slug in the client's headers, else "".
    `provider_of_credential` is the slug of the provider that the client's credential is for,
    `ANY_PROVIDER` or `UNKNOWN_PROVIDER`; None without a credential.
    """

    def __init__(self, scope: RequestScope) -> None:
        self.scope = scope
        self.model = find_prefixed_model(scope.body, scope.settings)
        self.named_provider = named_provider(scope.call)
        self.provider_of_credential = credential_provider(
            scope.call,
            scope.config or Target(),
            self.named_provider,
            "" if isinstance(self.model, Refusal) else self.model,
            scope.settings.routing,
        )
        self._planned: dict[str, tuple[UpstreamCall, JsonBody | None] | Refusal] = {}

    def plan_attempt(self, target: Target, retry_number: int) -> Attempt | Refusal:
        """Return an attempt at `target` that is ready to be sent. `retry_number` is 0 for the first
        attempt at this target, 1 for its first retry.

        Returns a `Refusal`, an error response of the gateway's own, where the target cannot be
        called: its provider is unknown, no usable credential exists, the gateway key does not cover
        it, or the body cannot be changed as required.
        """
        if target.path not in self._planned:
            self._planned[target.path] = self._plan_target(target)
        planned = self._planned[target.path]
        if isinstance(planned, Refusal):
            return planned
        return Attempt(self.scope, *planned, target, retry_number)

    def _plan_target(self, target: Target) -> tuple[UpstreamCall, JsonBody | None] | Refusal:
        """Return the call and the body that every attempt at a target sends, or a `Refusal` where
        the target cannot be called.

        The body has the config's `override_params`, and no provider prefix in its model. A chat
        completion also requests token usage for its stream, if the deployment enables that and the
        reply is captured. A body of None means that the runtime streams the client's own.
        """
        scope, settings, body, model = self.scope, self.scope.settings, self.scope.body, self.model
        if target.override_params:
            body = override_body(body, target.override_params, settings)
            if isinstance(body, Refusal):
                return body
            model = find_prefixed_model(body, settings)
        if isinstance(model, Refusal):
            # An unreadable model matters only where nothing else names the provider.
            if not (target.provider or self.named_provider):
                return model
            model = ""
        named = target.provider or self.named_provider
        provider = resolve_provider(scope.call, named, settings.routing, model)
        call = with_target_headers(scope.call, target)
        if target.path != Target.path and provider not in (
            self.provider_of_credential,
            self.named_provider,
        ):
            call = without_foreign_credentials(call)
        call = with_target_credential(
            call, target, provider, scope.caller, self.provider_of_credential, settings
        )
        if isinstance(call, Refusal):
            return call
        upstream = build_upstream_call(call, provider, settings.routing, model)
        if isinstance(upstream, Refusal):
            return upstream
        if body and upstream.prefixed_model:
            body = strip_provider_prefix(body)
        if scope.caller:
            refusal = refuse_beyond_rights(scope.caller, call, upstream, body, settings)
            if refusal:
                return refusal
        needs_stream_usage = (
            settings.request_stream_usage
            and scope.reservation
            and call.path == STREAM_USAGE_ENDPOINT
        )
        if body and needs_stream_usage:
            body = with_stream_usage(body, settings)
        return upstream, body

    def cached_attempt(self, reply: UpstreamReply) -> Attempt:
        """Return an attempt that has a cached reply already, so that it can be relayed and traced
        like any other. No provider is called; "cache" takes the place of the provider's slug."""
        upstream = UpstreamCall("cache", self.scope.call.method, "", ())
        attempt = Attempt(self.scope, upstream, None, Target())
        attempt.started_at, attempt.reply = self.scope.platform.now(), reply
        return attempt

    def condition_values(self) -> Mapping[str, JsonObject]:
        """Return the values that a routing config's conditions test, as `{source: {name: value}}`.

        `metadata` is the JSON object in `x-portkey-metadata`, `params` the JSON object in the body,
        and `url` has the path as `pathname`. A source that is missing or is not a JSON object is
        empty, and so is `params` for a body over `max_capture_bytes`.
        """
        call, body = self.scope.call, self.scope.body
        readable = body and body.size_bytes <= self.scope.settings.max_capture_bytes
        header = call.headers.get("x-portkey-metadata", "")
        return {
            "metadata": _members_or_empty(lambda: strict_json.parse(header)),
            "params": _members_or_empty(body.parse) if body and readable else {},
            "url": {"pathname": call.path},
        }


def _members_or_empty(parse: Callable[[], JsonValue]) -> JsonObject:
    """The JSON object that `parse` returns; `{}` where it returns another value or raises
    ValueError."""
    try:
        value = parse()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _resolved(capture: Capture) -> Awaitable[Capture]:
    """A future that is already resolved with this capture."""
    future: asyncio.Future[Capture] = asyncio.Future()
    future.set_result(capture)
    return future
