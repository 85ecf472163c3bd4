"""The local runtime itself."""

import os
import re

import httpx
import pytest

from local.runtime import Runtime, bundle, workerd


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_start_leaves_no_workerd_behind(monkeypatch, fault):
    started = []

    def interrupt(runtime: Runtime) -> None:
        started.append(runtime.pid)
        raise fault

    monkeypatch.setattr(Runtime, "_boot", interrupt)
    with pytest.raises(fault):
        Runtime({})
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_worker_that_does_not_import_says_why():
    with pytest.raises(RuntimeError, match="no_such_module"):
        Runtime({}, modules={**bundle(), "entry.py": "import no_such_module"})


def test_a_workerd_that_npm_has_not_finished_is_not_installed(monkeypatch, tmp_path):
    (tmp_path / "workerd").write_text("#!/usr/bin/env node\n")
    monkeypatch.setattr(workerd, "WORKERD", tmp_path / "workerd")
    with pytest.raises(workerd.NotInstalled, match="make setup"):
        Runtime({})


# Python that looks for a way to compile code from text or bytes. Each attempt returns what it has
# found; one that raises an error or finds nothing is closed. It tries one while its memory is
# restored, the rest in a request, and then prepares to find more in the next request.
HOSTILE = """
import importlib

import _pyodide_entrypoint_helper
import js
import pyodide_js
from pyodide.code import run_js
from pyodide.ffi import create_proxy
from workers import WorkerEntrypoint, import_from_javascript

EMPTY = [0, 0x61, 0x73, 0x6D, 1, 0, 0, 0]
KINDS = ("object", "function")
caught = []
restored = []
import_module = importlib.import_module


def compile_while_restored(name):
    if name in ("os", "sys"):  # before `js` is restored
        return import_module(name)
    try:
        restored.append(f"open: {js.WebAssembly.Module.new(wasm())}")
    except Exception as error:
        restored.append(type(error).__name__)
    return import_module(name)


importlib.import_module = compile_while_restored


def wasm():
    return js.Uint8Array.new(EMPTY)


def do_an_import(name):
    return _pyodide_entrypoint_helper.doAnImport(name)


async def timer_of_text():
    js.setTimeout("globalThis.ran = true", 0)
    await js.scheduler.wait(5)
    return js.ran


def owner(name, *roots):
    # An own property of one of these objects that has a property of this name.
    for root in roots:
        for key in js.Reflect.ownKeys(root):
            value = getattr(js.Reflect.getOwnPropertyDescriptor(root, key), "value", None)
            if getattr(value, "typeof", "") in KINDS and js.Reflect.has(value, name):
                return value


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        names = ("cloudflare:workers", "host.mjs", "boot.mjs", "pyodide.mjs")
        workers, host, *others = [await do_an_import(name) for name in names]
        roots = (js.globalThis, js.WebAssembly, pyodide_js, workers, host, *others, self.env)
        attempts = {
            "env": lambda: self.env.UNSAFE_EVAL,
            "imported env": lambda: import_from_javascript("cloudflare:workers").env.UNSAFE_EVAL,
            "importable env": lambda: workers.env.UNSAFE_EVAL,
            "global": lambda: js.UNSAFE_EVAL,
            "eval": lambda: js.eval("1"),
            "Function": lambda: js.Function.new("return 1")(),
            "constructor": lambda: js.Object.constructor("return 1")(),
            "run_js": lambda: run_js("1"),
            "timer": timer_of_text,
            "data URL": lambda: do_an_import("data:text/javascript,export default 1"),
            "Module": lambda: js.WebAssembly.Module.new(wasm()),
            "compile": lambda: js.WebAssembly.compile(wasm()),
            "instantiate": lambda: js.WebAssembly.instantiate(wasm()),
            "what is left over": lambda: owner("newWasmModule", *roots),
            "a handler of its own": lambda: next((v for v in caught if hasattr(v, "UNSAFE_EVAL"))),
        }
        open_ = [text for text in restored if text.startswith("open")]
        for name, attempt in attempts.items():
            try:
                found = attempt()
                found = await found if hasattr(found, "then") or hasattr(found, "send") else found
            except Exception as error:
                print(name, type(error).__name__, error)
                continue
            if found:
                open_.append(f"{name}: {found}")
        self.prepare_for_the_next_request(workers, host)
        counts = f"{len(attempts)} attempts, {len(restored)} before, {len(caught)} caught"
        return js.Response.new(f"{counts}, open: {open_}")

    def prepare_for_the_next_request(self, workers, host):
        def catch(this, value, *_):
            caught.append(value)

        setter = js.Object.new()
        setter.set = create_proxy(catch, capture_this=True)
        setter.configurable = True
        for prototype in (workers.WorkerEntrypoint.prototype, js.Object.prototype):
            js.Object.defineProperty(prototype, "env", setter)
        handle = host.default.prototype.fetch

        def fetch(this, request, *_):
            caught.append(this.env)
            return js.Reflect.apply(handle, this, js.Array.of(request))

        host.default.prototype.fetch = create_proxy(fetch, capture_this=True)
"""


def test_no_python_can_compile_code():
    with Runtime({"SOME": "variable"}, modules={**bundle(), "entry.py": HOSTILE}) as runtime:
        answers = [httpx.get(runtime.url).text for _ in range(2)]
    for answer in answers:
        assert re.fullmatch(r"15 attempts, [1-9]\d* before, [1-9] caught, open: \[\]", answer), (
            answer
        )


SHOWING = """
import js
from workers import WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return js.Response.new(js.JSON.stringify(self.env._env))
"""


def test_what_is_built_in_holds_for_what_is_not_given():
    env = {"DEFAULTS": {"ONE": "built in", "OTHER": "built in"}, "OTHER": "given"}
    with Runtime(env, modules={**bundle(), "entry.py": SHOWING}) as runtime:
        assert httpx.get(runtime.url).json() == {"ONE": "built in", "OTHER": "given"}
