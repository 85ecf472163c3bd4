"""The report: the results as text."""

from collections.abc import Iterator
from typing import Any

from bench.figures import DIRECT, FLOOR, TRACED, UNTRACED, Quote, Results, reach

KIB, MIB = 1024, 1024 * 1024
HEAD = (
    "                        first byte, ms                  to the end, ms         "
    "          gap, ms   requests/s             CPU, ms\n"
    "                        p50 (added)     p99 (added)     p50 (added)     p99 (added)"
    "     p99           x Python floor     a call"
)
# For the CPU per unit: the unit, the scenarios with few and with many of them, and the number of
# units between the two.
SLOPES = (
    ("chunk of a stream", "stream of 200, 16 at once", "stream of 2,000, 16 at once", 1800),
    ("100 KB of a request", "whole 0.5 KB, 16 at once", "request of 2 MB, 16 at once", 20),
    ("100 KB of a reply", "whole 0.5 KB, 16 at once", "whole 1 MB, 16 at once", 10),
)
CONNECTIONS = (1, 16, 64)
BY_CONNECTIONS = ("whole 0.5 KB", "stream of 50, paced", "stream of 200")
# The free plan's limit, https://developers.cloudflare.com/workers/platform/limits/#cpu-time
CPU_LIMIT_MS = 10.0


def text(results: Results) -> str:
    """The whole report."""
    parts = [_conditions, _calls, _growth, _memory, _worker, _budget]
    return "\n".join(line for part in parts for line in part(results))


def _conditions(results: Results) -> Iterator[str]:
    data = results.data
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    yield f"{data['date']}, {data['cpu']}, {data['cores']} cores, {versions}"
    if data["share"] < 1:
        yield f"For trying: {data['share']:.0%} of the calls. Such figures are not to be quoted."
    yield ""


def _calls(results: Results) -> Iterator[str]:
    if not results.data["calls"]:
        return
    yield f"Medians of {results.data['rounds']} rounds. Added is to direct, x to the Python floor,"
    yield "both within a round; in brackets behind x the lowest and the highest round."
    yield ""
    yield HEAD
    for scenario, subjects in results.data["calls"].items():
        yield scenario
        for subject in subjects:
            yield f"  {subject:18} " + _row(results, scenario, subject)
    traces = results.data["traces"]
    yield ""
    yield (
        f"Of {traces['calls']} calls that were traced, Langfuse has {traces['stored']};"
        f" dropped, and so logged: {traces['dropped']}."
    )
    yield ""


def _row(results: Results, scenario: str, subject: str) -> str:
    def time(figure: str) -> str:
        found = results.quote(scenario, subject, figure)
        more = results.minus(scenario, subject, figure, DIRECT)
        added = f"({_fit(more.median, '+')})" if more and subject != DIRECT else ""
        return f"{_fit(found.median) if found else '-':>7} {added:<8}"

    times = (time(f"{kind}_{share}_ms") for kind in ("first", "whole") for share in ("p50", "p99"))
    speed = results.quote(scenario, subject, "requests_per_second")
    ratio = results.over(scenario, subject, "requests_per_second", FLOOR)
    compared = "" if ratio is None else f"x{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
    dropped = sum(filter(None, results.rounds(scenario, subject, "traces_dropped")))
    return (
        f"{''.join(times)}{_number(results.quote(scenario, subject, 'gap_p99_ms'), 2, 8)}"
        f" {_number(speed, 0, 7)} {'' if subject in (FLOOR, DIRECT) else compared:20}"
        f"{_number(results.quote(scenario, subject, 'cpu_ms'), 2, 7)}"
        f"{f'  ({dropped:.0f} traces dropped)' if dropped else ''}"
    ).rstrip()


def _growth(results: Results) -> Iterator[str]:
    if not results.data["calls"]:
        return
    subjects = results.data["subjects"]
    yield "How cost grows"
    yield f"  {'':42}" + "".join(f"{name:>20}" for name in subjects)
    for unit, small, large, units in SLOPES:
        cells = [results.per_unit(small, large, name, "cpu_ms", units) for name in subjects]
        yield from _line(f"CPU of each {unit}, µs", cells, 1000, 1)
    for name in BY_CONNECTIONS:
        for connections in CONNECTIONS:
            scenario = f"{name}, {connections} at once"
            cells = [results.quote(scenario, s, "requests_per_second") for s in subjects]
            yield from _line(f"requests/s, {scenario}", cells, 1, 0)
    for name, size in (
        ("traced", reach_kb(results, TRACED)),
        ("untraced", reach_kb(results, UNTRACED)),
    ):
        if size:
            yield f"  {CPU_LIMIT_MS:g} ms of CPU hold a request's body of {size:,.0f} KB, {name}."
    yield ""


