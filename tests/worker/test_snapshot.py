"""A deployed Worker is a memory snapshot taken after its import, and the host holds ours to it."""

import json
import urllib.request

from local.runtime import Runtime, bundle

# Tries at import what a snapshot forbids, and says in its response which of it was possible.
ENTRY = """
import json
import os
import random
import time
import uuid
from datetime import datetime

import js
from js import fetch, Headers
from pyodide.ffi import create_proxy, to_js
from workers import Response, WorkerEntrypoint

FORBIDDEN = {
    "clock": time.time,
    "datetime": lambda: datetime.now(),
    "abort timeout": lambda: js.AbortSignal.timeout(1),
    "shuffle": lambda: random.shuffle([1, 2]),
    "form data": lambda: js.FormData.new(),
    "monotonic clock": time.monotonic,
    "os random": lambda: os.urandom(8),
    "random": random.random,
    "uuid": uuid.uuid4,
    "js random": lambda: js.Math.random(),
    "fetch": lambda: fetch("http://127.0.0.1/"),
    "timer": lambda: js.setTimeout(lambda: None, 1),
    "headers": lambda: Headers.new(),
    "response": lambda: js.Response.new(),
    "stream": lambda: js.IdentityTransformStream.new(),
    "to_js": lambda: to_js([1]),
    "proxy": lambda: create_proxy(len),
}


def possible():
    names = []
    for name, attempt in FORBIDDEN.items():
        try:
            attempt()
            names.append(name)
        except Exception:
            continue
    return names


at_import = possible()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(json.dumps({"at import": at_import, "in a request": possible()}))
"""


def test_the_host_refuses_at_import_what_a_snapshot_forbids():
    modules = {path: text for path, text in bundle().items() if path.startswith("python_modules/")}
    with Runtime({}, modules={**modules, "entry.py": ENTRY}) as runtime:
        answer = json.load(urllib.request.urlopen(runtime.url))
    assert answer["at import"] == []
    # The guards are gone afterwards, also for what was imported by name.
    assert len(answer["in a request"]) == 17


def test_every_module_of_the_worker_is_imported_under_these_rules():
    """By a plain `import`, each on its own, so that none hides behind a lazy import."""
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
