"""How much tracing keeps in memory, over all requests of an isolate.

An isolate has 128 MB, the interpreter included, and replies have to pass whatever tracing does.
https://developers.cloudflare.com/workers/platform/limits/#memory
"""

MEGABYTE = 1024 * 1024


class Ledger:
    """A number of bytes that all requests share."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Hold:
    """What one request has of a ledger. As a context manager it gives all of that back at the end,
    after which there is no more for it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._size = 0
        self._ended = False

    def take(self, size: int) -> bool:
        """Count `size` bytes more as used, if there are so many left."""
        if self._ended or self._ledger.used + size > self._ledger.limit:
            return False
        self._ledger.used += size
        self._size += size
        return True

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self._ledger.used -= self._size
        self._size, self._ended = 0, True


# What is captured of requests and replies, until it has become an observation.
captured = Ledger(10 * MEGABYTE)
# Observations that wait for their delivery. Each also stands, up to twice, in what is uploaded.
waiting = Ledger(5 * MEGABYTE)
