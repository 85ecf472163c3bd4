"""Names at the Worker's import root, where Cloudflare looks last for a module."""

import sys
import zipfile
from collections.abc import Iterable

import pytest

from local.runtime import NODE_MODULES, bundle

VENDORED = "python_modules/"
# What Cloudflare's runtime adds to Pyodide's own modules.
# https://github.com/cloudflare/workerd/tree/main/src/pyodide/internal
RUNTIME_MODULES = {"_cloudflare", "_cloudflare_compat_flags", "_pyodide_entrypoint_helper", "js"}


def top_level_names(paths: Iterable[str]) -> set[str]:
    """The names under which the files at these paths are imported, without those inside of a
    package."""
    return {path.split("/")[0].removesuffix(".py") for path in paths if path.endswith(".py")}


def test_no_module_of_the_worker_is_hidden_by_another():
    """A module of the standard library or of `python_modules` with the same name would be imported
    in its place."""
    paths = bundle()
    own = top_level_names(path for path in paths if not path.startswith(VENDORED))
    vendored = top_level_names(
        path.removeprefix(VENDORED) for path in paths if path.startswith(VENDORED)
    )
    assert {"entry", "tracing", "core"} <= own
    assert {"workers", "asgi"} <= vendored
    assert own & (vendored | sys.stdlib_module_names | RUNTIME_MODULES) == set()


def test_no_module_of_the_worker_is_hidden_by_pyodide():
    """Pyodide's standard library is newer than this Python's, and has modules of Pyodide's own."""
    archive = NODE_MODULES / "pyodide" / "python_stdlib.zip"
    if not archive.exists():
        pytest.skip("pyodide is not installed: run `make setup`")
    names = top_level_names(zipfile.ZipFile(archive).namelist())
    assert {"pyodide", "json", "annotationlib"} <= names
    assert top_level_names(bundle()) & names == set()
