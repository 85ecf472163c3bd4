"""What a traced request's attempts become: one observation, or with a config a span above them."""

import asyncio
import os
from dataclasses import replace
from typing import Any

from core.limits import OBSERVATION_DELAY_SECONDS
from core.memory_budget import Reservation
from core.platform import RequestBody
from core.trace_context import SPAN_ID_DIGITS
from core.types import Capture, Ending
from settings.load import Settings
from settings.routing_configs import CONFIG_HEADER
from tracing import Exchange, Observation, observe, request_span_with_attempts
from upstream.attempts import AdmittedRequest, Attempt
from upstream.response_cache import CacheStatus, ResponseCache
from upstream.strategy import StrategyRun


class TraceRecorder:
    """Follows a request's attempts until there is nothing more to see of them.

    `ended` is to be resolved when the last one's reply is on its way to the client.
    """

    def __init__(
        self,
        request: AdmittedRequest,
        run: StrategyRun[Attempt],
        cache: ResponseCache,
        reservation: Reservation,
        settings: Settings,
    ) -> None:
        self.request, self.run, self.cache = request, run, cache
        self.reservation, self.settings = reservation, settings
        self.reply_started: asyncio.Future[None] = asyncio.Future()
        # The bodies that were sent, of which several attempts may share one, and how much of each
        # there is room for.
        self._recorded_bytes: dict[int, int] = {}
        self._reserve_body(request.body)

    def release_bodies(self) -> None:
        """Let go of what is not kept of the bodies: nothing more is to be sent."""
        for body in (self.request.body, *(attempt.body for attempt in self.run.attempts)):
            self._reserve_body(body)
            if body:
                body.truncate(self._recorded_bytes[id(body)])

    def _reserve_body(self, body: RequestBody | None) -> None:
        if body and id(body) not in self._recorded_bytes:
            size = min(body.size_bytes, self.settings.max_capture_bytes)
            self._recorded_bytes[id(body)] = size if self.reservation.reserve(size) else 0

    async def collect_observations(self) -> list[Observation]:
        """What there is to be told of the request, once it has ended: nothing of one that no
        provider was asked for."""
        with self.reservation:
            await self.reply_started
            attempts = self.run.attempts
            # The last one's begins when it is waited for, and must not wait for the others'.
            last_first = reversed(attempts)
            captures = [await attempt.capture for attempt in last_first if attempt.capture][::-1]
            if captures:
                await self.cache.write(captures[-1])
            if not captures or self.request.destination is None:
                return []
            await self.run.platform.sleep(OBSERVATION_DELAY_SECONDS)
            exchanges = [
                self._exchange(attempt, capture)
                for attempt, capture in zip(attempts, captures, strict=True)
            ]
            if self.request.config is None:
                return [observe(exchanges[0], self.settings)]
            whole = observe(self._client_exchange(exchanges), self.settings)
            hit = self.cache.status is CacheStatus.HIT
            calls = () if hit else (_with_own_observation_id(exchange) for exchange in exchanges)
            return request_span_with_attempts(
                whole, [observe(call, self.settings) for call in calls]
            )

    def _exchange(self, attempt: Attempt, capture: Capture) -> Exchange:
        request, body = self.request, attempt.body
        assert request.trace_context
        assert request.destination
        if attempt.is_discarded:
            # What came of it later took nobody's time.
            capture = replace(capture, ended_at=attempt.answered_at)
        about = self._gateway_metadata()
        if request.config:
            about |= {"target": attempt.target.path, "try": attempt.retry_number + 1}
            if attempt.target.name:
                about["target_name"] = attempt.target.name
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
            gateway_metadata=about,
        )

    def _client_exchange(self, exchanges: list[Exchange]) -> Exchange:
        """The exchange as the client saw it: its own request, and the last attempt's reply, unless
        it left before that was its own."""
        request, last = self.request, exchanges[-1]
        named = request.call.headers.get(CONFIG_HEADER, "").strip()
        about = {**self._gateway_metadata(), "config": "inline" if named.startswith("{") else named}
        if self.cache.status:
            about["cache_status"] = self.cache.status.value
        if self.cache.status is not CacheStatus.HIT:
            about |= {"target": last.gateway_metadata["target"], "attempts": len(exchanges)}
        if self.run.skipped:
            about["skipped"] = [f"{target.path}: {why.message}" for target, why in self.run.skipped]
        capture = last.capture
        if self.run.client_left:
            capture = Capture(Ending.CLIENT_LEFT, capture.ended_at)
        return replace(
            last,
            capture=capture,
            request_body=self._recorded_body(request.body),
            request_bytes=request.body.size_bytes if request.body else 0,
            started_at=exchanges[0].started_at,
            gateway_metadata=about,
        )

    def _gateway_metadata(self) -> dict[str, Any]:
        """What the gateway knows of each of the request's observations."""
        return {"gateway_key": self.request.caller.name} if self.request.caller else {}

    def _recorded_body(self, body: RequestBody | None) -> bytes:
        return body.read(self._recorded_bytes[id(body)]) if body else b""


def _with_own_observation_id(exchange: Exchange) -> Exchange:
    """An attempt's exchange, whose observation is another one than its request's."""
    own = os.urandom(SPAN_ID_DIGITS // 2).hex()
    return replace(exchange, trace_context=replace(exchange.trace_context, observation_id=own))
