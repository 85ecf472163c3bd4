"""`make bench` with as few calls as possible."""

import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from bench.figures import DIRECT, FLOOR, JS_FLOOR, TRACED, UNTRACED
from local.runtime import ROOT, Runtime

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
WHOLE, STREAMED = "whole 2 KB, 16 at once", "stream of 200, 1 at once"
TIMES = {f"{kind}_{share}_ms" for kind in ("first", "whole") for share in ("p50", "p99")}


@pytest.fixture(scope="module", autouse=True)
def _psutil() -> None:
    pytest.importorskip("psutil", reason="psutil is not installed: `make bench` does it")


def bench(*arguments: str) -> str:
    """Run `make bench` with these arguments. Returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple[dict[str, Any], str]:
    """The JSON and the report of one round."""
    file = tmp_path_factory.mktemp("bench") / "new" / "results.json"
    arguments = ["--rounds=1", "--share=0.02", f"--out={file}"]
    scenarios = [WHOLE, STREAMED, "source", "import", "memory"]
    report = bench(*arguments, *(f"--scenario={text}" for text in scenarios))
    return json.loads(file.read_text()), report


def test_every_subject_is_measured(measured):
    found, report = measured
    assert set(found["versions"]) >= {"workerd", "pyodide", "node", "python"}
    assert found["cpu"]
    assert found["cores"] > 0
    assert found["date"]
    assert found["rounds"] == 1
    subjects = [DIRECT, JS_FLOOR, FLOOR, UNTRACED, TRACED]
    assert found["subjects"] == subjects
    assert list(found["calls"]) == list(found["scenarios"]) == [WHOLE, STREAMED]
    for label, calls in found["calls"].items():
        assert list(calls) == subjects
        for name, rounds in calls.items():
            (figures,) = rounds
            assert all(figures[time] > 0 for time in TIMES)
            assert figures["requests_per_second"] > 0
            assert (figures["gap_p99_ms"] is None) is (label == WHOLE)
            assert (figures["cpu_ms"] is None) is (name == DIRECT)
            assert name in report
    for moment in ("before", "after"):
        resident = found["resident"][moment]
        assert resident.pop(DIRECT) is None
        assert all(size > 10_000_000 for size in resident.values())


def test_every_traced_call_has_its_observation(measured):
    found, report = measured
    traces = found["traces"]
    # Those of the warm-up and of the two scenarios.
    assert traces["calls"] > 32
    assert traces["stored"] == traces["calls"]
    assert traces["dropped"] == 0
    assert f"Langfuse has {traces['stored']}" in report


def test_the_worker_itself_is_measured(measured):
    worker = measured[0]["worker"]
    assert 5 < worker["import_ms"][0] < 5000
    assert 50 < worker["source_kib"][0] < 1000
    assert 10 < worker["source_compressed_kib"][0] < worker["source_kib"][0]
    assert 20 < worker["memory_peak_mib"][0] < 128
    assert len(worker["memory_mib"]) == 11


def test_every_line_of_the_budget_is_printed(measured):
    found, report = measured
    assert len(found["budget"]) >= 14
    table = report.partition("\nBudget ")[2].splitlines()
    for line in found["budget"]:
        (printed,) = [text for text in table if line["name"] in text]
        assert ("not measured" in printed) is (line["met"] is None)
        if line["met"] is not None:
            assert printed.endswith("met") is line["met"]
    known = [line for line in found["budget"] if line["met"] is not None]
    assert {line["unit"] for line in known} == {"ms", "KiB", "MiB"}


def test_a_peer_is_measured_by_its_url(tmp_path):
    """The peer is another gateway of ours, which needs headers to find the provider."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    file = tmp_path / "results.json"
    with Runtime({"ALLOWED_CUSTOM_HOSTS": host}) as peer:
        report = bench(
            *("--rounds=1", "--share=0.02", f"--out={file}", f"--scenario={WHOLE}"),
            *(f"--peer=me={peer.url},{peer.pid}", f"--port={host.partition(':')[2]}"),
            f"--header=x-portkey-custom-host: http://{host}/v1",
        )
    assert "  me " in report
    found = json.loads(file.read_text())
    (figures,) = found["calls"][WHOLE]["me"]
    assert figures["cpu_ms"] > 0
    assert found["resident"]["after"]["me"] > 10_000_000
