"""A traced request's attempts as observations.

Without a config the only attempt becomes one observation. With a config the request becomes a span,
and each attempt an observation below it.
"""

import asyncio
import os
from dataclasses import replace
from typing import Any

from core.limits import OBSERVATION_DELAY_SECONDS
from core.memory_budget import Reservation
from core.observation import Observation
from core.platform import RequestBody, RequestPlatform
from core.trace_context import SPAN_ID_DIGITS
from core.types import Capture, Ending
from settings.load import Settings
from settings.routing_configs import CONFIG_HEADER
from tracing import Exchange, observe, request_span_with_attempts
from upstream.attempts import AdmittedRequest, Attempt
from upstream.response_cache import CacheStatus, ResponseCache
from upstream.strategy import StrategyRun


class TraceJob:
    """Waits until the replies of one request's attempts are captured, and makes observations of
    them. Also writes the last reply to the response cache, which uses the same capture.

    `run` has the attempts. `reservation` is the request's share of the memory budget for captures.
    `reply_started` is a future without a value: the caller resolves it when the last attempt's
    reply is on its way to the client, or cancels it where the request fails.
    """

    def __init__(
        self,
        request: AdmittedRequest,
        run: StrategyRun[Attempt],
        cache: ResponseCache,
        reservation: Reservation,
        settings: Settings,
        platform: RequestPlatform,
    ) -> None:
        self.request, self.run, self.cache = request, run, cache
        self.reservation, self.settings, self.platform = reservation, settings, platform
        self.reply_started: asyncio.Future[None] = asyncio.Future()
        # How much of each sent body is recorded, by the body's `id()`: attempts may share a body.
        # 0 where the budget for captures had no space left.
        self._recorded_bytes: dict[int, int] = {}
        self._reserve_body(request.body)

    def release_bodies(self) -> None:
        """Release the memory of all sent bodies beyond the part that is recorded. Only after the
        last attempt: a truncated body cannot be sent again."""
        for body in (self.request.body, *(attempt.body for attempt in self.run.attempts)):
            self._reserve_body(body)
            if body:
                body.truncate(self._recorded_bytes[id(body)])

    def _reserve_body(self, body: RequestBody | None) -> None:
        """Reserve memory for the part of a sent body that is recorded: at most `max_capture_bytes`,
        and nothing where the memory budget has less left. Does nothing for None, and for a body
        that has a reservation."""
        if body and id(body) not in self._recorded_bytes:
            size = min(body.size_bytes, self.settings.max_capture_bytes)
            is_reserved = self.reservation.reserve(size, self.platform.now())
            self._recorded_bytes[id(body)] = size if is_reserved else 0

    async def collect_observations(self) -> list[Observation]:
        """Wait until all captures are complete, cache the last reply if it is to be cached, and
        return the request's observations.

        Without a config that is one observation. With a config it is a span for the request,
        followed by one observation for each attempt; a reply from the cache has the span alone. The
        list is empty where no provider was called, and where the request is not traced.
        """
        with self.reservation:
            await self.reply_started
            attempts = self.run.attempts
            # The last attempt's capture starts only when it is awaited. It is awaited first, since
            # the captures of discarded replies are running already.
            last_first = reversed(attempts)
            captures = [await attempt.capture for attempt in last_first if attempt.capture][::-1]
            if captures:
                await self.cache.write(captures[-1])
            if not captures or self.request.destination is None:
                return []
            await self.platform.sleep(OBSERVATION_DELAY_SECONDS)
            exchanges = [
                self._exchange(attempt, capture)
                for attempt, capture in zip(attempts, captures, strict=True)
            ]
            if self.request.config is None:
                return [observe(exchanges[0], self.settings)]
            request_observation = observe(self._client_exchange(exchanges), self.settings)
            is_hit = self.cache.status is CacheStatus.HIT
            children = (
                () if is_hit else (_with_own_observation_id(exchange) for exchange in exchanges)
            )
            return request_span_with_attempts(
                request_observation, [observe(child, self.settings) for child in children]
            )

    def _exchange(self, attempt: Attempt, capture: Capture) -> Exchange:
        """The exchange of one attempt: what it sent, and what was captured of the reply. With a
        config, its metadata names the target and the number of the try, which is 1 for the
        first."""
        request, body = self.request, attempt.body
        assert request.trace_context
        assert request.destination
        if attempt.is_discarded:
            # The client did not wait for the rest of a discarded reply.
            capture = replace(capture, ended_at=attempt.replied_at)
        metadata = self._gateway_metadata()
        if request.config:
            metadata |= {"target": attempt.target.path, "try": attempt.retry_number + 1}
            if attempt.target.name:
                metadata["target_name"] = attempt.target.name
        return Exchange(
            call=request.call,
            trace_context=request.trace_context,
            destination=request.destination,
            provider=attempt.upstream.provider,
            request_body=self._recorded_body(body),
            request_bytes=body.size_bytes if body else 0,
            started_at=attempt.started_at,
            capture=capture,
            prefixed_model=attempt.upstream.prefixed_model,
            gateway_metadata=metadata,
        )

    def _client_exchange(self, exchanges: list[Exchange]) -> Exchange:
        """The whole request as one exchange, from which its span is made: the body that the client
        sent, the time since the first attempt, and the last attempt's reply. It has no reply where
        the client left before one was relayed.

        `exchanges` are those of the attempts in order, at least one.
        """
        request, last = self.request, exchanges[-1]
        config_header = request.call.headers.get(CONFIG_HEADER, "").strip()
        metadata = {
            **self._gateway_metadata(),
            "config": "inline" if config_header.startswith("{") else config_header,
        }
        if self.cache.status:
            metadata["cache_status"] = self.cache.status.value
        if self.cache.status is not CacheStatus.HIT:
            metadata |= {"target": last.gateway_metadata["target"], "attempts": len(exchanges)}
        if self.run.skipped:
            metadata["skipped"] = [
                f"{target.path}: {refusal.message}" for target, refusal in self.run.skipped
            ]
        capture = last.capture
        if self.run.stopped_for_client:
            capture = Capture(Ending.CLIENT_LEFT, capture.ended_at)
        return replace(
            last,
            capture=capture,
            request_body=self._recorded_body(request.body),
            request_bytes=request.body.size_bytes if request.body else 0,
            started_at=exchanges[0].started_at,
            gateway_metadata=metadata,
        )

    def _gateway_metadata(self) -> dict[str, Any]:
        """The metadata of every observation of the request: `{"gateway_key": name}`, or `{}` for a
        call without a gateway key."""
        return {"gateway_key": self.request.caller.name} if self.request.caller else {}

    def _recorded_body(self, body: RequestBody | None) -> bytes:
        """The part of a sent body to record: its beginning, in the size for which memory is
        reserved. b"" where the memory budget had none left, and for a `body` of None."""
        return body.read(self._recorded_bytes[id(body)]) if body else b""


def _with_own_observation_id(exchange: Exchange) -> Exchange:
    """A copy of an attempt's exchange with a new random observation id, since the span of the
    request has the id that it had."""
    new_id = os.urandom(SPAN_ID_DIGITS // 2).hex()
    return replace(exchange, trace_context=replace(exchange.trace_context, observation_id=new_id))
