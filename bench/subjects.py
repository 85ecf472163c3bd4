"""Who is measured: the provider itself, the floors, the gateway, and whoever is named by URL."""

import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from local.runtime import NODE_MODULES, Runtime, bundle, wrangler_config

BENCH = Path(__file__).resolve().parent
DIRECT, JS_FLOOR, FLOOR = "direct", "JavaScript floor", "Python floor"
UNTRACED, TRACED = "gateway, untraced", "gateway, traced"
KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-bench", "LANGFUSE_SECRET_KEY": "sk-lf-bench-secret"}

JS_WORKER = """\
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "worker", worker = (
      modules = [(name = "floor.mjs", esModule = embed "floor.mjs")],
      compatibilityDate = {date},
      bindings = [(name = "PROVIDER", text = {provider})],
      globalOutbound = "network",
    )),
    (name = "network", network = (allow = ["local"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", service = "worker", http = ())],
);
"""


@dataclass(frozen=True)
class Subject:
    """One who is measured. `pid` is None where there is no process whose CPU counts."""

    name: str
    url: str
    pid: int | None = None

    def cpu(self) -> float:
        """The CPU time that its process has used, in seconds."""
        assert self.pid
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system


def python_floor(provider: str) -> Runtime:
    """The minimal Worker in Python."""
    modules = {k: v for k, v in bundle().items() if k.startswith("python_modules/")}
    modules["entry.py"] = (BENCH / "floor.py").read_text()
    return Runtime({"PROVIDER": provider}, modules=modules)


def gateway(provider: str, langfuse: str | None, **options: Any) -> Runtime:
    """The gateway as it is deployed, with or without a Langfuse; `options` are the runtime's."""
    env: dict[str, Any] = {
        "PROVIDERS": json.dumps({"bench": {"base_url": f"{provider}/v1"}}),
        "DEFAULT_PROVIDER": "bench",
    }
    if langfuse:
        env |= {**KEYS, "LANGFUSE_BASE_URL": langfuse}
    return Runtime(env, **options)


@contextmanager
def js_floor(provider: str) -> Iterator[Subject]:
    """The minimal Worker in JavaScript."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        (Path(folder) / "floor.mjs").symlink_to(BENCH / "floor.mjs")
        date = json.dumps(wrangler_config()["compatibility_date"])
        config = Path(folder) / "config.capnp"
        config.write_text(JS_WORKER.format(date=date, provider=json.dumps(provider)))
        command = [NODE_MODULES / ".bin" / "workerd", "serve", "--control-fd=1", config]
        with running(command, stdin=subprocess.DEVNULL) as process:
            port = json.loads(_line(process))["port"]
            yield Subject(JS_FLOOR, f"http://127.0.0.1:{port}", process.pid)


class Servers:
    """The provider and the Langfuse behind all of them; `url` is the provider's."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        urls = json.loads(_line(process))
        self.url: str = urls["provider"]
        self.langfuse: str = urls["langfuse"]

    def stored(self) -> int:
        """How many observations Langfuse has taken."""
        with urllib.request.urlopen(f"{self.langfuse}/stored") as answer:
            return json.loads(answer.read())

    def wait_until_stored(self, count: int) -> None:
        """Return when it has taken so many. Raises TimeoutError."""
        wait_until(lambda: self.stored() >= count, f"{count} observations at Langfuse")


@contextmanager
def servers(recordings: Mapping[str, Any], port: int) -> Iterator[Servers]:
    """Start them; the provider on `port`, or on any where that is 0."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(recordings, file)
        file.flush()
        with running([_node(), BENCH / "servers.mjs", file.name, str(port)]) as process:
            yield Servers(process)


class Load:
    """The load tool."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, url: str, body: str, calls: int, connections: int) -> dict[str, Any]:
        """Make so many calls; what is measured is described in `load.mjs`. Raises RuntimeError
        where one fails."""
        headers = {"content-type": "application/json", "authorization": "Bearer sk-bench-client"}
        job = {"url": url, "headers": headers, "body": body}
        assert self._process.stdin
        print(
            json.dumps({**job, "connections": connections, "amount": calls}),
            file=self._process.stdin,
            flush=True,
        )
        result = json.loads(_line(self._process))
        if "error" in result:
            raise RuntimeError(f"{url}: {result['error']}")
        return result


@contextmanager
def load() -> Iterator[Load]:
    """Start the load tool."""
    with running([_node(), BENCH / "load.mjs"]) as process:
        yield Load(process)


@contextmanager
def running(command: list[Any], stdin: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block."""
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Return when a condition holds. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.01)


def _node() -> Path:
    return NODE_MODULES / ".bin" / "node"


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args} ended")
    return line
