"""A request's way through its config: attempt after attempt, until a reply is good enough."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, Protocol, TypeVar

import conditions
from configs import Retry, Target
from vocabulary import Refusal

# The platform counts what a request fetches, and its tracing needs some of that too.
MOST_ATTEMPTS = 8
# Seconds. The pauses between tries double, and each is some random part of that.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
# What a request waits between its tries, all in all.
LONGEST_WAIT = 60.0
# So often it is seen in a pause whether the client is still there.
LOOK_UP = 1.0


class Attempt(Protocol):
    """One provider that is to be asked once."""

    async def ask(self) -> None:
        """Ask it, and wait until its reply begins."""
        ...

    @property
    def statuses(self) -> Collection[int]:
        """The status of the reply; without one what stands for that in a config."""
        ...

    @property
    def after(self) -> float | None:
        """How many seconds the provider wants to be left alone, where it says so."""
        ...

    def give_up(self) -> None:
        """Let go of the reply, which nobody will get; again is without effect."""
        ...


class Platform(Protocol):
    """What this module asks of the runtime."""

    def random(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...
    def client_left(self) -> bool: ...


A = TypeVar("A", bound=Attempt)


class Run(Generic[A]):
    """One request's way through its config.

    `plan` makes the so many-eth attempt at a target, from 0, or says why there can't be one.
    `facts` are what conditions ask for. Afterwards `attempts` are those that were made, of which
    the last one's reply is the request's, and `skipped` are the others. `left` is set where it
    went no further for want of a client.
    """

    def __init__(
        self,
        plan: Callable[[Target, int], A | Refusal],
        facts: Callable[[], Mapping[str, Mapping[str, Any]]],
        platform: Platform,
    ) -> None:
        self.plan, self.facts, self.platform = plan, facts, platform
        self.attempts: list[A] = []
        self.skipped: list[tuple[Target, Refusal]] = []
        self.left = False
        self._waited = 0.0

    async def ask(self, target: Target) -> bool:
        """Ask a target, or the right ones in it. Whether anybody was asked."""
        if not target.targets:
            return await self._ask_and_retry(target)
        if target.mode == "loadbalance":
            return await self._ask_one_by_weight(target)
        if target.mode == "conditional":
            return await self._ask_one_by_condition(target)
        return await self._ask_in_turn(target)

    async def _ask_in_turn(self, target: Target) -> bool:
        asked = False
        for each in target.targets:
            asked = await self.ask(each) or asked
            if asked and not self._failed(target.on_status_codes):
                break
        return asked

    async def _ask_one_by_weight(self, target: Target) -> bool:
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
            if await self.ask(chosen):
                return True
            left.remove(chosen)
        return False

    async def _ask_one_by_condition(self, target: Target) -> bool:
        facts = self.facts()
        met = (then for query, then in target.conditions if conditions.matches(query, facts))
        name = next(met, target.default)
        for each in target.targets:
            if name is not None and each.name == name:
                return await self.ask(each)
        refusal = Refusal(400, "No condition of the config is met, and it has no default.")
        self.skipped.append((target, refusal))
        return False

    async def _ask_and_retry(self, target: Target) -> bool:
        tries = 0
        while await self._ask_once(target, tries):
            tries += 1
            if not await self._pause_before(tries, target.retry):
                break
        return tries > 0

    async def _ask_once(self, target: Target, tries: int) -> bool:
        self.left = self.left or (bool(self.attempts) and self.platform.client_left())
        if self.left or len(self.attempts) == MOST_ATTEMPTS:
            return False
        attempt = self.plan(target, tries)
        if isinstance(attempt, Refusal):
            self.skipped.append((target, attempt))
            return False
        if self.attempts:
            self.attempts[-1].give_up()
        self.attempts.append(attempt)
        await attempt.ask()
        return True

    async def _pause_before(self, tries: int, retry: Retry) -> bool:
        """Wait until a target is to be asked again, if it is."""
        if tries > retry.attempts or len(self.attempts) == MOST_ATTEMPTS:
            return False
        if not self._failed(retry.on_status_codes):
            return False
        last = self.attempts[-1]
        pause = self.platform.random() * min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1))
        after = last.after if retry.use_retry_after_header else None
        pause = max(pause, after or 0.0)
        if self._waited + pause > LONGEST_WAIT:
            return False
        self._waited += pause
        last.give_up()
        # The platform soon ends whatever goes on for a client that left.
        while pause > 0 and not self.platform.client_left():
            await self.platform.sleep(min(pause, LOOK_UP))
            pause -= LOOK_UP
        return True

    def _failed(self, codes: Collection[int] | None) -> bool:
        """Whether the last reply is one of those that are not good enough."""
        statuses = self.attempts[-1].statuses
        if codes is None:
            return not any(200 <= status < 300 for status in statuses)
        return any(status in codes for status in statuses)
