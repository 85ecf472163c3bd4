"""The folders that a workerd serves: JavaScript modules, Pyodide, the Worker's Python and a config.

`runtime` writes a folder for each start, `selfhost` one that is kept, and `snapshots` one in which
a snapshot is taken. Writing them requires nothing but the standard library.
"""

import json
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NODE_MODULES = ROOT / "node_modules"
WORKERD = NODE_MODULES / "workerd" / "bin" / "workerd"
PYODIDE_FILES = {
    "pyodide.mjs": "esModule",
    "pyodide.asm.mjs": "esModule",
    "pyodide.asm.wasm": "wasm",
    "python_stdlib.zip": "data",
}
SHARED_MODULES = {"boot.mjs": "esModule", **PYODIDE_FILES, "bundle.json": "json"}
# Name and kind of each module of a Worker in workerd, the main module first: of the one that runs
# ours, and of the one that takes a snapshot.
MODULES = {"host.mjs": "esModule", **SHARED_MODULES, "snapshot.gz": "data"}
SNAPSHOT_MODULES = {
    "snapshot.mjs": "esModule",
    **SHARED_MODULES,
    "host.py": "text",
    "hash_seed.txt": "text",
    "base.bin": "data",
}
# The files of this folder that each of the two consists of.
HOST_SOURCES = ("host.mjs", "boot.mjs", "cache.mjs")
SNAPSHOT_SOURCES = ("snapshot.mjs", "boot.mjs", "host.py")
# Without it there is a global `process`, by which Pyodide would take workerd for Node.
HOST_FLAGS = ["no_nodejs_compat"]
# The binding of values for variables that the environment does not set.
DEFAULTS = "DEFAULTS"
UNSAFE_EVAL = "UNSAFE_EVAL"
# Bindings that the Worker does not see.
LOADERS = (DEFAULTS, UNSAFE_EVAL)

CONFIG = """\
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "worker", worker = (
      modules = [{modules}],
      compatibilityDate = {date},
      compatibilityFlags = [{flags}],
      bindings = [
        {bindings},
      ],
      globalOutbound = "network",
      cacheApiOutbound = "cache",
    )),
    (name = "cache", worker = (
      modules = [(name = "cache.mjs", esModule = embed "cache.mjs")],
      compatibilityDate = {date},
    )),
    (name = "network", network = (allow = [{allow}], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [(name = "http", address = {address}, service = "worker", http = ())],
);
"""

# "internet" replaces workerd's default network, which needs CA certificates.
SNAPSHOT_CONFIG = """\
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "worker", worker = (
      modules = [{modules}],
      compatibilityDate = {date},
      compatibilityFlags = [{flags}],
      bindings = [(name = {unsafe_eval}, unsafeEval = void)],
    )),
    (name = "internet", network = (allow = [])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", service = "worker", http = ())],
);
"""


class NotInstalled(RuntimeError):
    """A part of the local runtime is missing. The message names the command that installs it."""


def require_installed() -> None:
    """Raise `NotInstalled` unless workerd, Pyodide and the vendored SDK are installed."""
    if not _is_program(WORKERD) or not (NODE_MODULES / "pyodide").is_dir():
        raise NotInstalled("workerd and pyodide are not installed: run `make setup`")
    if not (ROOT / "python_modules" / "workers").is_dir():
        raise NotInstalled("python_modules/ is empty: run `make setup`")


def _is_program(file: Path) -> bool:
    # npm unpacks a script here, which the package's install script replaces by the program.
    with suppress(OSError), file.open("rb") as beginning:
        return beginning.read(2) != b"#!"
    return False


def wrangler_config(folder: Path = ROOT) -> dict[str, Any]:
    """The `wrangler.toml` of a folder as a dict."""
    return tomllib.loads((folder / "wrangler.toml").read_text())


