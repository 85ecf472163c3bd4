"""Measurements of the Worker itself: the time of its import, its size and its memory.

Each function in `MEASUREMENTS` returns lists of repeated measurements by the figure's name.
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
# Memory is read after the first number of calls, and in this many steps up to the second. Its
# increase counts from the first on.
GROWTH_FROM, GROWTH_TO, GROWTH_STEPS = 2000, 20_000, 10

# A Worker that imports the modules in the query of a request.
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
    """The gateway's own sources in the bundle, by path."""
    return {k: v for k, v in bundle().items() if not k.startswith("python_modules/")}


def source(load: Load, servers: Servers, share: float) -> dict[str, list[float]]:
    """The size of the gateway's own sources in the bundle, in KiB, plain and gzipped."""
    texts = [text.encode() for text in own_sources().values()]
    return {
        "source_kib": [sum(map(len, texts)) / KIB],
        "source_compressed_kib": [len(gzip.compress(b"".join(texts))) / KIB],
    }


def standard_modules() -> list[str]:
    """The modules of the standard library that the gateway's sources import."""
    found: set[str] = set()
    for text in own_sources().values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    return sorted(name for name in found if name.partition(".")[0] in sys.stdlib_module_names)


def imports(load: Load, servers: Servers, share: float) -> dict[str, list[float]]:
    """The import times in a new runtime, in milliseconds: of the gateway's own modules, after those
    of the standard library. The time of a request without imports is subtracted."""
    modules = {**bundle(), "gateway_entry.py": bundle()["entry.py"], "entry.py": IMPORTER}
    found: dict[str, list[float]] = {"import_ms": [], "standard_library_import_ms": []}
    for _ in range(max(1, round(5 * share))):
        with Runtime({}, modules=modules) as runtime:
            connection = http.client.HTTPConnection(urlsplit(runtime.url).netloc)

            def request_ms(
                names: str, connection: http.client.HTTPConnection = connection
            ) -> float:
                began = time.perf_counter()
                connection.request("GET", f"/?{names}")
                response = connection.getresponse()
                response.read()
                assert response.status == 200, f"{names} can't be imported"
                return 1000 * (time.perf_counter() - began)

            empty = statistics.median(request_ms("") for _ in range(20))
            standard = request_ms(",".join(standard_modules()))
            own = request_ms("gateway_entry")
            connection.close()
        found["standard_library_import_ms"].append(standard - empty)
        found["import_ms"].append(own - empty)
    return found


def memory(load: Load, servers: Servers, share: float) -> dict[str, list[float]]:
    """The memory of one isolate that traces, in MiB: after more and more calls, and its peak during
    many large concurrent streams."""
    with _traced(servers) as (runtime, subject):
        samples: list[Memory] = []
        calls = 0
        step = (GROWTH_TO - GROWTH_FROM) // GROWTH_STEPS
        for goal in [GROWTH_FROM, *range(GROWTH_FROM + step, GROWTH_TO + 1, step)]:
            remaining = round(share * goal) - calls
            parts = sum(scenario.calls for scenario in EVERYDAY)
            for scenario in EVERYDAY:
                result = load.run(subject, scenario, max(1, remaining * scenario.calls // parts))
                subject.wait_for_traces(result["calls"])
                calls += result["calls"]
            samples.append(runtime.memory())
        peak = _peak(runtime, subject, load, amount(LARGE_STREAM, share))
    return {
        "memory_mib": [sample.total / MIB for sample in samples],
        "memory_wasm_mib": [sample.wasm / MIB for sample in samples],
        "memory_growth_mib": [(samples[-1].total - samples[0].total) / MIB],
        "memory_peak_mib": [peak / MIB],
    }


def _peak(runtime: Runtime, subject: Subject, load: Load, calls: int) -> int:
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(load.run, subject, LARGE_STREAM, calls)
        found = [runtime.memory().total]
        while not running.done():
            time.sleep(0.1)
            found.append(runtime.memory().total)
        subject.wait_for_traces(running.result()["calls"])
    return max(found)


@contextmanager
def _traced(servers: Servers) -> Iterator[tuple[Runtime, Subject]]:
    with gateway(servers.url, servers.langfuse, inspect=True) as runtime:
        traces = Traces(servers, runtime)
        yield runtime, Subject("memory", runtime.url, runtime.pid, wait_for_traces=traces.wait_for)


MEASUREMENTS = {"source": source, "import": imports, "memory": memory}
