"""The subjects of the benchmark: the provider itself, the floors, the gateway, and peers by URL."""

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
    """A server that is measured. `pid` is its process, None where no CPU time is to be measured.
    `headers` are sent to it in addition to those for all subjects.

    `wait_for_traces` gets the number of calls that were made since the last time. It returns when
    all their traces are stored or dropped, with the number of those dropped.
    """

    name: str
    url: str
    pid: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_for_traces: Callable[[int], int] = lambda calls: 0

    def cpu(self) -> float | None:
        """The CPU time of its process, in seconds; None without a process."""
        return None if self.pid is None else cpu(self.pid)

    def resident(self) -> int | None:
        """The resident memory of its process, in bytes; None without a process."""
        return None if self.pid is None else psutil.Process(self.pid).memory_info().rss


def cpu(pid: int) -> float:
    """The CPU time of a process, user and system, in seconds."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def python_floor(provider: str) -> Runtime:
    """A runtime with the minimal Worker in Python."""
    modules = {k: v for k, v in bundle().items() if k.startswith("python_modules/")}
    modules["entry.py"] = (BENCH / "floor.py").read_text()
    return Runtime({"PROVIDER": provider}, modules=modules)


def gateway(provider: str, langfuse: str | None, **options: Any) -> Runtime:
    """The gateway as it is deployed, which traces where `langfuse` is a URL. `options` are those of
    `Runtime`."""
    env: dict[str, Any] = {
        "PROVIDERS": json.dumps({"bench": {"base_url": f"{provider}/v1"}}),
        "DEFAULT_PROVIDER": "bench",
    }
    if langfuse:
        env |= {**KEYS, "LANGFUSE_BASE_URL": langfuse}
    return Runtime(env, **options)


@contextmanager
def js_floor(provider: str) -> Iterator[Subject]:
    """Run the minimal Worker in JavaScript."""
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
    """The provider, whose URL is `url`, and the Langfuse that all subjects use."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        urls = json.loads(_line(process))
        self.url: str = urls["provider"]
        self.langfuse: str = urls["langfuse"]

    def stored(self) -> int:
        """The number of observations that Langfuse has stored."""
        with urllib.request.urlopen(f"{self.langfuse}/stored") as response:
            return json.loads(response.read())


class Traces:
    """The observations of one gateway. Each is stored by Langfuse, or dropped with a line in the
    gateway's log."""

    def __init__(self, servers: Servers, runtime: Runtime) -> None:
        self._servers, self._runtime = servers, runtime
        self._before = servers.stored()
        self.sent = 0

    def stored(self) -> int:
        """The number of them that Langfuse has stored."""
        return self._servers.stored() - self._before

    def dropped(self) -> int:
        """The number of them that were dropped, by the log. A gateway drops traces when many large
        replies at once exceed its memory budget."""
        lines = [line for line in [*self._runtime.logs] if "trace_not_delivered" in line]
        return sum(json.loads(line)["observations"] for line in lines)

    def wait_for(self, calls: int) -> int:
        """Wait until the observations of `calls` further calls are stored or dropped. Returns the
        number of those dropped. Raises TimeoutError."""
        before = self.dropped()
        self.sent += calls
        wait_until(
            lambda: self.stored() + self.dropped() >= self.sent,
            f"{self.sent} observations, stored or dropped",
        )
        return self.dropped() - before


@contextmanager
def all_subjects(
    servers: Servers, peers: Iterable[Subject]
) -> Iterator[tuple[list[Subject], Traces]]:
    """Start all subjects. Yields them, and the traces of the gateway that traces."""
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
                Subject(TRACED, traced.url, traced.pid, wait_for_traces=traces.wait_for),
                *peers,
            ],
            traces,
        )


@contextmanager
def servers(recordings: Mapping[str, Any], port: int) -> Iterator[Servers]:
    """Start provider and Langfuse. The provider listens on `port`, where 0 is any free port."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(recordings, file)
        file.flush()
        with running([_node(), BENCH / "servers.mjs", file.name, str(port)]) as process:
            yield Servers(process)


class Load:
    """The load tool, `load.mjs`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, subject: Subject, scenario: Scenario, calls: int) -> dict[str, Any]:
        """Make `calls` calls. `load.mjs` describes the result. Raises RuntimeError where a call
        fails."""
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
    """A process that is ended with the context."""
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until a condition is true. Raises TimeoutError with `what` in its message."""
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
