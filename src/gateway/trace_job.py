"""A traced request's attempts as observations.

Without a config the only attempt becomes one observation. With a config the request becomes a span,
and each attempt an observation below it.
"""

import asyncio
import os
from dataclasses import replace

from core.json_body import JsonBody
from core.limits import OBSERVATION_DELAY_SECONDS
from core.memory_budget import Reservation
from core.observation import Observation
from core.strict_json import JsonObject, JsonValue
from core.trace_context import SPAN_ID_DIGITS
from core.types import Capture, Ending
from settings.routing_configs import CONFIG_HEADER
from tracing import Exchange, observe, request_span_with_attempts
from upstream.attempts import Attempt
from upstream.request_scope import RequestScope
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
        scope: RequestScope,
        reservation: Reservation,
        run: StrategyRun[Attempt],
        cache: ResponseCache,
    ) -> None:
        self.scope, self.reservation, self.run, self.cache = scope, reservation, run, cache
        self.reply_started: asyncio.Future[None] = asyncio.Future()
        # How much of each sent body is recorded, by the body's `id()`: attempts may share a body.
        # 0 where the budget for captures had no space left.
        self._recorded_bytes: dict[int, int] = {}
        self._reserve_body(scope.body)

    def release_bodies(self) -> None:
        """Release the memory of all sent bodies beyond the part that is recorded. Only after the
        last attempt: a truncated body cannot be sent again."""
        for body in (self.scope.body, *(attempt.body for attempt in self.run.attempts)):
            self._reserve_body(body)
            if body:
                body.truncate(self._recorded_bytes[id(body)])

    def _reserve_body(self, body: JsonBody | None) -> None:
        """Reserve memory for the part of a sent body that is recorded: at most `max_capture_bytes`,
        and nothing where the memory budget has less left. Does nothing for None, and for a body
        that has a reservation."""
        if body and id(body) not in self._recorded_bytes:
            size = min(body.size_bytes, self.scope.settings.max_capture_bytes)
            is_reserved = self.reservation.reserve(size, self.scope.platform.now())
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
            if not captures or self.scope.destination is None:
                return []
            await self.scope.platform.sleep(OBSERVATION_DELAY_SECONDS)
            exchanges = [
                self._exchange(attempt, capture)
                for attempt, capture in zip(attempts, captures, strict=True)
            ]
            if self.scope.config is None:
                return [observe(exchanges[0], self.scope.settings)]
            request_observation = observe(self._client_exchange(exchanges), self.scope.settings)
            is_hit = self.cache.status is CacheStatus.HIT
            children = (
                () if is_hit else (_with_own_observation_id(exchange) for exchange in exchanges)
            )
            return request_span_with_attempts(
                request_observation, [observe(child, self.scope.settings) for child in children]
            )

    def _exchange(self, attempt: Attempt, capture: Capture) -> Exchange:
        """The exchange of one attempt: what it sent, and what was captured of the reply. With a
        config, its metadata names the target and the number of the try, which is 1 for the
        first."""
        scope, body = self.scope, attempt.body
        assert scope.trace_context
        assert scope.destination
        if attempt.is_discarded:
            # The client did not wait for the rest of a discarded reply.
            capture = replace(capture, ended_at=attempt.replied_at)
        metadata = self._gateway_metadata()
        if scope.config:
            metadata |= {"target": attempt.target.path, "try": attempt.retry_number + 1}
            if attempt.target.name:
                metadata["target_name"] = attempt.target.name
        recorded, value = self._recorded(body)
        return Exchange(
            call=scope.call,
            trace_context=scope.trace_context,
            destination=scope.destination,
            provider=attempt.upstream.provider,
            request_body=recorded,
            request_bytes=body.size_bytes if body else 0,
            started_at=attempt.started_at,
            capture=capture,
            prefixed_model=attempt.upstream.prefixed_model,
            gateway_metadata=metadata,
            request_value=value,
        )

    def _client_exchange(self, exchanges: list[Exchange]) -> Exchange:
        """The whole request as one exchange, from which its span is made: the body that the client
        sent, the time since the first attempt, and the last attempt's reply. It has no reply where
        the client left before one was relayed.

        `exchanges` are those of the attempts in order, at least one.
        """
        scope, last = self.scope, exchanges[-1]
        config_header = scope.call.headers.get(CONFIG_HEADER, "").strip()
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
        recorded, value = self._recorded(scope.body)
        return replace(
            last,
            capture=capture,
            request_body=recorded,
            request_bytes=scope.body.size_bytes if scope.body else 0,
            request_value=value,
            started_at=exchanges[0].started_at,
            gateway_metadata=metadata,
        )

    def _gateway_metadata(self) -> JsonObject:
        """The metadata of every observation of the request: `{"gateway_key": name}`, or `{}` for a
        call without a gateway key."""
        return {"gateway_key": self.scope.caller.name} if self.scope.caller else {}

    def _recorded(self, body: JsonBody | None) -> tuple[bytes, JsonValue]:
        """What is recorded of a sent body: its beginning, in the size for which memory is reserved,
        and its JSON value, None where that is not known or not all of it is recorded. A `body` of
        None is recorded as empty."""
        if body is None:
            return b"", None
        recorded_bytes = self._recorded_bytes[id(body)]
        value = body.known_value if recorded_bytes == body.size_bytes else None
        return body.read_beginning(recorded_bytes), value


def _with_own_observation_id(exchange: Exchange) -> Exchange:
    """A copy of an attempt's exchange with a new random observation id, since the span of the
    request has the id that it had."""
    new_id = os.urandom(SPAN_ID_DIGITS // 2).hex()
    return replace(exchange, trace_context=replace(exchange.trace_context, observation_id=new_id))
