"""The cache of snapshots, with a function in place of the workerd that takes them."""

import gzip
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.runtime import Runtime, snapshots, workerd

SDK = {"python_modules/workers.py": "an SDK"}
WORKER = {**SDK, "entry.py": "a Worker"}


class Taken(list[tuple[dict[str, str], bytes]]):
    """The modules and the base of each snapshot that was taken."""

    def take(self, modules: Mapping[str, str], base: bytes) -> bytes:
        time.sleep(0.05)
        self.append((dict(modules), base))
        return f"snapshot {len(self)}".encode()


@pytest.fixture
def taken(monkeypatch, tmp_path) -> Taken:
    taken = Taken()
    monkeypatch.setattr(snapshots, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(snapshots, "_take", taken.take)
    return taken


def test_a_snapshot_extends_that_of_the_sdk_which_is_taken_once(taken: Taken):
    assert gzip.decompress(snapshots.snapshot_of(WORKER)) == b"snapshot 2"
    assert gzip.decompress(snapshots.snapshot_of(WORKER)) == b"snapshot 2"
    other = {**SDK, "entry.py": "another Worker"}
    assert gzip.decompress(snapshots.snapshot_of(other)) == b"snapshot 3"
    assert taken == [(SDK, b""), (WORKER, b"snapshot 1"), (other, b"snapshot 1")]


def test_several_processes_that_need_a_snapshot_take_it_once(taken: Taken):
    """Threads with a lock of their own each, as processes have."""
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(snapshots.snapshot_of, [WORKER] * 4))
    assert list(map(gzip.decompress, found)) == [b"snapshot 2"]
    assert len(taken) == 2


@pytest.mark.parametrize("change", ["sdk", "version", "source", "config"])
def test_a_snapshot_is_taken_anew_when_anything_changes(
    taken: Taken, monkeypatch, tmp_path, change
):
    modules = dict(WORKER)
    snapshots.snapshot_of(modules)
    if change == "sdk":
        modules["python_modules/workers.py"] += ", changed"
    elif change == "version":
        for name in snapshots.PACKAGES:
            (tmp_path / name).mkdir()
            (tmp_path / name / "package.json").write_text('{"version": "0.0.0"}')
        monkeypatch.setattr(workerd, "NODE_MODULES", tmp_path)
    elif change == "source":
        for name in workerd.SNAPSHOT_SOURCES:
            (tmp_path / name).write_text("changed")
        monkeypatch.setattr(workerd, "HERE", tmp_path)
    else:
        monkeypatch.setattr(workerd, "compatibility", lambda: ("2030-01-01", []))
    snapshots.snapshot_of(modules)
    assert [base for _, base in taken] == [b"", b"snapshot 1", b"", b"snapshot 3"]


def test_a_snapshot_that_fails_is_not_cached(taken: Taken, monkeypatch):
    def fail(modules: Mapping[str, str], base: bytes) -> bytes:
        raise RuntimeError("no such module")

    monkeypatch.setattr(snapshots, "_take", fail)
    with pytest.raises(RuntimeError, match="no such module"):
        snapshots.snapshot_of(WORKER)
    monkeypatch.setattr(snapshots, "_take", taken.take)
    assert gzip.decompress(snapshots.snapshot_of(WORKER)) == b"snapshot 2"


def test_the_snapshots_that_were_not_used_for_longest_are_removed(taken: Taken, monkeypatch):
    monkeypatch.setattr(snapshots, "MAX_CACHED", 3)
    workers = [{**SDK, "entry.py": f"Worker {number}"} for number in range(4)]
    for age, worker in enumerate(workers[:2]):
        snapshots.snapshot_of(worker)
        for file in snapshots.CACHE.glob("*.gz"):
            os.utime(file, (1000 + age, 1000 + age))
    snapshots.snapshot_of(workers[0])  # uses it again
    snapshots.snapshot_of(workers[2])  # uses that of the SDK again, and is one too many
    snapshots.snapshot_of(workers[0])
    assert len(taken) == 4
    snapshots.snapshot_of(workers[1])
    assert len(taken) == 5
    assert {file.suffix for file in snapshots.CACHE.iterdir()} == {".gz", ""}  # no part of one


def test_the_snapshot_of_the_worker_is_taken_once(monkeypatch):
    """The real one, which tests that ran before have taken, or this one takes."""
    Runtime({}).close()
    monkeypatch.setattr(snapshots, "_take", None)
    Runtime({}).close()