def reach_kb(results: Results, subject: str) -> float | None:
    """The largest request body, in KB, whose CPU time is within the free plan's limit; None where
    none was measured that is."""
    points: list[tuple[float, float]] = []
    for scenario, sizes in results.data["scenarios"].items():
        is_comparable = (
            scenario.startswith(("whole 0.5 KB", "request of")) and sizes["connections"] == 16
        )
        cost = results.quote(scenario, subject, "cpu_ms")
        if is_comparable and cost:
            points.append((sizes["request"] / 1000, cost.median))
    return reach(sorted(points), CPU_LIMIT_MS)


def _line(name: str, cells: list[Quote | None], scale: float, digits: int) -> Iterator[str]:
    if any(cells):
        numbers = (_number(cell, digits, 20, scale) for cell in cells)
        yield f"  {name:42}{''.join(numbers)}".rstrip()


def _memory(results: Results) -> Iterator[str]:
    resident: dict[str, Any] = results.data["resident"]
    if not resident:
        return
    yield "Resident memory of the process, MiB: warmed up, and after all calls"
    for name, before in resident["before"].items():
        if before:
            yield f"  {name:18} {before / MIB:7.0f} {resident['after'][name] / MIB:7.0f}"
    yield ""


def _worker(results: Results) -> Iterator[str]:
    found = results.worker
    if own := found("import_ms"):
        standard = found("standard_library_import_ms")
        yield f"Import of the Worker's own modules: {_range(own, 'ms')}"
        yield f"  and before it of the standard library's that they need: {_range(standard, 'ms')}"
    if size := found("source_kib"):
        packed = _number(found("source_compressed_kib"), 0, 0)
        yield f"Own source in the bundle: {size.median:.0f} KiB, compressed {packed} KiB"
    if found("memory_mib"):
        yield "Memory of an isolate that traces, MiB"
        for part, figure in (("", "memory_mib"), (", WebAssembly's alone", "memory_wasm_mib")):
            samples = " ".join(f"{sample:.1f}" for sample in results.data["worker"][figure])
            yield f"  over its calls{part}: {samples}"
        yield f"  at most, with 64 streams at once: {_number(found('memory_peak_mib'), 1, 0)}"
    yield ""


def _budget(results: Results) -> Iterator[str]:
    lines = results.data["budget"]
    yield f"{'Budget':62}   measured (low-high)         limit"
    for line in lines:
        yield f"  {line['name']:60} " + budget_result(line)
    missed = sum(line["met"] is False for line in lines)
    unknown = sum(line["met"] is None for line in lines)
    yield f"  {len(lines) - missed - unknown} met, {missed} missed, {unknown} not measured"


def budget_result(line: dict[str, Any]) -> str:
    """A checked line of the budget as text: the figure, the limit, and whether it is met."""
    unit = line["unit"]
    limit = f"<= {line['at_most']:g}" if line["at_least"] is None else f">= {line['at_least']:g}"
    limit += f" {unit}"
    if line["stretch"] is not None:
        limit += f" (stretch {line['stretch']:g})"
    if line["met"] is None:
        return f"{'not measured':28} {limit}"
    spread = f"({line['low']:.2f}-{line['high']:.2f})" if line["low"] != line["high"] else ""
    result = "met" if line["met"] else f"SHORT by {line['short_by']:.2f} {unit}"
    return f"{line['measured']:9.2f} {spread:18} {limit:28} {result}"


def _fit(value: float, sign: str = "") -> str:
    """A number with three significant digits, and at most two decimals."""
    return f"{value:{sign}.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"


def _range(found: Quote | None, unit: str) -> str:
    if found is None:
        return "not measured"
    return f"{found.median:.0f} {unit} ({found.low:.0f}-{found.high:.0f})"


def _number(found: Quote | None, digits: int, width: int, scale: float = 1) -> str:
    return f"{'-' if found is None else f'{scale * found.median:,.{digits}f}':>{width}}"
