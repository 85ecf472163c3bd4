"""`make bench`: what the gateway costs, beside what there is without it."""

import argparse
import asyncio
import datetime
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil  # pyright: ignore[reportMissingImports]

from bench import budget, measure, report, worker
from bench.figures import Results
from bench.scenarios import EVERYDAY, LARGE_STREAM, SCENARIOS, WARM_UP, Scenario, recordings
from bench.subjects import Subject, all_subjects, load, servers
from local.runtime import NODE_MODULES, ROOT, NotInstalled, require_installed

OUT = ROOT / "bench" / "out" / "results.json"
PICTURE = ROOT / "docs" / "benchmark.svg"


def peer(text: str) -> Subject:
    """A peer from the command line, `NAME=URL[,PID]`. Raises ValueError."""
    name, _, rest = text.partition("=")
    url, _, pid = rest.partition(",")
    if not name or not url.startswith("http"):
        raise ValueError(text)
    return Subject(name, url.rstrip("/"), int(pid) if pid else None)


def header(text: str) -> tuple[str, str]:
    """A header from the command line, `Name: value`. Raises ValueError."""
    name, colon, value = text.partition(":")
    if not name or not colon:
        raise ValueError(text)
    return name.strip(), value.strip()


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line, by default that of the process."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="how often all is measured (default: 5)")
    add("--share", type=float, default=1, help="which share of the calls is made (default: 1)")
    add("--quick", action="store_true", help="2 rounds of a tenth of the calls, for trying")
    add(
        "--scenario",
        dest="scenarios",
        action="append",
        default=[],
        metavar="TEXT",
        help="measure only what has TEXT in its name, of the scenarios and of"
        f" {', '.join(worker.MEASUREMENTS)}; may be repeated",
    )
    add(
        "--peer",
        dest="peers",
        type=peer,
        action="append",
        default=[],
        metavar="NAME=URL[,PID]",
        help="measure another gateway too, and the CPU of that process",
    )
    add(
        "--header",
        dest="headers",
        type=header,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="send this header to the peers",
    )
    add("--port", type=int, default=0, help="the provider's port, which a peer has to know")
    add("--out", type=Path, default=OUT, help="the JSON (default: bench/out/results.json)")
    parsed = parser.parse_args(arguments)
    if parsed.quick:
        parsed.rounds, parsed.share = 2, 0.1
    return parsed


def selected(name: str, texts: Sequence[str]) -> bool:
    """Whether the `--scenario` options select this name. Without any, all are selected."""
    return not texts or any(text in name for text in texts)


def versions() -> dict[str, str]:
    """The versions of the programs that take part in the benchmark, by name."""
    packages = {
        name: json.loads((NODE_MODULES / name / "package.json").read_text())["version"]
        for name in ("workerd", "pyodide", "node", "autocannon")
    }
    return {**packages, "python": platform.python_version()}


def cpu_model() -> str:
    """The name of the machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure what the command line selects. Returns the content of the JSON file."""

    def progress(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    scenarios = [s for s in SCENARIOS if selected(s.label, chosen.scenarios)]
    measurements = {
        name: function
        for name, function in worker.MEASUREMENTS.items()
        if selected(name, chosen.scenarios)
    }
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "cpu": cpu_model(),
        "cores": psutil.cpu_count(),
        "rounds": chosen.rounds,
        "share": chosen.share,
        "scenarios": {scenario.label: scenario.described() for scenario in scenarios},
        "subjects": [],
        "calls": {},
        "resident": {},
        "traces": {},
        "worker": {},
    }
    recorded: list[Scenario] = [*scenarios, *WARM_UP, *EVERYDAY, LARGE_STREAM]
    peers = [Subject(p.name, p.url, p.pid, headers=dict(chosen.headers)) for p in chosen.peers]
    with servers(asyncio.run(recordings(recorded)), chosen.port) as backends, load() as tool:
        if scenarios:
            with all_subjects(backends, peers) as (subjects, traces):
                progress("warm-up")
                measure.warm_up(subjects, tool, min(1.0, 4 * chosen.share))
                before = measure.resident(subjects)
                results["subjects"] = [subject.name for subject in subjects]
                results["calls"] = measure.rounds(
                    scenarios, subjects, tool, chosen.rounds, chosen.share, progress
                )
                results["resident"] = {"before": before, "after": measure.resident(subjects)}
                results["traces"] = {
                    "calls": traces.sent,
                    "stored": traces.stored(),
                    "dropped": traces.dropped(),
                }
        for name, function in measurements.items():
            progress(name)
            results["worker"] |= function(tool, backends, chosen.share)
    results["budget"] = [line.check(Results(results)) for line in budget.lines()]
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the JSON and print the report. Draw the picture if all was measured."""
    chosen = options(arguments)
    try:
        require_installed()
    except NotInstalled as error:
        sys.exit(str(error))
    results = run(chosen)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(report.text(Results(results)))
    print(f"\nAll figures of all rounds: {chosen.out}")
    if not chosen.scenarios and not chosen.peers and chosen.share >= 1:
        subprocess.run([sys.executable, "-m", "bench.picture", chosen.out, PICTURE], check=True)
        print(f"The picture: {PICTURE}")


if __name__ == "__main__":
    main()
