"""A request's way through its config: attempt after attempt, until a reply is good enough."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, Protocol, TypeVar

from core.limits import (
    CLIENT_CHECK_SECONDS,
    FIRST_RETRY_PAUSE_SECONDS,
    MAX_ATTEMPTS_PER_REQUEST,
    MAX_RETRY_PAUSE_SECONDS,
    MAX_TOTAL_PAUSE_SECONDS,
)
from core.platform import StrategyPlatform
from core.types import Refusal
from settings.conditions import query_matches
from settings.routing_configs import RetryPolicy, Target


class StrategyAttempt(Protocol):
    """One provider that is to be asked once."""

    async def send(self) -> None:
        """Ask it, and wait until its reply begins."""
        ...

    @property
    def statuses(self) -> Collection[int]:
        """The status of the reply; without one what stands for that in a config."""
        ...

    @property
    def retry_after(self) -> float | None:
        """How many seconds the provider wants to be left alone, where it says so."""
        ...

    def discard_reply(self) -> None:
        """Let go of the reply, which nobody will get; again is without effect."""
        ...


A = TypeVar("A", bound=StrategyAttempt)


class StrategyRun(Generic[A]):
    """One request's way through its config.

    `plan` makes the so many-eth attempt at a target, from 0, or says why there can't be one.
    `facts` are what conditions ask for. Afterwards `attempts` are those that were made, of which
    the last one's reply is the request's, and `skipped` are the others. `left` is set where it
    went no further for want of a client.
    """

    def __init__(
        self,
        plan_attempt: Callable[[Target, int], A | Refusal],
        condition_values: Callable[[], Mapping[str, Mapping[str, Any]]],
        platform: StrategyPlatform,
    ) -> None:
        self.plan_attempt, self.condition_values, self.platform = (
            plan_attempt,
            condition_values,
            platform,
        )
        self.attempts: list[A] = []
        self.skipped: list[tuple[Target, Refusal]] = []
        self.client_left = False
        self._waited = 0.0

    async def run(self, target: Target) -> bool:
        """Ask a target, or the right ones in it. Whether anybody was asked."""
        if not target.targets:
            return await self._run_with_retries(target)
        if target.mode == "loadbalance":
            return await self._run_loadbalance(target)
        if target.mode == "conditional":
            return await self._run_conditional(target)
        return await self._run_fallback(target)

    async def _run_fallback(self, target: Target) -> bool:
        asked = False
        for each in target.targets:
            asked = await self.run(each) or asked
            if asked and not self._is_failure(target.on_status_codes):
                break
        return asked

    async def _run_loadbalance(self, target: Target) -> bool:
        # A weight of 0 switches a target off.
        left = [each for each in target.targets if each.weight > 0]
        while left:
            point = self.platform.random() * sum(each.weight for each in left)
            chosen = left[-1]
            for each in left:
                point -= each.weight
                if point < 0:
                    chosen = each
                    break
            if await self.run(chosen):
                return True
            left.remove(chosen)
        return False

    async def _run_conditional(self, target: Target) -> bool:
        facts = self.condition_values()
        met = (then for query, then in target.conditions if query_matches(query, facts))
        name = next(met, target.default)
        for each in target.targets:
            if name is not None and each.name == name:
                return await self.run(each)
        refusal = Refusal(400, "No condition of the config is met, and it has no default.")
        self.skipped.append((target, refusal))
        return False

    async def _run_with_retries(self, target: Target) -> bool:
        tries = 0
        while await self._run_attempt(target, tries):
            tries += 1
            if not await self._wait_before_retry(tries, target.retry):
                break
        return tries > 0

    async def _run_attempt(self, target: Target, tries: int) -> bool:
        self.client_left = self.client_left or (bool(self.attempts) and self.platform.client_left())
        if self.client_left or len(self.attempts) == MAX_ATTEMPTS_PER_REQUEST:
            return False
        attempt = self.plan_attempt(target, tries)
        if isinstance(attempt, Refusal):
            self.skipped.append((target, attempt))
            return False
        if self.attempts:
            self.attempts[-1].discard_reply()
        self.attempts.append(attempt)
        await attempt.send()
        return True

    async def _wait_before_retry(self, tries: int, retry: RetryPolicy) -> bool:
        """Wait until a target is to be asked again, if it is."""
        if tries > retry.attempts or len(self.attempts) == MAX_ATTEMPTS_PER_REQUEST:
            return False
        if not self._is_failure(retry.on_status_codes):
            return False
        last = self.attempts[-1]
        pause = self.platform.random() * min(
            MAX_RETRY_PAUSE_SECONDS, FIRST_RETRY_PAUSE_SECONDS * 2 ** (tries - 1)
        )
        after = last.retry_after if retry.use_retry_after_header else None
        pause = max(pause, after or 0.0)
        if self._waited + pause > MAX_TOTAL_PAUSE_SECONDS:
            return False
        self._waited += pause
        last.discard_reply()
        # The platform soon ends whatever goes on for a client that left.
        while pause > 0 and not self.platform.client_left():
            await self.platform.sleep(min(pause, CLIENT_CHECK_SECONDS))
            pause -= CLIENT_CHECK_SECONDS
        return True

    def _is_failure(self, codes: Collection[int] | None) -> bool:
        """Whether the last reply is one of those that are not good enough."""
        statuses = self.attempts[-1].statuses
        if codes is None:
            return not any(200 <= status < 300 for status in statuses)
        return any(status in codes for status in statuses)
