"""The attempts at a request: what each sends, and what comes of it."""

import asyncio
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from core.memory_budget import Reservation
from core.platform import RequestBody, RequestPlatform, UpstreamReply
from core.retry_after import parse_retry_after
from core.trace_context import TraceContext
from core.types import Call, Capture, Ending, NetworkError, Refusal, UpstreamCall, UpstreamTimeout
from redaction.logs import log
from redaction.request_secrets import secrets_of_request
from settings.gateway_keys import GatewayKey
from settings.load import Destination, Settings
from settings.routing_configs import Target
from upstream.credentials import credential_provider, with_target_credential
from upstream.key_rights import refuse_beyond_rights
from upstream.request_body import (
    ask_for_stream_usage,
    find_prefixed_model,
    members_or_empty,
    override_body,
    strip_provider_prefix,
)
from upstream.target_request import build_upstream_call, named_provider

# Where a stream carries its usage only if the request asks for it.
STREAM_USAGE_ENDPOINT = "/v1/chat/completions"

# What stands for the status of a provider that could not be reached, and of one that took too long:
# the gateway's own, and the one that Portkey's has for the second, which configs name.
UNREACHABLE_STATUSES, TIMEOUT_STATUSES = (502,), (504, 408)


@dataclass(frozen=True)
class AdmittedRequest:
    """A call that was let in, and what is known of it.

    `caller` is the gateway key that it shows, None where it shows none. `body` is None where it is
    streamed through. `timeout` is what the call itself gives each attempt, in seconds. `context` is
    there, and `destination`, where it is traced.
    """

    call: Call
    caller: GatewayKey | None
    config: Target | None
    body: RequestBody | None
    timeout_seconds: float | None = None
    trace_context: TraceContext | None = None
    destination: Destination | None = None


class Attempt:
    """One call to one provider.

    `capture` is set as soon as nothing more is to be done for the client. `reservation` is None
    where nothing of the reply is captured. Times are in seconds since the epoch.
    """

    def __init__(
        self,
        upstream: UpstreamCall,
        body: RequestBody | None,
        target: Target,
        retry_number: int,
        request: AdmittedRequest,
        settings: Settings,
        platform: RequestPlatform,
        reservation: Reservation | None,
    ) -> None:
        self.upstream, self.body, self.target, self.retry_number = (
            upstream,
            body,
            target,
            retry_number,
        )
        self.request, self.settings, self.platform, self.reservation = (
            request,
            settings,
            platform,
            reservation,
        )
        self.timeout_seconds = request.timeout_seconds or target.timeout_seconds
        self.started_at = self.answered_at = 0.0
        self.is_discarded = False
        self.reply: UpstreamReply | None = None
        self.error: NetworkError | None = None
        self.capture: Awaitable[Capture] | None = None

    async def send(self) -> None:
        """Call the provider, and wait until its reply begins, or until it is known why not."""
        self.started_at = self.platform.now()
        try:
            self.reply = await self.platform.fetch(self.upstream, self.body, self.timeout_seconds)
        except NetworkError as error:
            self._failed(error)
        self.answered_at = self.platform.now()

    @property
    def statuses(self) -> Collection[int]:
        """The reply's status, or what stands for it."""
        if self.reply:
            return (self.reply.status,)
        return TIMEOUT_STATUSES if isinstance(self.error, UpstreamTimeout) else UNREACHABLE_STATUSES

    @property
    def portkey_retry_count(self) -> int:
        """How many retries it took, or as Portkey has it -1 where all of them were in vain."""
        retry = self.target.retry
        in_vain = any(status in retry.on_status_codes for status in self.statuses)
        return -1 if retry.attempts and in_vain else self.retry_number

    @property
    def retry_after(self) -> float | None:
        """How many seconds the provider wants to be left alone, where it says so."""
        said = self.reply.header("retry-after") if self.reply else ""
        return parse_retry_after(said, self.platform.now())

    def discard_reply(self) -> None:
        """Let go of the reply: the client will get another one."""
        if self.capture or self.reply is None:
            return
        self.is_discarded = True
        if self.reservation:
            captured = self.reply.capture_discarded(
                self.settings.max_capture_bytes, self.reservation
            )
            self.capture = asyncio.ensure_future(captured)
        else:
            self.platform.run_after_response("cancel", self.reply.cancel())
            self.capture = _resolved(Capture(Ending.COMPLETE, self.platform.now()))

    def relay(self, headers: tuple[tuple[str, str], ...]) -> Any | Refusal:
        """The client's response, or why there is none."""
        name = self.upstream.provider
        if self.reply and self.capture is None:
            try:
                if self.reservation is None:
                    return self.reply.relay(headers)
                response, self.capture = self.reply.relay_and_capture(
                    headers, self.settings.max_capture_bytes, self.reservation
                )
                return response
            except NetworkError as error:
                self._failed(error)
        if isinstance(self.error, UpstreamTimeout):
            return Refusal(
                504, f"The provider {name} did not answer in {self.timeout_seconds or 0:g} s."
            )
        return Refusal(502, f"The provider {name} could not be reached.")

    def _failed(self, error: NetworkError) -> None:
        self.error = error
        left = self.platform.client_left()
        ending = Ending.CLIENT_LEFT if left else Ending.UNREACHABLE
        self.capture = _resolved(Capture(ending, self.platform.now(), reason=str(error)))
        if not left:
            call = self.request.call
            secrets = secrets_of_request(call.headers, call.query)
            log(
                "provider_unreachable",
                secrets,
                request_id=call.request_id,
                provider=self.upstream.provider,
                reason=str(error),
            )


