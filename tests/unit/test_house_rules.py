"""Rules of docs/architecture.md for the source: imports, file length, names of variables."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from settings.table import SECRET_NAMES, SETTINGS, VARIABLE_NAMES

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PLATFORM_MODULES = {"js", "pyodide", "workers"}
# The packages of `src/`, from the top down. Each imports only from those below it.
LAYERS = (
    ("entry",),
    ("cloudflare",),
    ("gateway",),
    ("export", "tracing", "upstream"),
    ("redaction",),
    ("dialects", "settings"),
    ("core",),
)
LAYER_BY_PACKAGE = {package: number for number, layer in enumerate(LAYERS) for package in layer}
# Slow to import, or made for sockets and threads, which a Worker does not have.
FORBIDDEN_MODULES = {
    "http",
    "email",
    "ssl",
    "socket",
    "subprocess",
    "urllib.request",
    "asyncio.subprocess",
}

# Words of identifiers, docstrings and comments that personify things or hide what is meant. The
# glossary of docs/architecture.md has the terms to use. The texts of messages are not searched.
BANNED_WORDS = re.compile(
    r"\b(?:say(?:s|ing)?|said|tell(?:s|ing)?|told|sp(?:eak|eaks|eaking|oke|oken)|heed(?:s|ed)?"
    r"|gr(?:ow|ows|owing|ew|own)|rooms?|stor(?:y|ies)|fates?|verdicts?|who(?:m|ever|mever)?"
    r"|(?:no|some|any|every)body|(?:some|any|every)one|lest|thereby|whereupon|so many|for ever"
    r"|in vain|let go|g(?:ive|ives|iving|iven|ave) up|promises? of the runtime)\b",
    re.IGNORECASE,
)


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


def package(path: Path) -> str:
    """The package that a source file belongs to; a top-level module is its own package."""
    return path.relative_to(ROOT / "src").parts[0].removesuffix(".py")


def relative_path(path: Path) -> str:
    return path.relative_to(ROOT / "src").as_posix()


def prose(source: str) -> Iterator[str]:
    """The identifiers, in words, the comments and the docstrings of a source."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
        elif token.type == tokenize.NAME:
            yield re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", token.string).replace("_", " ")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def banned_words(source: str) -> list[str]:
    """The banned words in the identifiers, comments and docstrings of a source."""
    return [word for text in prose(source) for word in BANNED_WORDS.findall(text)]


def test_every_package_has_a_layer():
    assert {package(path) for path in SOURCES} == set(LAYER_BY_PACKAGE)


@pytest.mark.parametrize("path", SOURCES, ids=relative_path)
def test_only_one_package_imports_the_platform(path: Path):
    platform_imports = {name.split(".")[0] for name in imports(path.read_text())} & PLATFORM_MODULES
    assert not platform_imports or package(path) in ("entry", "cloudflare")


@pytest.mark.parametrize("path", SOURCES, ids=relative_path)
def test_imports_lead_down_the_layers(path: Path):
    own_package = package(path)
    for name in {name.split(".")[0] for name in imports(path.read_text())} & set(
        LAYER_BY_PACKAGE
    ) - {own_package}:
        assert LAYER_BY_PACKAGE[name] > LAYER_BY_PACKAGE[own_package], name


@pytest.mark.parametrize("path", SOURCES, ids=relative_path)
def test_no_heavy_module_is_imported(path: Path):
    assert not imports(path.read_text()) & FORBIDDEN_MODULES


@pytest.mark.parametrize("path", SOURCES, ids=relative_path)
def test_a_file_is_short_enough(path: Path):
    assert path.read_text().count("\n") <= 400


def test_imports_of_the_platform_are_found():
    assert imports("import js\nfrom pyodide.ffi import to_js") == {"js", "pyodide.ffi"}


@pytest.mark.parametrize("path", SOURCES, ids=relative_path)
def test_names_and_prose_have_no_banned_words(path: Path):
    assert banned_words(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    ["def growRooms(): ...", "told_of = 1", '"""What a header says."""', "x = 1  # for ever"],
)
def test_banned_words_are_found(source):
    assert banned_words(source)


def test_messages_may_have_any_words():
    assert banned_words('raise ValueError("Its log says where.")') == []


def test_wrangler_toml_has_known_variables_and_no_secrets():
    import tomllib

    wrangler = tomllib.loads((ROOT / "wrangler.toml").read_text())
    for vars in (wrangler["vars"], *(env["vars"] for env in wrangler["env"].values())):
        assert not set(vars) & set(SECRET_NAMES)
        assert set(vars) <= set(VARIABLE_NAMES)
    assert wrangler["preview_urls"] is False
    assert wrangler["observability"] == {
        "enabled": True,
        "redact_query_string": True,
        "logs": {"enabled": True, "invocation_logs": False},
    }
    assert "global_fetch_strictly_public" in wrangler["compatibility_flags"]


def test_the_readme_lists_every_variable():

    readme = (ROOT / "README.md").read_text()
    for setting in SETTINGS:
        assert f"`{setting}`" in readme
        if setting.continues:
            assert re.search(rf"JSON of[^.]*`{setting}`[^.]*`NAME_2`", readme), setting.name
