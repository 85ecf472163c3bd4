"""A deployed Worker is a memory snapshot taken after its import; the local runtime takes one too.

https://developers.cloudflare.com/workers/languages/python/how-python-workers-work/
"""

import json
import urllib.request

import pytest

from local.runtime import Runtime, bundle

SDK = {path: text for path, text in bundle().items() if path.startswith("python_modules/")}


def answer(runtime: Runtime) -> dict[str, object]:
    """The JSON that the Worker answers a request with."""
    return json.load(urllib.request.urlopen(runtime.url))


# Tries at import what a deployed Worker cannot do there, and reports what was possible.
FORBIDDEN = """
import json
import os
import random
import secrets
import time
import uuid
from datetime import datetime
from random import randrange

import js
from js import fetch, Math
from workers import Response, WorkerEntrypoint

ATTEMPTS = {
    "clock": time.time,
    "monotonic clock": time.monotonic,
    "date": lambda: datetime.now(),
    "random": random.random,
    "imported random": lambda: randrange(6),
    "shuffle": lambda: random.shuffle([1, 2]),
    "secrets": lambda: secrets.token_hex(8),
    "uuid": uuid.uuid4,
    "urandom": lambda: os.urandom(8),
    "js random": lambda: Math.random(),
    "js random values": lambda: js.crypto.getRandomValues(js.Uint8Array.new(8)),
    "js uuid": lambda: js.crypto.randomUUID(),
    "fetch": lambda: fetch("http://127.0.0.1/"),
    "timer": lambda: js.setTimeout(lambda: None, 1),
    "interval": lambda: js.clearInterval(js.setInterval(lambda: None, 1)),
    "abort timeout": lambda: js.AbortSignal.timeout(1),
    "body": lambda: js.Response.new("a body"),
    "stream": lambda: js.IdentityTransformStream.new(),
}


def possible():
    names = []
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
            names.append(name)
        except Exception:
            continue
    return names


AT_IMPORT = possible()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        report = {"at import": AT_IMPORT, "in a request": possible(), "all": list(ATTEMPTS)}
        return Response(json.dumps(report))
"""


def test_neither_io_nor_random_numbers_nor_the_clock_are_available_at_import():
    with Runtime({}, modules={**SDK, "entry.py": FORBIDDEN}) as runtime:
        found = answer(runtime)
    assert found["at import"] == []
    # Also through what was imported by name before the first request.
    assert found["in a request"] == found["all"]


def test_every_module_of_the_worker_is_imported_under_these_rules():
    """Each by an `import` of its own, so that none is left out by a lazy import."""
    names = [
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in bundle()
        if not path.startswith("python_modules/")
    ]
    assert {"entry", "cloudflare.reply", "dialects.chat"} <= set(names)
    lines = "\n".join(f"import {name}" for name in names if name != "entry")
    source = bundle()["entry.py"] + "\n" + lines
    with Runtime({}, modules={**bundle(), "entry.py": source}) as runtime:
        assert json.load(urllib.request.urlopen(f"{runtime.url}/health"))["status"] == "ok"


# Keeps JavaScript objects in ways that Cloudflare's snapshot refuses.
KEPT = """
import collections
import functools

import js
from js import Object
from pyodide.ffi import to_js

ARRAY = js.Array.new()
OBJECT = Object.new()
MAP = js.Map.new()
ENCODER = js.TextEncoder.new()
HEADERS = js.Headers.new()
CONVERTED = to_js([1])
PROTOTYPE = Object.prototype
METHOD = js.Array.new().push
NESTED = {"a": [(js.Array.new(),)]}
DEQUE = collections.deque([js.Array.new()])
PARTIAL = functools.partial(print, js.Array.new())
dropped = js.Array.new()
del dropped


class Holder:
    attribute = js.Array.new()

    def __init__(self):
        self.kept = js.Array.new()


INSTANCE = Holder()


def with_default(value=js.Array.new()):
    return value


def closure():
    value = js.Array.new()
    return lambda: value


CLOSURE = closure()
"""


def refusal(modules: dict[str, str]) -> list[str]:
    """The variables that a start refuses for the JavaScript objects that they keep."""
    with pytest.raises(RuntimeError) as refused:
        Runtime({}, modules=modules)
    lines = str(refused.value).splitlines()
    return [line.strip() for line in lines if ": JavaScript " in line]