class AttemptPlanner:
    """Plans the attempts at one request; `reservation` is that of one that is traced."""

    def __init__(
        self,
        request: AdmittedRequest,
        settings: Settings,
        platform: RequestPlatform,
        reservation: Reservation | None,
    ) -> None:
        self.request, self.settings, self.platform, self.reservation = (
            request,
            settings,
            platform,
            reservation,
        )
        self.model = find_prefixed_model(request.body, settings)
        model = "" if isinstance(self.model, Refusal) else self.model
        config = request.config or Target()
        self.credential_provider = credential_provider(request.call, config, model, settings)
        self._planned: dict[str, tuple[UpstreamCall, RequestBody | None] | Refusal] = {}

    def plan_attempt(self, target: Target, tries: int) -> Attempt | Refusal:
        """The so many-eth attempt at a target, or why there is none."""
        if target.path not in self._planned:
            self._planned[target.path] = self._plan_target(target)
        planned = self._planned[target.path]
        if isinstance(planned, Refusal):
            return planned
        upstream, body = planned
        request, settings = self.request, self.settings
        return Attempt(
            upstream, body, target, tries, request, settings, self.platform, self.reservation
        )

    def _plan_target(self, target: Target) -> tuple[UpstreamCall, RequestBody | None] | Refusal:
        """What a target is sent, each time."""
        request, settings, body, model = self.request, self.settings, self.request.body, self.model
        if target.override_params:
            body = override_body(body, target.override_params, settings)
            if isinstance(body, Refusal):
                return body
            model = find_prefixed_model(body, settings)
        if isinstance(model, Refusal):
            if not (target.provider or named_provider(request.call)):
                return model
            model = ""
        call = with_target_credential(
            request.call, target, model, request.caller, self.credential_provider, settings
        )
        if isinstance(call, Refusal):
            return call
        upstream = build_upstream_call(call, settings.routing, model)
        if isinstance(upstream, Refusal):
            return upstream
        if body and upstream.prefixed_model:
            body = body.with_content(strip_provider_prefix(body.read(body.size_bytes)))
        if request.caller:
            refusal = refuse_beyond_rights(request.caller, call, upstream, body, settings)
            if refusal:
                return refusal
        asks = (
            settings.request_stream_usage
            and self.reservation
            and call.path == STREAM_USAGE_ENDPOINT
        )
        if body and asks:
            body = ask_for_stream_usage(body, settings)
        return upstream, body

    def cached_attempt(self, reply: UpstreamReply) -> Attempt:
        """What stands for an attempt where a reply was kept, and no provider is asked."""
        call = self.request.call
        upstream = UpstreamCall("cache", call.method, "", ())
        attempt = Attempt(
            upstream,
            None,
            Target(),
            0,
            self.request,
            self.settings,
            self.platform,
            self.reservation,
        )
        attempt.started_at, attempt.reply = self.platform.now(), reply
        return attempt

    def condition_values(self) -> Mapping[str, Mapping[str, Any]]:
        """What a config's conditions ask for."""
        call, body = self.request.call, self.request.body
        readable = body is not None and body.size_bytes <= self.settings.max_capture_bytes
        return {
            "metadata": members_or_empty(call.headers.get("x-portkey-metadata", "").encode()),
            "params": members_or_empty(body.read(body.size_bytes)) if body and readable else {},
            "url": {"pathname": call.path},
        }


def _resolved(capture: Capture) -> Awaitable[Capture]:
    """A capture that need not be waited for."""
    known: asyncio.Future[Capture] = asyncio.Future()
    known.set_result(capture)
    return known
