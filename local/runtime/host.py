"""The Python side of the local host: search path, import of the Worker, and the call.

Runs inside Pyodide. It stands in for what Cloudflare's runtime does around a Worker's class:
one instance per request, the arguments and the result carried over by the SDK's own converters.
"""

import datetime
import functools
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import pyodide.ffi

ROOT = "/session/metadata"
SEALED: list[tuple[Any, tuple[str, ...]]] = [
    (time, ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")),
    (
        random,
        (
            "random",
            "randint",
            "randrange",
            "getrandbits",
            "choice",
            "uniform",
            "randbytes",
            "sample",
            "shuffle",
        ),
    ),
    (os, ("urandom",)),
    (pyodide.ffi, ("to_js", "create_proxy", "create_once_callable")),
]
NOW = ("now", "utcnow", "today")
worker: Any = None
importing = False


def prepare() -> None:
    """Put the bundle on the search path and load the SDK, which the snapshot rules do not bind."""
    sys.path[:0] = [ROOT, f"{ROOT}/python_modules"]
    import workers  # noqa: F401


def seal() -> None:
    """Guard what a snapshot cannot keep. The guards stay, open: a module keeps what it imported."""
    for module, names in SEALED:
        for name in names:
            setattr(module, name, _guarded(f"{module.__name__}.{name}", getattr(module, name)))
    # A method of a C type can't be replaced, only the type by a subclass.
    clocks = {name: _guarded(f"datetime.{name}", getattr(datetime.datetime, name)) for name in NOW}
    datetime.datetime = type("datetime", (datetime.datetime,), clocks)


def _guarded(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if importing:
            raise RuntimeError(f"{what} at import: a deployed Worker is a snapshot taken after it")
        return function(*args, **kwargs)

    return guarded


def import_worker() -> None:
    """Import `entry`, with everything refused that a deployed Worker may not do at import."""
    global worker, importing
    seal()
    importing = True
    import entry

    importing = False
    worker = entry.Default


async def handle(name: str, env: Any, ctx: Any, *args: Any) -> Any:
    """Call a handler of the Worker's: JavaScript arguments in, JavaScript result out."""
    from workers import python_from_rpc, python_to_rpc

    handler = getattr(worker(ctx, env), name, None)
    if handler is None:
        raise TypeError(f"Method {name} does not exist")
    return python_to_rpc(await handler(*map(python_from_rpc, args)))
