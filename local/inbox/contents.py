"""What an inbox has received: kept in memory, read and waited for from any thread."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from local.inbox.listing import Listing, Wanted
from local.inbox.store import Observation, Store, Trace


@dataclass(frozen=True)
class Received:
    """One request to the API as it came, refused ones too; a gzipped body stands here unpacked."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    time: float


class Contents:
    """Requests, traces and observations.

    In: how many requests, and how many traces and observations, are kept. `version` is that of the
    server that is played; `example` is a command that the empty page shows to be tried.
    """

    def __init__(self, version: str, keep_requests: int, keep: int) -> None:
        self.version = version
        self.example: str | None = None
        self._store = Store(keep)
        self._listing = Listing(self._store)
        self._requests: deque[Received] = deque(maxlen=keep_requests)
        # Guards what is above; notified of each request and each thing kept.
        self._changed = threading.Condition()
        self._watchers: list[Callable[[], None]] = []

    @property
    def requests(self) -> list[Received]:
        """The last requests to the API as they came, for searching them."""
        with self._changed:
            return list(self._requests)

    def traces(self) -> list[Trace]:
        """All traces. The second version has only those that a `trace-create` made."""
        with self._changed:
            return self._store.traces(implied=self._major >= 3)

    def observations(self) -> list[Observation]:
        """All observations, in the order in which each was first heard of."""
        with self._changed:
            return self._store.observations()

    def raw(self, trace_id: str) -> list[dict[str, Any]]:
        """The events or spans of one trace as they came."""
        with self._changed:
            return self._store.raw(trace_id)

    def listed(self, since: str | None, wanted: Wanted, limit: int) -> dict[str, Any]:
        """What the page lists; see `Listing.read`."""
        with self._changed:
            return self._listing.read(since, wanted, limit=limit, implied=self._major >= 3)

    def trace(self, trace_id: str) -> tuple[Trace, list[Observation]] | None:
        """One trace and its observations."""
        with self._changed:
            return self._store.trace(trace_id)

    @contextmanager
    def watched(self, wake: Callable[[], None]) -> Iterator[None]:
        """Has `wake` called, in any thread, whenever something arrives."""
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
        """Waits until `n` observations fit `where` and returns all that do.

        Raises TimeoutError, with what is there instead, when `timeout` seconds have passed.
        """

        def fitting() -> list[Observation]:
            # Looking at all of them is not cheap, and the answer is often plain from the count.
            if self._store.count < n:
                return []
            return [found for found in self._store.observations() if where(found)]

        with self._changed:
            if self._changed.wait_for(lambda: len(fitting()) >= n, timeout):
                return fitting()
            kept = [f"{o['type']} {o['name']} {o['level']}" for o in self._store.observations()]
            raise TimeoutError(
                f"{len(fitting())} of {n} observations after {timeout} s; "
                f"{len(self._requests)} requests; observations: {kept[-20:]}"
            )

    def wait_for_requests(
        self,
        n: int = 1,
        timeout: float = 10,
        where: Callable[[Received], bool] = lambda request: request.method == "POST",
    ) -> list[Received]:
        """The same for requests as they came, also those that a fault or a rule refused."""

        def fitting() -> list[Received]:
            return [found for found in self._requests if where(found)]

        with self._changed:
            if self._changed.wait_for(lambda: len(fitting()) >= n, timeout):
                return fitting()
            raise TimeoutError(f"{len(fitting())} of {n} requests after {timeout} s")

    def clear(self) -> None:
        """Forgets what arrived, requests too."""
        with self._changed:
            self._store.clear()
            self._requests.clear()
            self._touch()

    @property
    def _major(self) -> int:
        return int(self.version.split(".")[0])

    def _touch(self) -> None:
        self._changed.notify_all()
        for wake in self._watchers:
            wake()
