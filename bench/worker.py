"""What the Worker itself is: how long its import takes, how large it is, how much memory it needs.

Each function measures one of these, as lists of repeated measurements by the figure's name.
"""

import ast
import gzip
import http.client
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

from bench.measure import amount
from bench.scenarios import EVERYDAY, LARGE_STREAM
from bench.subjects import Load, Servers, Subject, Traces, gateway
from local.runtime import Runtime, bundle
from local.runtime.inspector import Memory

KIB, MIB = 1024, 1024 * 1024
# Where memory is looked at, in calls: from the first its growth counts.
GROWTH_FROM, GROWTH_TO, LOOKS = 2000, 20_000, 10

# Imports the modules that a request names in its query.
IMPORTER = """
import importlib

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        for name in filter(None, request.url.partition("?")[2].split(",")):
            importlib.import_module(name)
        return Response("")
"""


def own_sources() -> dict[str, str]:
    """Our own part of the bundle."""
    return {k: v for k, v in bundle().items() if not k.startswith("python_modules/")}


def source(load: Load, servers: Servers, share: float) -> dict[str, list[float]]:
    """The size of our own source in the bundle."""
    texts = [text.encode() for text in own_sources().values()]
    return {
        "source_kib": [sum(map(len, texts)) / KIB],
        "source_compressed_kib": [len(gzip.compress(b"".join(texts))) / KIB],
    }


def standard_modules() -> list[str]:
    """The modules of the standard library that our own import."""
    found: set[str] = set()
    for text in own_sources().values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    return sorted(name for name in found if name.partition(".")[0] in sys.stdlib_module_names)


def imports(load: Load, servers: Servers, share: float) -> dict[str, list[float]]:
    """How long our own modules take to import in a fresh runtime that has the standard library's
    already, beyond what a request takes that imports nothing."""
    modules = {**bundle(), "gateway_entry.py": bundle()["entry.py"], "entry.py": IMPORTER}
    found: dict[str, list[float]] = {"import_ms": [], "standard_library_import_ms": []}
    for _ in range(max(1, round(5 * share))):
        with Runtime({}, modules=modules) as runtime:
            connection = http.client.HTTPConnection(urlsplit(runtime.url).netloc)

            def ask(names: str, connection: http.client.HTTPConnection = connection) -> float:
                began = time.perf_counter()
                connection.request("GET", f"/?{names}")
                response = connection.getresponse()
                response.read()
                assert response.status == 200, f"{names} can't be imported"
                return 1000 * (time.perf_counter() - began)

            empty = statistics.median(ask("") for _ in range(20))
            standard = ask(",".join(standard_modules()))
            own = ask("gateway_entry")
            connection.close()
        found["standard_library_import_ms"].append(standard - empty)
        found["import_ms"].append(own - empty)
    return found


def memory(load: Load, servers: Servers, share: float) -> dict[str, list[float]]:
    """The memory of one isolate that traces: how it grows with calls, then its peak while many
    large streams run at once."""
    with _traced(servers) as (runtime, subject):
        looks: list[Memory] = []
        calls = 0
        step = (GROWTH_TO - GROWTH_FROM) // LOOKS
        for goal in [GROWTH_FROM, *range(GROWTH_FROM + step, GROWTH_TO + 1, step)]:
            wanted = round(share * goal) - calls
            parts = sum(scenario.calls for scenario in EVERYDAY)
            for scenario in EVERYDAY:
                made = load.run(subject, scenario, max(1, wanted * scenario.calls // parts))
                subject.settle(made["calls"])
                calls += made["calls"]
            looks.append(runtime.memory())
        peak = _peak(runtime, subject, load, amount(LARGE_STREAM, share))
    return {
        "memory_mib": [look.total / MIB for look in looks],
        "memory_wasm_mib": [look.wasm / MIB for look in looks],
        "memory_growth_mib": [(looks[-1].total - looks[0].total) / MIB],
        "memory_peak_mib": [peak / MIB],
    }


def _peak(runtime: Runtime, subject: Subject, load: Load, calls: int) -> int:
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(load.run, subject, LARGE_STREAM, calls)
        found = [runtime.memory().total]
        while not running.done():
            time.sleep(0.1)
            found.append(runtime.memory().total)
        subject.settle(running.result()["calls"])
    return max(found)


@contextmanager
def _traced(servers: Servers) -> Iterator[tuple[Runtime, Subject]]:
    with gateway(servers.url, servers.langfuse, inspect=True) as runtime:
        traces = Traces(servers, runtime)
        yield runtime, Subject("memory", runtime.url, runtime.pid, settle=traces.settle)


MEASUREMENTS = {"source": source, "import": imports, "memory": memory}
