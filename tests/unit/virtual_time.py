"""An asyncio event loop on a virtual clock: a sleep advances the clock and returns immediately."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Selector(selectors.DefaultSelector):
    """A selector that adds `timeout` to its clock instead of waiting."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events and timeout is None:
            raise RuntimeError("everything waits, and for nothing")
        if not events and timeout:
            self.now += timeout
        return events


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock_selector = _Selector()
        super().__init__(self.clock_selector)

    def time(self) -> float:
        return self.clock_selector.now


def run(job: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on a new virtual clock and return its result."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(job)


def now() -> float:
    """The virtual time in seconds. Works only inside `run`."""
    return asyncio.get_running_loop().time()
