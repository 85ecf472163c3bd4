"""The order of a request's attempts: retry, fallback, load balancing and conditions.

The targets of a config are called one after another until a reply has an acceptable status. The
number of attempts and the total of all pauses are limited by `core.limits`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Generic, Protocol, TypeVar

from core.limits import MAX_ATTEMPTS_PER_REQUEST
from core.platform import StrategyPlatform
from core.strict_json import JsonObject
from core.types import Refusal
from settings.conditions import query_matches
from settings.routing_configs import Target
from settings.target_members import RetryPolicy
from upstream.retries import RetryPauses


class StrategyAttempt(Protocol):
    """One call to one provider, reduced to what a strategy uses of it."""

    async def send(self) -> None:
        """Call the provider, and wait until the head of its reply arrives or the call fails."""
        ...

    @property
    def statuses(self) -> Collection[int]:
        """The statuses that `on_status_codes` of a config is compared with: the one of the reply,
        or, where none came, those that stand for the failure, such as 504 and 408 for a timeout."""
        ...

    @property
    def retry_after(self) -> float | None:
        """The pause in seconds that the reply's `Retry-After` header requires. None where there is
        no reply, no such header, or a malformed one."""
        ...

    def discard_reply(self) -> None:
        """Release a reply that is not relayed to the client. Further calls have no effect."""
        ...


AttemptT = TypeVar("AttemptT", bound=StrategyAttempt)


class StrategyRun(Generic[AttemptT]):
    """Executes the routing config of one request: calls its targets until one replies with an
    acceptable status.

    `plan_attempt` takes a target and a retry number (0 for the first attempt at it). It returns the
    attempt, or a `Refusal` where the target cannot be called. `condition_values` returns the values
    that conditions test, as `{source: {name: value}}` with the sources `metadata`, `params` and
    `url`.

    `run` fills `attempts` with the attempts that were sent, in order; the reply of the last one is
    for the client. `skipped` has the targets that could not be called, each with its refusal.
    `stopped_for_client` is set where the run stopped because the client had left.
    """

    def __init__(
        self,
        plan_attempt: Callable[[Target, int], AttemptT | Refusal],
        condition_values: Callable[[], Mapping[str, JsonObject]],
        platform: StrategyPlatform,
    ) -> None:
        self.plan_attempt, self.condition_values, self.platform = (
            plan_attempt,
            condition_values,
            platform,
        )
        self.attempts: list[AttemptT] = []
        self.skipped: list[tuple[Target, Refusal]] = []
        self.stopped_for_client = False
        self._pauses = RetryPauses(platform)

    async def run(self, target: Target) -> bool:
        """Call a target that is a provider. For a target with nested `targets`, call those that its
        mode selects. Returns whether any attempt was sent."""
        if not target.targets:
            return await self._run_with_retries(target)
        if target.mode == "loadbalance":
            return await self._run_loadbalance(target)
        if target.mode == "conditional":
            return await self._run_conditional(target)
        return await self._run_fallback(target)

    async def _run_fallback(self, target: Target) -> bool:
        """Call the nested targets in order, until one replies with a status that is not a failure.
        Failures are the statuses in `on_status_codes` or, where that is None, all but 2xx. Returns
        whether any attempt was sent."""
        was_called = False
        for each in target.targets:
            was_called = await self.run(each) or was_called
            if was_called and not self._is_failure(target.on_status_codes):
                break
        return was_called

    async def _run_loadbalance(self, target: Target) -> bool:
        """Call one of the nested targets, drawn at random by weight. Where it cannot be called,
        draw again among the others. Returns whether any attempt was sent."""
        # A weight of 0 switches a target off.
        remaining = [each for each in target.targets if each.weight > 0]
        while remaining:
            point = self.platform.random() * sum(each.weight for each in remaining)
            chosen = remaining[-1]
            for each in remaining:
                point -= each.weight
                if point < 0:
                    chosen = each
                    break
            if await self.run(chosen):
                return True
            remaining.remove(chosen)
        return False

    async def _run_conditional(self, target: Target) -> bool:
        """Call the nested target that the first matching condition names, else the default one.
        Where neither exists, add a refusal to `skipped`. Returns whether any attempt was sent."""
        values = self.condition_values()
        matches = (name for query, name in target.conditions if query_matches(query, values))
        chosen = next(matches, target.default)
        for each in target.targets:
            if chosen is not None and each.name == chosen:
                return await self.run(each)
        refusal = Refusal(400, "No condition of the config is met, and it has no default.")
        self.skipped.append((target, refusal))
        return False

    async def _run_with_retries(self, target: Target) -> bool:
        """Call a target that is a provider, and call it again after each failure while its retry
        policy and the limits allow. Returns whether any attempt was sent."""
        retry_number = 0
        while await self._run_attempt(target, retry_number):
            retry_number += 1
            if not await self._wait_before_retry(retry_number, target.retry):
                break
        return retry_number > 0

    async def _run_attempt(self, target: Target, retry_number: int) -> bool:
        """Plan an attempt, discard the reply of the attempt before it, and send it. Returns whether
        it was sent.

        It is not sent where the target cannot be called, where the request has used up its
        attempts, or where the client has left. The latter is not checked before the request's first
        attempt.
        """
        self.stopped_for_client = self.stopped_for_client or (
            bool(self.attempts) and self.platform.client_left()
        )
        if self.stopped_for_client or len(self.attempts) == MAX_ATTEMPTS_PER_REQUEST:
            return False
        attempt = self.plan_attempt(target, retry_number)
        if isinstance(attempt, Refusal):
            self.skipped.append((target, attempt))
            return False
        if self.attempts:
            self.attempts[-1].discard_reply()
        self.attempts.append(attempt)
        await attempt.send()
        return True

    async def _wait_before_retry(self, retry_number: int, policy: RetryPolicy) -> bool:
        """Decide whether the last attempt is repeated. If so, discard its reply, pause, and return
        True.

        `retry_number` is the number of that retry, 1 for the first. Returns False and keeps the
        reply where `policy` allows no more retries, where the reply's status is not in its
        `on_status_codes`, or where the request has no attempts or no time for pauses left.
        """
        if retry_number > policy.attempts or len(self.attempts) == MAX_ATTEMPTS_PER_REQUEST:
            return False
        if not self._is_failure(policy.on_status_codes):
            return False
        last = self.attempts[-1]
        retry_after = last.retry_after if policy.use_retry_after_header else None
        pause = self._pauses.next_pause(retry_number, retry_after)
        if pause is None:
            return False
        last.discard_reply()
        await self._pauses.wait(pause)
        return True

    def _is_failure(self, codes: Collection[int] | None) -> bool:
        """Whether the last attempt ended with one of the statuses in `codes`. Where `codes` is
        None, whether its status is not 2xx."""
        statuses = self.attempts[-1].statuses
        if codes is None:
            return not any(200 <= status < 300 for status in statuses)
        return any(status in codes for status in statuses)
