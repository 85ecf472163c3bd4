"""Snapshots of Python's memory after the import of the Worker, from which host.mjs starts.

Starting from one takes a sixth of the CPU time of booting Python and importing the Worker. A
workerd of its own takes it, see `snapshot.mjs`. Snapshots are cached in `node_modules/.cache`,
under a hash of everything that they depend on.
"""

import fcntl
import gzip
import hashlib
import json
import os
import secrets
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from local.runtime import workerd

CACHE = workerd.NODE_MODULES / ".cache" / "ai-gateway-snapshots"
# Snapshots to keep, of 7 MB each. A run of all tests uses about 20.
MAX_CACHED = 40
# The packages that a snapshot is taken with.
PACKAGES = ("pyodide", "workerd")
RESPONSE_TIMEOUT_SECONDS = 60


def snapshot_of(modules: Mapping[str, str]) -> bytes:
    """Python's memory after the import of `entry`, which is one of these modules, gzipped.

    `modules` maps paths to sources. Raises RuntimeError where the import fails, with Python's
    traceback, and where a module keeps an object that a snapshot cannot contain, with the names of
    the variables.
    """
    sdk = {path: text for path, text in modules.items() if path.startswith("python_modules/")}
    return _cached(modules, sdk)


def _cached(modules: Mapping[str, str], base: Mapping[str, str] | None = None) -> bytes:
    """A snapshot from the cache. Where it is missing it is taken on top of that of `base`, which
    Workers with the same SDK share."""
    file = CACHE / f"{_digest(modules)}.gz"
    packed = _read(file)
    if packed is None:
        memory = gzip.decompress(_cached(base)) if base is not None else b""
        with _lock():
            packed = _read(file)  # another process may have taken it meanwhile
            if packed is None:
                packed = gzip.compress(_take(modules, memory), compresslevel=1)
                _write(file, packed)
    return packed


def _digest(modules: Mapping[str, str]) -> str:
    packages = [(workerd.NODE_MODULES / name / "package.json").read_text() for name in PACKAGES]
    sources = [(workerd.HERE / name).read_text() for name in workerd.SNAPSHOT_SOURCES]
    parts = [packages, sources, workerd.snapshot_config(), sorted(modules.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read(file: Path) -> bytes | None:
    with suppress(OSError):  # missing, or of another user
        os.utime(file)  # `_write` removes those that have not been used for longest
    with suppress(FileNotFoundError):
        return file.read_bytes()
    return None


def _write(file: Path, packed: bytes) -> None:
    """Write a file that other processes see completely or not at all, and remove old ones."""
    part = file.with_suffix(".part")
    part.write_bytes(packed)
    part.replace(file)
    newest_first = sorted(CACHE.glob("*.gz"), key=lambda old: old.stat().st_mtime, reverse=True)
    for old in newest_first[MAX_CACHED:]:
        old.unlink()


@contextmanager
def _lock() -> Iterator[None]:
    """A lock of all processes: only its holder takes snapshots and changes the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _hash_seed() -> str:
    """The seed of Python's hashes in all snapshots of this installation.

    A snapshot fixes the seed. Cloudflare uses the same one for all Workers, but workerd has no
    limit of CPU time: with a known seed, a client could send keys of JSON whose hashes collide.
    """
    file = CACHE / "hash-seed"
    if not file.exists():
        file.write_text(str(1 + secrets.randbelow(2**32 - 1)))
    return file.read_text()


def _take(modules: Mapping[str, str], base: bytes) -> bytes:
    """Take a snapshot in a workerd. `base` is the snapshot that it extends, or empty."""
    with tempfile.TemporaryDirectory(prefix="gateway-") as name:
        folder, output = Path(name), Path(name) / "output"
        workerd.write_snapshot_modules(folder, modules, base, _hash_seed())
        control, control_end = os.pipe()
        with output.open("wb") as log:
            process = subprocess.Popen(
                [
                    *(workerd.WORKERD, "serve", "--experimental", f"--control-fd={control_end}"),
                    folder / "config.capnp",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={},  # no variable can get into a snapshot
                pass_fds=[control_end],
            )
        try:
            os.close(control_end)
            with os.fdopen(control) as messages:
                message = messages.readline()  # it listens after the import
            if not message:
                raise RuntimeError("workerd did not start:\n" + output.read_text())
            url = f"http://127.0.0.1:{json.loads(message)['port']}"
            with urllib.request.urlopen(url, timeout=RESPONSE_TIMEOUT_SECONDS) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            reasons = f"{error.read().decode()}\n{output.read_text()}"
            raise RuntimeError(f"The Worker did not start:\n{reasons}") from None
        finally:
            process.kill()
            process.wait()
