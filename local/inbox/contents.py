"""The contents of an inbox: requests, traces and observations in memory, for any thread."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from local.inbox.listing import Listing, TraceFilter
from local.inbox.store import Observation, Store, Trace


@dataclass(frozen=True)
class Received:
    """A request to the API as it arrived, also one that was refused. A gzipped body is unpacked.
    `time` is in seconds since the epoch."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    time: float


class Contents:
    """Requests, traces and observations.

    `version` is the version of Langfuse that is simulated. `keep_requests` is the number of
    requests that are kept; `keep` that of traces, and of observations. `example` is a command that
    the page shows as long as it has no traces.
    """

    def __init__(self, version: str, keep_requests: int, keep: int) -> None:
        self.version = version
        self.example: str | None = None
        self._store = Store(keep)
        self._listing = Listing(self._store)
        self._requests: deque[Received] = deque(maxlen=keep_requests)
        # The lock for all attributes above. It is notified of each change of them.
        self._changed = threading.Condition()
        self._watchers: list[Callable[[], None]] = []

    @property
    def requests(self) -> list[Received]:
        """The latest requests to the API, the oldest first."""
        with self._changed:
            return list(self._requests)

    def traces(self) -> list[Trace]:
        """All traces. In version 2, only a `trace-create` event creates a trace; in later ones an
        observation does, too."""
        with self._changed:
            return self._store.traces(implied=self._major >= 3)

    def observations(self) -> list[Observation]:
        """All observations, in the order of their first arrival."""
        with self._changed:
            return self._store.observations()

    def raw(self, trace_id: str) -> list[dict[str, Any]]:
        """The events or spans of one trace as they arrived; empty for an unknown trace."""
        with self._changed:
            return self._store.raw(trace_id)

    def listed(self, since: str | None, filters: TraceFilter, limit: int) -> dict[str, Any]:
        """The list for the page, see `Listing.read`."""
        with self._changed:
            return self._listing.read(since, filters, limit=limit, implied=self._major >= 3)

    def trace(self, trace_id: str) -> tuple[Trace, list[Observation]] | None:
        """One trace and its observations, None for an unknown trace."""
        with self._changed:
            return self._store.trace(trace_id)

    @contextmanager
    def watched(self, wake: Callable[[], None]) -> Iterator[None]:
        """Within the context, call `wake` after each change. The thread may be any."""
        with self._changed:
            self._watchers.append(wake)
        try:
            yield
        finally:
            with self._changed:
                self._watchers.remove(wake)

    def wait_for(
        self,
        n: int = 1,
        timeout: float = 10,
        where: Callable[[Observation], bool] = lambda observation: True,
    ) -> list[Observation]:
        """Wait until at least `n` observations match `where`, and return all that do.

        Raises TimeoutError after `timeout` seconds, with the observations that are there instead.
        """

        def matching() -> list[Observation]:
            # To build all observations is expensive, and often the count is sufficient.
            if self._store.count < n:
                return []
            return [found for found in self._store.observations() if where(found)]

        with self._changed:
            if self._changed.wait_for(lambda: len(matching()) >= n, timeout):
                return matching()
            present = [f"{o['type']} {o['name']} {o['level']}" for o in self._store.observations()]
            raise TimeoutError(
                f"{len(matching())} of {n} observations after {timeout} s; "
                f"{len(self._requests)} requests; observations: {present[-20:]}"
            )

    def wait_for_requests(
        self,
        n: int = 1,
        timeout: float = 10,
        where: Callable[[Received], bool] = lambda request: request.method == "POST",
    ) -> list[Received]:
        """The same for requests, also for those that `fault` or the server refused."""

        def matching() -> list[Received]:
            return [found for found in self._requests if where(found)]

        with self._changed:
            if self._changed.wait_for(lambda: len(matching()) >= n, timeout):
                return matching()
            raise TimeoutError(f"{len(matching())} of {n} requests after {timeout} s")

    def clear(self) -> None:
        """Remove all traces, observations and requests."""
        with self._changed:
            self._store.clear()
            self._requests.clear()
            self._notify()

    @property
    def _major(self) -> int:
        return int(self.version.split(".")[0])

    def _notify(self) -> None:
        self._changed.notify_all()
        for wake in self._watchers:
            wake()