def test_a_javascript_object_that_a_module_keeps_is_refused():
    """Cloudflare answers "Can't serialize top-level variable"."""
    modules = {**bundle(), "settings/kept.py": KEPT, "names.py": "from settings.kept import MAP"}
    modules["entry.py"] += "\nimport settings.kept\nimport names\n"
    assert refusal(modules) == [
        "names.MAP, settings.kept.MAP: JavaScript Map",
        "settings.kept.ARRAY: JavaScript Array",
        "settings.kept.CLOSURE: JavaScript Array",
        "settings.kept.CONVERTED: JavaScript Array",
        "settings.kept.DEQUE: JavaScript Array",
        "settings.kept.ENCODER: JavaScript TextEncoder",
        "settings.kept.HEADERS: JavaScript Headers",
        "settings.kept.Holder, settings.kept.INSTANCE: JavaScript Array",
        "settings.kept.INSTANCE: JavaScript Array",
        "settings.kept.METHOD: JavaScript Function",
        "settings.kept.NESTED: JavaScript Array",
        "settings.kept.OBJECT: JavaScript Object",
        "settings.kept.PARTIAL: JavaScript Array",
        "settings.kept.PROTOTYPE: JavaScript Object",
        "settings.kept.with_default: JavaScript Array",
        "something that was imported: JavaScript Array",  # the object of METHOD
    ]


def test_a_python_object_that_javascript_keeps_is_refused():
    source = bundle()["entry.py"] + "\nimport pyodide.ffi\nKEPT = [pyodide.ffi.create_proxy(len)]\n"
    assert refusal({**bundle(), "entry.py": source}) == [
        "entry.KEPT: JavaScript proxy of a Python object"
    ]


# Keeps what Cloudflare's snapshot can: what JavaScript's global scope leads to by names.
ALLOWED = """
import json

import _cloudflare_compat_flags
import _pyodide_entrypoint_helper
import js
import pyodide_js
from js import Array, Headers, JSON, Math, Object, fetch
from pyodide.ffi import create_proxy, to_js
from workers import Response, WorkerEntrypoint, env, import_from_javascript

WORKERS = import_from_javascript("cloudflare:workers")
LIST = [js.Request, {"parse": JSON.parse}]
LENGTH = len(Array.new(3)) + len(js.URL.new("http://127.0.0.1/").pathname)


class Default(WorkerEntrypoint):
    signal = js.AbortSignal

    async def fetch(self, request):
        copied = Headers.new([["a", "b"]])
        report = {
            "headers": copied.get("a"),
            "request": LIST[0].new("http://127.0.0.1/a").url,
            "parsed": LIST[1]["parse"]("[1]").length,
            "text": env.TEXT,
            "same text": WORKERS.env.TEXT,
            "aborted": self.signal.abort().aborted,
            "rounded": Math.round(1.6),
            "length": LENGTH,
            "version": pyodide_js.version.split(".")[0],
        }
        return Response(json.dumps(report))
"""


def test_what_the_global_scope_leads_to_may_be_kept():
    with Runtime({"TEXT": "a text"}, modules={**SDK, "entry.py": ALLOWED}) as runtime:
        assert answer(runtime) == {
            "headers": "b",
            "request": "http://127.0.0.1/a",
            "parsed": 1,
            "text": "a text",
            "same text": "a text",
            "aborted": True,
            "rounded": 2,
            "length": 4,
            "version": "314",
        }


# Reports where some modules were found.
SEARCHING = """
import json
import sys
import types

import own
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        import lazily

        files = {name: sys.modules[name].__file__ for name in ("types", "workers", "own", "lazily")}
        return Response(json.dumps({"files": files, "path": sys.path}))
"""


def test_modules_are_searched_for_in_the_order_of_cloudflare():
    """The standard library, `python_modules`, Pyodide's packages, the Worker's own modules."""
    own = dict.fromkeys(("types.py", "workers.py", "own.py", "lazily.py"), "")
    with Runtime({}, modules={**SDK, **own, "entry.py": SEARCHING}) as runtime:
        found = answer(runtime)
    assert found["path"] == [
        "/lib/python314.zip",
        "/lib/python3.14/lib-dynload",
        "/session/metadata/python_modules",
        "/lib/python3.14/site-packages",
        "/session/metadata",
    ]
    assert found["files"] == {
        "types": "/lib/python314.zip/types.py",
        "workers": "/session/metadata/python_modules/workers/__init__.py",
        "own": "/session/metadata/own.py",
        "lazily": "/session/metadata/lazily.py",
    }


# Reports what must be new in each process, and what Cloudflare keeps the same.
ENTROPY = """
import json
import os
import random
import secrets
import time
import uuid

import js
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        fresh = [
            os.urandom(8).hex(),
            random.random(),
            random.Random().random(),
            random.SystemRandom().random(),
            secrets.token_hex(8),
            str(uuid.uuid4()),
            js.Math.random(),
            js.crypto.randomUUID(),
        ]
        same = [hash("a text"), list({"one", "two", "three", "four", "five"})]
        return Response(json.dumps({"fresh": fresh, "same": same, "time": time.time()}))
"""


def test_random_numbers_differ_between_two_starts():
    found = []
    for _ in range(2):
        with Runtime({}, modules={**SDK, "entry.py": ENTROPY}) as runtime:
            found.append(answer(runtime))
    first, second = found
    assert not set(first["fresh"]) & set(second["fresh"])
    assert first["same"] == second["same"]
    assert second["time"] > first["time"] > 1e9
