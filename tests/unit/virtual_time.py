"""Time that passes only where somebody waits for it, and then at once."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for `timeout` seconds it adds them to the clock."""

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
        self.clock = _Selector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def run(job: Coroutine[Any, Any, Result]) -> Result:
    """Run a job to its end; `now()` in it tells the time."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(job)


def now() -> float:
    """Seconds since some time, of which nobody had to wait one."""
    return asyncio.get_running_loop().time()
