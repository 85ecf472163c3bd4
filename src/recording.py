"""What a traced request's attempts become: one observation, or with a config a span above them."""

import asyncio
import os
from dataclasses import replace
from typing import Any

import memory
import tracing
from attempts import Attempt, Request
from caching import Cache, Status
from config import Settings
from configs import HEADER
from context import SPAN_ID_DIGITS
from resilience import Run
from runtime import Body
from tracing import Exchange, Observation
from vocabulary import Capture, Ending

# Seconds. Who has a reply may ask again at once, and should not wait until it is observed.
GIVE_WAY = 0.005


class Recorder:
    """Follows a request's attempts until there is nothing more to see of them.

    `ended` is to be resolved when the last one's reply is on its way to the client.
    """

    def __init__(
        self,
        request: Request,
        run: Run[Attempt],
        cache: Cache,
        hold: memory.Hold,
        settings: Settings,
    ) -> None:
        self.request, self.run, self.cache = request, run, cache
        self.hold, self.settings = hold, settings
        self.ended: asyncio.Future[None] = asyncio.Future()
        # The bodies that were sent, of which several attempts may share one, and how much of each
        # there is room for.
        self._bodies: dict[int, int] = {}
        self._count(request.body)

    def let_go(self) -> None:
        """Let go of what is not kept of the bodies: nothing more is to be sent."""
        for body in (self.request.body, *(attempt.body for attempt in self.run.attempts)):
            self._count(body)
            if body:
                body.keep(self._bodies[id(body)])

    def _count(self, body: Body | None) -> None:
        if body and id(body) not in self._bodies:
            size = min(body.size, self.settings.max_capture_bytes)
            self._bodies[id(body)] = size if self.hold.take(size) else 0

    async def observed(self) -> list[Observation]:
        """What there is to be told of the request, once it has ended: nothing of one that no
        provider was asked for."""
        with self.hold:
            await self.ended
            attempts = self.run.attempts
            # The last one's begins when it is waited for, and must not wait for the others'.
            last_first = reversed(attempts)
            captures = [await attempt.capture for attempt in last_first if attempt.capture][::-1]
            if captures:
                await self.cache.keep(captures[-1])
            if not captures or self.request.destination is None:
                return []
            await self.run.platform.sleep(GIVE_WAY)
            exchanges = [
                self._exchange(attempt, capture)
                for attempt, capture in zip(attempts, captures, strict=True)
            ]
            if self.request.config is None:
                return [tracing.observe(exchanges[0], self.settings)]
            whole = tracing.observe(self._whole(exchanges), self.settings)
            hit = self.cache.status is Status.HIT
            calls = () if hit else (_below(exchange) for exchange in exchanges)
            return tracing.with_attempts(
                whole, [tracing.observe(call, self.settings) for call in calls]
            )

    def _exchange(self, attempt: Attempt, capture: Capture) -> Exchange:
        request, body = self.request, attempt.body
        assert request.context
        assert request.destination
        if attempt.is_given_up:
            # What came of it later took nobody's time.
            capture = replace(capture, ended=attempt.answered)
        about = self._about()
        if request.config:
            about |= {"target": attempt.target.path, "try": attempt.tries + 1}
            if attempt.target.name:
                about["target_name"] = attempt.target.name
        return Exchange(
            call=request.call,
            context=request.context,
            destination=request.destination,
            provider=attempt.upstream.provider,
            request=self._read(body),
            request_size=body.size if body else 0,
            started=attempt.started,
            capture=capture,
            routed_model=attempt.upstream.routed_model,
            about=about,
        )

    def _whole(self, exchanges: list[Exchange]) -> Exchange:
        """The exchange as the client saw it: its own request, and the last attempt's reply, unless
        it left before that was its own."""
        request, last = self.request, exchanges[-1]
        named = request.call.headers.get(HEADER, "").strip()
        about = {**self._about(), "config": "inline" if named.startswith("{") else named}
        if self.cache.status:
            about["cache_status"] = self.cache.status.value
        if self.cache.status is not Status.HIT:
            about |= {"target": last.about["target"], "attempts": len(exchanges)}
        if self.run.skipped:
            about["skipped"] = [f"{target.path}: {why.message}" for target, why in self.run.skipped]
        capture = last.capture
        if self.run.left:
            capture = Capture(Ending.CLIENT_LEFT, capture.ended)
        return replace(
            last,
            capture=capture,
            request=self._read(request.body),
            request_size=request.body.size if request.body else 0,
            started=exchanges[0].started,
            about=about,
        )

    def _about(self) -> dict[str, Any]:
        """What the gateway knows of each of the request's observations."""
        return {"gateway_key": self.request.caller.name} if self.request.caller else {}

    def _read(self, body: Body | None) -> bytes:
        return body.read(self._bodies[id(body)]) if body else b""


def _below(exchange: Exchange) -> Exchange:
    """An attempt's exchange, whose observation is another one than its request's."""
    own = os.urandom(SPAN_ID_DIGITS // 2).hex()
    return replace(exchange, context=replace(exchange.context, observation_id=own))
