"""The pauses before a target is called again."""

from core.limits import (
    CLIENT_CHECK_SECONDS,
    FIRST_RETRY_PAUSE_SECONDS,
    MAX_RETRY_PAUSE_SECONDS,
    MAX_TOTAL_PAUSE_SECONDS,
)
from core.platform import StrategyPlatform


class RetryPauses:
    """The pauses before the retries of one request. Their sum is at most
    `MAX_TOTAL_PAUSE_SECONDS`."""

    def __init__(self, platform: StrategyPlatform) -> None:
        self._platform = platform
        self._total_seconds = 0.0

    def next_pause(self, retry_number: int, retry_after: float | None) -> float | None:
        """Return the seconds to pause before a retry, and add them to the request's total. None
        where the total would be over `MAX_TOTAL_PAUSE_SECONDS`.

        `retry_number` is 1 for the first retry. The pause is random, up to a maximum that doubles
        with each retry. It is at least `retry_after`, the seconds that the provider's `Retry-After`
        header requires; None where it has none.
        """
        span = min(MAX_RETRY_PAUSE_SECONDS, FIRST_RETRY_PAUSE_SECONDS * 2 ** (retry_number - 1))
        pause = max(self._platform.random() * span, retry_after or 0.0)
        if self._total_seconds + pause > MAX_TOTAL_PAUSE_SECONDS:
            return None
        self._total_seconds += pause
        return pause

    async def wait(self, seconds: float) -> None:
        """Sleep for this time, or until the client has left: soon after that, the platform ends
        what still runs for the client."""
        while seconds > 0 and not self._platform.client_left():
            await self._platform.sleep(min(seconds, CLIENT_CHECK_SECONDS))
            seconds -= CLIENT_CHECK_SECONDS
