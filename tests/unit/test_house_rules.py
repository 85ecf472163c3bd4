"""Rules of the house that a reader would otherwise have to remember."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PLATFORM = {"js", "pyodide", "workers"}
PLATFORM_FILES = {"entry.py", "edge.py", "reply.py"}
# Heavy at start-up, or made for sockets and threads, which a Worker does not have.
BARRED = {"http", "email", "ssl", "socket", "subprocess", "urllib.request", "asyncio.subprocess"}


def imports(source: str) -> set[str]:
    """The full names of the modules that a source imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "relative imports do not work at the Worker's import root"
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_only_three_files_know_the_platform(path: Path):
    known = {name.split(".")[0] for name in imports(path.read_text())} & PLATFORM
    assert not known or path.name in PLATFORM_FILES


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_nothing_heavy_is_imported(path: Path):
    assert not imports(path.read_text()) & BARRED


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_a_file_is_one_room(path: Path):
    assert path.read_text().count("\n") <= 400


def test_the_rule_can_fail():
    assert imports("import js\nfrom pyodide.ffi import to_js") == {"js", "pyodide.ffi"}


def test_no_secret_has_a_name_among_the_variables():
    import tomllib

    import config

    wrangler = tomllib.loads((ROOT / "wrangler.toml").read_text())
    for vars in (wrangler["vars"], *(env["vars"] for env in wrangler["env"].values())):
        assert not set(vars) & set(config.SECRETS)
        assert set(vars) <= set(config.VARIABLES)
    assert wrangler["preview_urls"] is False
    assert wrangler["observability"] == {
        "enabled": True,
        "redact_query_string": True,
        "logs": {"enabled": True, "invocation_logs": False},
    }
    assert "global_fetch_strictly_public" in wrangler["compatibility_flags"]


def test_the_readme_lists_every_variable():
    import config

    readme = (ROOT / "README.md").read_text()
    bindings = (*config.BINDINGS, "TRACE_QUEUE", "RATE_LIMIT")
    for name in (*config.SECRETS, *config.VARIABLES, *bindings, "{SLUG}_API_KEY"):
        assert f"`{name}`" in readme, name
    for name in config.JSON_VARIABLES:
        assert re.search(rf"JSON of[^.]*`{name}`[^.]*`NAME_2`", readme), name
