"""The Python side of the local host: search path, import of the Worker, calls of its handlers.

It runs inside Pyodide as the module `_local_host`, and is part of the snapshot that `snapshot.mjs`
takes. It does what Cloudflare's runtime does around a Worker's class: one instance per request,
whose arguments and result the SDK converts.
"""

import datetime
import functools
import gc
import importlib
import os
import random
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from pyodide.ffi import JsDoubleProxy, JsProxy

ROOT = "/session/metadata"
VENDORED = f"{ROOT}/python_modules"
# Functions, by module, whose results a snapshot would make the same in every isolate.
GUARDED: list[tuple[Any, tuple[str, ...]]] = [
    (time, ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")),
    (os, ("urandom",)),
    (random, ("_urandom", *(n for n in random.__all__ if n not in ("Random", "SystemRandom")))),
]
DATETIME_CLOCKS = ("now", "utcnow", "today")
worker: Any = None
is_importing = False


def import_sdk() -> None:
    """Set the search path and import the SDK, without the guards that hold for the Worker.

    The order of the path is Cloudflare's: standard library, `python_modules`, site-packages, and
    the Worker's modules last.
    https://github.com/cloudflare/workerd/blob/main/src/pyodide/internal/setup_python_search_path.py
    """
    site_packages = next(i for i, path in enumerate(sys.path) if "site-packages" in path)
    sys.path.insert(site_packages, VENDORED)
    sys.path.append(ROOT)
    restore()
    import workers  # noqa: F401


def restore() -> None:
    """Adapt Python's state to the process in which its memory was restored."""
    # Pyodide puts the current folder first whenever it starts. Cloudflare's runtime does not.
    sys.path[:] = [path for path in sys.path if path]
    importlib.invalidate_caches()  # the file system is a new one
    random.seed()


def import_worker() -> None:
    """Import `entry`. Clocks and random numbers raise RuntimeError meanwhile.

    A module that imports a guarded function by name keeps the guard, which then lets calls through.
    """
    global worker, is_importing
    originals = [(datetime, "datetime", datetime.datetime)]
    for module, names in GUARDED:
        originals += [(module, name, getattr(module, name)) for name in names]
    for module, name, original in originals[1:]:
        setattr(module, name, _guarded(f"{module.__name__}.{name}", original))
    datetime.datetime = _guarded_datetime(datetime.datetime)
    is_importing = True
    import entry

    is_importing = False
    for module, name, original in originals:
        setattr(module, name, original)
    worker = entry.Default


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if is_importing:
            raise RuntimeError(f"{name} at import: a deployed Worker is a snapshot taken after it")
        return function(*args, **kwargs)

    return guarded


def _guarded_datetime(original: type) -> type:
    """A subclass of `datetime`: the methods of a type that is written in C cannot be replaced."""
    guarded = type("datetime", (original,), {})
    for name in DATETIME_CLOCKS:
        clock = getattr(super(guarded, guarded), name)
        setattr(guarded, name, staticmethod(_guarded(f"datetime.{name}", clock)))
    return guarded


def javascript_objects() -> Iterator[tuple[str, JsProxy, bool]]:
    """All JavaScript objects that are reachable from a variable of a module in the bundle: through
    containers, attributes, closures and defaults, but not through another module.

    Each with the name of the variable, and whether it is a proxy of a Python object.
    """
    modules = {name: module for name, module in sys.modules.items() if hasattr(module, "__dict__")}
    namespaces = {id(vars(module)) for module in modules.values()}
    for name, module in modules.items():
        if str(getattr(module, "__file__", "")).startswith(ROOT):
            for variable, value in vars(module).items():
                for proxy in _reachable_proxies(value, namespaces):
                    yield f"{name}.{variable}", proxy, isinstance(proxy, JsDoubleProxy)


def _reachable_proxies(value: Any, namespaces: set[int]) -> Iterator[JsProxy]:
    """`namespaces` has the ids of the dictionaries of modules, where the search stops."""
    seen, waiting = {id(value)}, [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, JsProxy):
            yield current
        elif not isinstance(current, types.ModuleType) and id(current) not in namespaces:
            referents = [each for each in gc.get_referents(current) if id(each) not in seen]
            seen.update(map(id, referents))
            waiting += referents


async def handle(name: str, env: Any, ctx: Any, *args: Any) -> Any:
    """Call a handler of the Worker: JavaScript arguments in, JavaScript result out.

    Raises TypeError where the Worker has no handler of this name.
    """
    from workers import python_from_rpc, python_to_rpc

    handler = getattr(worker(ctx, env), name, None)
    if handler is None:
        raise TypeError(f"Method {name} does not exist")
    return python_to_rpc(await handler(*map(python_from_rpc, args)))
