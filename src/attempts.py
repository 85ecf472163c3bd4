"""The attempts at a request: what each sends, and what comes of it."""

import asyncio
import re
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import credentials
import memory
import providers
import redaction
import retry_after
import rewriting
from config import Destination, Settings
from configs import Target
from context import Context
from keys import GatewayKey
from logs import log
from runtime import Body, Platform, Reply
from vocabulary import Call, Capture, Ending, NetworkError, Refusal, TimedOut, UpstreamCall

# Where a stream carries its usage only if the request asks for it.
STREAM_USAGE_ENDPOINT = "/v1/chat/completions"
# A body is searched for a model with a provider's name piece by piece, so that Python never holds a
# large one whole; the pieces overlap by more than such a name takes.
PIECE, OVERLAP = 256 * 1024, 256
# What stands for the status of a provider that could not be reached, and of one that took too long:
# the gateway's own, and the one that Portkey's has for the second, which configs name.
UNREACHABLE, TOO_LATE = (502,), (504, 408)

_JSON = re.compile(r'application/json\s*(;\s*charset="?utf-8"?)?', re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """A call that was let in, and what is known of it.

    `caller` is the gateway key that it shows, None where it shows none. `body` is None where it is
    streamed through. `timeout` is what the call itself gives each attempt, in seconds. `context` is
    there, and `destination`, where it is traced.
    """

    call: Call
    caller: GatewayKey | None
    config: Target | None
    body: Body | None
    timeout: float | None = None
    context: Context | None = None
    destination: Destination | None = None


class Attempt:
    """A provider that is asked once. `capture` is there as soon as nothing more is to be done for
    the client; `hold` is that of a request of which anything is captured. Times are seconds since
    the epoch."""

    def __init__(
        self,
        upstream: UpstreamCall,
        body: Body | None,
        target: Target,
        tries: int,
        request: Request,
        settings: Settings,
        platform: Platform,
        hold: memory.Hold | None,
    ) -> None:
        self.upstream, self.body, self.target, self.tries = upstream, body, target, tries
        self.request, self.settings, self.platform, self.hold = request, settings, platform, hold
        self.timeout = request.timeout or target.timeout
        self.started = self.answered = 0.0
        self.is_given_up = False
        self.reply: Reply | None = None
        self.error: NetworkError | None = None
        self.capture: Awaitable[Capture] | None = None

    async def ask(self) -> None:
        """Call the provider, and wait until its reply begins, or until it is known why not."""
        self.started = self.platform.now()
        try:
            self.reply = await self.platform.fetch(self.upstream, self.body, self.timeout)
        except NetworkError as error:
            self._failed(error)
        self.answered = self.platform.now()

    @property
    def statuses(self) -> Collection[int]:
        """The reply's status, or what stands for it."""
        if self.reply:
            return (self.reply.status,)
        return TOO_LATE if isinstance(self.error, TimedOut) else UNREACHABLE

    @property
    def retries(self) -> int:
        """How many retries it took, or as Portkey has it -1 where all of them were in vain."""
        retry = self.target.retry
        in_vain = any(status in retry.on_status_codes for status in self.statuses)
        return -1 if retry.attempts and in_vain else self.tries

    @property
    def after(self) -> float | None:
        """How many seconds the provider wants to be left alone, where it says so."""
        said = self.reply.header("retry-after") if self.reply else ""
        return retry_after.seconds(said, self.platform.now())

    def give_up(self) -> None:
        """Let go of the reply: the client will get another one."""
        if self.capture or self.reply is None:
            return
        self.is_given_up = True
        if self.hold:
            captured = self.reply.captured(self.settings.max_capture_bytes, self.hold)
            self.capture = asyncio.ensure_future(captured)
        else:
            self.platform.run_after("cancel", self.reply.cancel())
            self.capture = _known(Capture(Ending.COMPLETE, self.platform.now()))

    def relay(self, headers: tuple[tuple[str, str], ...]) -> Any | Refusal:
        """The client's response, or why there is none."""
        name = self.upstream.provider
        if self.reply and self.capture is None:
            try:
                if self.hold is None:
                    return self.reply.relay(headers)
                response, self.capture = self.reply.relay_captured(
                    headers, self.settings.max_capture_bytes, self.hold
                )
                return response
            except NetworkError as error:
                self._failed(error)
        if isinstance(self.error, TimedOut):
            return Refusal(504, f"The provider {name} did not answer in {self.timeout or 0:g} s.")
        return Refusal(502, f"The provider {name} could not be reached.")

    def _failed(self, error: NetworkError) -> None:
        self.error = error
        left = self.platform.client_left()
        ending = Ending.CLIENT_LEFT if left else Ending.UNREACHABLE
        self.capture = _known(Capture(ending, self.platform.now(), reason=str(error)))
        if not left:
            call = self.request.call
            secrets = redaction.credentials(call.headers, call.query)
            log(
                "provider_unreachable",
                secrets,
                request_id=call.request_id,
                provider=self.upstream.provider,
                reason=str(error),
            )


class Planner:
    """Plans the attempts at one request; `hold` is that of one that is traced."""

    def __init__(
        self, request: Request, settings: Settings, platform: Platform, hold: memory.Hold | None
    ) -> None:
        self.request, self.settings, self.platform, self.hold = request, settings, platform, hold
        self.model = _routed_model(request.body, settings)
        model = "" if isinstance(self.model, Refusal) else self.model
        config = request.config or Target()
        self.brought = credentials.owner(request.call, config, model, settings)
        self._planned: dict[str, tuple[UpstreamCall, Body | None] | Refusal] = {}

    def plan(self, target: Target, tries: int) -> Attempt | Refusal:
        """The so many-eth attempt at a target, or why there is none."""
        if target.path not in self._planned:
            self._planned[target.path] = self._plan(target)
        planned = self._planned[target.path]
        if isinstance(planned, Refusal):
            return planned
        upstream, body = planned
        request, settings = self.request, self.settings
        return Attempt(upstream, body, target, tries, request, settings, self.platform, self.hold)

    def _plan(self, target: Target) -> tuple[UpstreamCall, Body | None] | Refusal:
        """What a target is sent, each time."""
        request, settings, body, model = self.request, self.settings, self.request.body, self.model
        if target.override_params:
            body = _overridden(body, target.override_params, settings)
            if isinstance(body, Refusal):
                return body
            model = _routed_model(body, settings)
        if isinstance(model, Refusal):
            if not (target.provider or providers.named(request.call)):
                return model
            model = ""
        call = credentials.aimed(
            request.call, target, model, request.caller, self.brought, settings
        )
        if isinstance(call, Refusal):
            return call
        upstream = providers.plan(call, settings.routing, model)
        if isinstance(upstream, Refusal):
            return upstream
        if body and upstream.routed_model:
            body = body.replaced(rewriting.without_provider(body.read(body.size)))
        if request.caller:
            refusal = _beyond_rights(request.caller, call, upstream, body, settings)
            if refusal:
                return refusal
        asks = settings.stream_usage and self.hold and call.path == STREAM_USAGE_ENDPOINT
        if body and asks:
            body = _asking_for_usage(body, settings)
        return upstream, body

    def kept(self, reply: Reply) -> Attempt:
        """What stands for an attempt where a reply was kept, and no provider is asked."""
        call = self.request.call
        upstream = UpstreamCall("cache", call.method, "", ())
        attempt = Attempt(
            upstream, None, Target(), 0, self.request, self.settings, self.platform, self.hold
        )
        attempt.started, attempt.reply = self.platform.now(), reply
        return attempt

    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """What a config's conditions ask for."""
        call, body = self.request.call, self.request.body
        readable = body is not None and body.size <= self.settings.max_capture_bytes
        return {
            "metadata": _members(call.headers.get("x-portkey-metadata", "").encode()),
            "params": _members(body.read(body.size)) if body and readable else {},
            "url": {"pathname": call.path},
        }


def _members(text: bytes) -> dict[str, Any]:
    """What can be read of a JSON object; nothing of anything else."""
    try:
        return rewriting.members(text)
    except ValueError:
        return {}


def _routed_model(body: Body | None, settings: Settings) -> str | Refusal:
    """The body's model if it may name a provider, else "". Other bodies are not parsed here."""
    if body is None:
        return ""
    pieces = (body.read(PIECE + OVERLAP, start) for start in range(0, body.size, PIECE))
    if not any(map(rewriting.may_name_provider, pieces)):
        return ""
    # What can't be read may have named a provider, and its credential must not go to another one.
    where = "the model's provider. Name it in x-portkey-provider instead of in the model."
    if body.size > settings.max_capture_bytes:
        return Refusal(413, f"The body is too large to find {where}")
    try:
        return rewriting.routed_model(body.read(body.size))
    except ValueError:
        return Refusal(400, f"The body is no JSON in which to find {where}")


def _overridden(
    body: Body | None, params: Mapping[str, Any], settings: Settings
) -> Body | Refusal | None:
    if body is None or not body.size:
        return body  # a request without a body has no parameters
    if body.size > settings.max_capture_bytes:
        return Refusal(413, "The body is too large for a config that overrides its parameters.")
    try:
        return body.replaced(rewriting.overridden(body.read(body.size), params))
    except ValueError:
        return Refusal(400, "The body must be a JSON object: the config overrides its members.")


def _beyond_rights(
    caller: GatewayKey, call: Call, upstream: UpstreamCall, body: Body | None, settings: Settings
) -> Refusal | None:
    """A refusal where a gateway key does not open what a call asks for."""
    if caller.models is None:
        return caller.refuse(upstream.provider)
    models: list[str] = []
    # What goes to the provider must be what is read here, whichever parser that one has: none that
    # an encoding or a second type could make something else of.
    is_json = _JSON.fullmatch(call.headers.get("content-type", "").strip())
    is_plain = call.headers.get("content-encoding", "identity").strip().lower() == "identity"
    if body and is_json and is_plain and body.size <= settings.max_capture_bytes:
        try:
            models = rewriting.models(body.read(body.size))
        except ValueError:
            models = []
    if not models or call.path not in settings.traced_endpoints:
        return Refusal(
            403,
            "This gateway key opens only some models, and so only what this gateway traces, in "
            f"JSON of at most {settings.max_capture_bytes} bytes that names a model.",
        )
    return caller.refuse(upstream.provider, [*models, *filter(None, [upstream.deployment])])


def _asking_for_usage(body: Body, settings: Settings) -> Body:
    # What is too large to be recorded is too large to be copied for this.
    if body.size > settings.max_capture_bytes:
        return body
    data = body.read(body.size)
    changed = rewriting.with_stream_usage(data)
    return body if changed == data else body.replaced(changed)


def _known(capture: Capture) -> Awaitable[Capture]:
    """A capture that need not be waited for."""
    known: asyncio.Future[Capture] = asyncio.Future()
    known.set_result(capture)
    return known
