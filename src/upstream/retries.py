"""The pauses before a target is called again."""

from core.limits import (
    CLIENT_CHECK_SECONDS,
    FIRST_RETRY_PAUSE_SECONDS,
    MAX_RETRY_PAUSE_SECONDS,
    MAX_TOTAL_PAUSE_SECONDS,
)
from core.platform import StrategyPlatform


class RetryPauses:
    """The pauses of one request. Their sum is at most `MAX_TOTAL_PAUSE_SECONDS`."""

    def __init__(self, platform: StrategyPlatform) -> None:
        self._platform = platform
        self._total_seconds = 0.0

    def next_pause(self, retry_number: int, retry_after: float | None) -> float | None:
        """The pause in seconds before the retry with this number, which is 1 for the first. None
        where the request has not so much left.

        It is a random part of a span that doubles with each retry, and at least `retry_after`, the
        seconds that the provider's `Retry-After` requires.
        """
        span = min(MAX_RETRY_PAUSE_SECONDS, FIRST_RETRY_PAUSE_SECONDS * 2 ** (retry_number - 1))
        pause = max(self._platform.random() * span, retry_after or 0.0)
        if self._total_seconds + pause > MAX_TOTAL_PAUSE_SECONDS:
            return None
        self._total_seconds += pause
        return pause

    async def wait(self, seconds: float) -> None:
        """Wait for this time, or until the client has left: soon after that, the platform ends
        whatever still runs for the client."""
        while seconds > 0 and not self._platform.client_left():
            await self._platform.sleep(min(seconds, CLIENT_CHECK_SECONDS))
            seconds -= CLIENT_CHECK_SECONDS