def compatibility(without_flags: Iterable[str] = ()) -> tuple[str, list[str]]:
    """The compatibility date and flags for workerd: those of `wrangler.toml` except
    `without_flags`, and those that the host requires."""
    wrangler = wrangler_config()
    # The host does what `python_workers` does at Cloudflare.
    flags = set(wrangler["compatibility_flags"]) - {"python_workers"} - set(without_flags)
    return wrangler["compatibility_date"], [*sorted(flags), *HOST_FLAGS]


def bundle() -> dict[str, str]:
    """The Python modules that are deployed: path, relative to the import root, to source."""
    files = {p.relative_to(ROOT / "src"): p for p in sorted((ROOT / "src").rglob("*.py"))}
    files |= {p.relative_to(ROOT): p for p in sorted((ROOT / "python_modules").rglob("*.py"))}
    return {path.as_posix(): file.read_text() for path, file in files.items()}


def write_modules(
    folder: Path, modules: Mapping[str, str], snapshot: bytes, *, links: bool
) -> None:
    """Write the modules that run the Worker, its Python modules among them, and their snapshot.

    With `links` the files of Pyodide and of this package are symbolic links, else copies.
    """
    _write_files(folder, HOST_SOURCES, modules, links=links)
    (folder / "snapshot.gz").write_bytes(snapshot)


def write_snapshot_modules(
    folder: Path, modules: Mapping[str, str], base: bytes, hash_seed: str
) -> None:
    """Write the modules and the config with which a snapshot of Python modules is taken.

    `base` is the snapshot that it extends. Where it is empty, Python's hashes are seeded with
    `hash_seed`.
    """
    _write_files(folder, SNAPSHOT_SOURCES, modules, links=True)
    (folder / "base.bin").write_bytes(base)
    (folder / "hash_seed.txt").write_text(hash_seed)
    (folder / "config.capnp").write_text(snapshot_config())


def _write_files(
    folder: Path, sources: Iterable[str], modules: Mapping[str, str], *, links: bool
) -> None:
    files = [NODE_MODULES / "pyodide" / name for name in PYODIDE_FILES]
    for file in [*files, *(HERE / name for name in sources)]:
        if links:
            (folder / file.name).symlink_to(file)
        else:
            shutil.copyfile(file, folder / file.name)
    (folder / "bundle.json").write_text(json.dumps(modules))


def config(
    *,
    date: str,
    flags: Iterable[str],
    variables: Mapping[str, str],
    values: Mapping[str, Any],
    allow: Iterable[str],
    port: int,
) -> str:
    """The text of a `config.capnp` beside the modules that run the Worker.

    `variables` maps names of bindings to variables of workerd's own environment, so that no file
    contains a secret. `values` maps names of bindings to values, which become JSON. `allow` has the
    networks that the Worker's `fetch` may reach, as names of workerd or CIDR ranges. The socket is
    named `http` and listens on loopback, which an option of workerd can change.
    """
    bindings = [
        f"(name = {_quote(UNSAFE_EVAL)}, unsafeEval = void)",
        *(f"(name = {_quote(k)}, fromEnvironment = {_quote(v)})" for k, v in variables.items()),
        *(f"(name = {_quote(k)}, json = {_quote(json.dumps(v))})" for k, v in values.items()),
    ]
    return CONFIG.format(
        modules=_module_list(MODULES),
        date=_quote(date),
        flags=", ".join(map(_quote, flags)),
        bindings=",\n        ".join(bindings),
        allow=", ".join(map(_quote, allow)),
        address=_quote(f"127.0.0.1:{port}"),
    )


def snapshot_config() -> str:
    """The text of a `config.capnp` beside the modules with which a snapshot is taken."""
    date, flags = compatibility()
    return SNAPSHOT_CONFIG.format(
        modules=_module_list(SNAPSHOT_MODULES),
        date=_quote(date),
        flags=", ".join(map(_quote, flags)),
        unsafe_eval=_quote(UNSAFE_EVAL),
    )


def _module_list(modules: Mapping[str, str]) -> str:
    return ", ".join(
        f"(name = {_quote(name)}, {kind} = embed {_quote(name)})" for name, kind in modules.items()
    )


def _quote(text: str) -> str:
    return json.dumps(text)
