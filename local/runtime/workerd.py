"""A folder that workerd serves: the Worker's Python, the loader that runs it, and a config.

`runtime` writes one for each start of a local run, `selfhost` one to keep. Nothing but the standard
library is needed to write one.
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
MODULES = {"host.mjs": "esModule", **PYODIDE_FILES, "bundle.json": "json", "host.py": "text"}
# Pyodide would take workerd for Node where a `process` global is there, which is the default.
HOST_FLAGS = ["no_nodejs_compat"]
# The binding of what a variable is where the environment does not set it.
DEFAULTS = "DEFAULTS"
UNSAFE_EVAL = "UNSAFE_EVAL"
# Bindings of the loader's own.
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


class NotInstalled(RuntimeError):
    """A part of the local runtime is missing; the message says which command installs it."""


def require_installed() -> None:
    """Raise `NotInstalled` unless the Node side and the vendored SDK are there."""
    if not _is_program(WORKERD) or not (NODE_MODULES / "pyodide").is_dir():
        raise NotInstalled("workerd and pyodide are not installed: run `make setup`")
    if not (ROOT / "python_modules" / "workers").is_dir():
        raise NotInstalled("python_modules/ is empty: run `make setup`")


def _is_program(file: Path) -> bool:
    # What npm unpacks is a script, in whose place an install script puts the program.
    with suppress(OSError), file.open("rb") as beginning:
        return beginning.read(2) != b"#!"
    return False


def wrangler_config(folder: Path = ROOT) -> dict[str, Any]:
    """A folder's `wrangler.toml` as a dict."""
    return tomllib.loads((folder / "wrangler.toml").read_text())


def compatibility(without_flags: Iterable[str] = ()) -> tuple[str, list[str]]:
    """The date and the flags of `wrangler.toml`, as the loader needs them."""
    wrangler = wrangler_config()
    # What the loader itself stands in for is not asked of workerd.
    flags = set(wrangler["compatibility_flags"]) - {"python_workers"} - set(without_flags)
    return wrangler["compatibility_date"], [*sorted(flags), *HOST_FLAGS]


def bundle() -> dict[str, str]:
    """Path to source of every Python module that is deployed, as the Worker sees them."""
    files = {p.relative_to(ROOT / "src"): p for p in sorted((ROOT / "src").rglob("*.py"))}
    files |= {p.relative_to(ROOT): p for p in sorted((ROOT / "python_modules").rglob("*.py"))}
    return {path.as_posix(): file.read_text() for path, file in files.items()}


def write_modules(folder: Path, modules: Mapping[str, str], *, links: bool) -> None:
    """Put the loader, Pyodide and the Python modules into a folder, by `links` or as copies."""
    files = [NODE_MODULES / "pyodide" / name for name in PYODIDE_FILES]
    files += [HERE / name for name in ("host.mjs", "host.py", "cache.mjs")]
    for file in files:
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
    """The text of a `config.capnp`, for the folder of the modules; its socket is called `http`.

    Each name in `variables` is bound to the variable of workerd's own environment that it maps to,
    so that no secret stands in a file, and each one in `values` to that value, as JSON. `allow` are
    the networks that the Worker's `fetch` may reach, in workerd's words or as CIDR ranges. It
    listens on loopback, unless workerd is told otherwise when it starts.
    """
    bindings = [
        f"(name = {_quote(UNSAFE_EVAL)}, unsafeEval = void)",
        *(f"(name = {_quote(k)}, fromEnvironment = {_quote(v)})" for k, v in variables.items()),
        *(f"(name = {_quote(k)}, json = {_quote(json.dumps(v))})" for k, v in values.items()),
    ]
    return CONFIG.format(
        modules=", ".join(
            f"(name = {_quote(name)}, {kind} = embed {_quote(name)})"
            for name, kind in MODULES.items()
        ),
        date=_quote(date),
        flags=", ".join(map(_quote, flags)),
        bindings=",\n        ".join(bindings),
        allow=", ".join(map(_quote, allow)),
        address=_quote(f"127.0.0.1:{port}"),
    )


def _quote(text: str) -> str:
    return json.dumps(text)
