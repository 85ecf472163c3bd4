"""Who is measured: the provider itself, the floors, the gateway, and whoever is named by URL."""

import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # pyright: ignore[reportMissingImports] # `make bench` installs it

from bench.figures import DIRECT, FLOOR, JS_FLOOR, TRACED, UNTRACED
from bench.scenarios import Scenario
from local.runtime import NODE_MODULES, Runtime, bundle, wrangler_config

BENCH = Path(__file__).resolve().parent
KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-bench", "LANGFUSE_SECRET_KEY": "sk-lf-bench-secret"}
HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-bench-client"}

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
    """One who is measured. `pid` is None where there is no process whose CPU counts. `headers` are
    sent to it beside those that all get; `settle` returns when it has done all that so many more
    calls are to it; out: how many of their traces it dropped."""

    name: str
    url: str
    pid: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    settle: Callable[[int], int] = lambda calls: 0

    def cpu(self) -> float | None:
        """The CPU time that its process has used, in seconds."""
        return None if self.pid is None else cpu(self.pid)

    def resident(self) -> int | None:
        """The bytes that its process has in memory."""
        return None if self.pid is None else psutil.Process(self.pid).memory_info().rss


def cpu(pid: int) -> float:
    """The CPU time that a process has used, in seconds."""
    times = psutil.Process(pid).cpu_times()
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


class Traces:
    """The observations of a gateway, each of which Langfuse takes, or the log says was dropped."""

    def __init__(self, servers: Servers, runtime: Runtime) -> None:
        self._servers, self._runtime = servers, runtime
        self._before = servers.stored()
        self.sent = 0

    def stored(self) -> int:
        """How many Langfuse has taken."""
        return self._servers.stored() - self._before

    def dropped(self) -> int:
        """How many were given up, by the log. Of large replies that all come at once, a gateway
        keeps only so many in memory."""
        lines = [line for line in [*self._runtime.logs] if "trace_not_delivered" in line]
        return sum(json.loads(line)["observations"] for line in lines)

    def settle(self, calls: int) -> int:
        """Return when these of so many more calls are stored or dropped. Out: how many of them were
        dropped. Raises TimeoutError."""
        before = self.dropped()
        self.sent += calls
        wait_until(
            lambda: self.stored() + self.dropped() >= self.sent,
            f"{self.sent} observations, stored or dropped",
        )
        return self.dropped() - before


@contextmanager
def everybody(servers: Servers, peers: Iterable[Subject]) -> Iterator[tuple[list[Subject], Traces]]:
    """Start all who are measured; beside them the traces of the one who traces."""
    with ExitStack() as stack:
        floor = stack.enter_context(python_floor(servers.url))
        untraced = stack.enter_context(gateway(servers.url, None))
        traced = stack.enter_context(gateway(servers.url, servers.langfuse))
        traces = Traces(servers, traced)
        yield (
            [
                Subject(DIRECT, servers.url),
                stack.enter_context(js_floor(servers.url)),
                Subject(FLOOR, floor.url, floor.pid),
                Subject(UNTRACED, untraced.url, untraced.pid),
                Subject(TRACED, traced.url, traced.pid, settle=traces.settle),
                *peers,
            ],
            traces,
        )


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

    def run(self, subject: Subject, scenario: Scenario, calls: int) -> dict[str, Any]:
        """Make so many calls; what is measured is described in `load.mjs`. Raises RuntimeError
        where one fails."""
        job = {
            "url": subject.url + scenario.path,
            "headers": {**HEADERS, **subject.headers},
            "body": scenario.body,
            "connections": scenario.connections,
            "amount": calls,
        }
        assert self._process.stdin
        print(json.dumps(job), file=self._process.stdin, flush=True)
        result = json.loads(_line(self._process))
        if "error" in result:
            raise RuntimeError(f"{subject.name}, {scenario.label}: {result['error']}")
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
