"""docs/architecture.md describes every module and every import between packages, and no others."""

import re
from xml.etree import ElementTree

from local.runtime import ROOT
from tests.unit.test_house_rules import LAYERS, SOURCES, imports, package

PAGE = (ROOT / "docs" / "architecture.md").read_text()
PICTURE = (ROOT / "docs" / "architecture.svg").read_text()
# The files in the first columns of the tables, and the rows of the table of packages.
LISTED_FILES = [
    name
    for cell in re.findall(r"(?m)^\| (`.*?) \|", PAGE)
    for name in re.findall(r"`([\w/]+\.\w+)`", cell)
    if not name.startswith("src/")
]
PACKAGES = re.findall(r"(?m)^\| `src/(\w+)(?:/|\.py)` \| .*? \| (.*?) \|$", PAGE)


def modules() -> set[str]:
    """The paths of all modules in `src/`, relative to it, and in `local/`.

    An empty `__init__.py` is left out.
    """
    paths = [*(ROOT / "src").rglob("*"), *(ROOT / "local").rglob("*")]
    files = [file for file in paths if file.suffix in (".py", ".mjs")]
    files = [file for file in files if file.read_text().count("\n") > 1]
    return {file.relative_to(ROOT).as_posix().removeprefix("src/") for file in files}


def test_every_module_has_a_row():
    assert sorted(LISTED_FILES) == sorted(modules())


def test_every_module_is_listed_under_its_package():
    for heading, table in re.findall(r"(?ms)^### (\w+)\n(.*?)(?=^##|\Z)", PAGE):
        names = re.findall(r"(?m)^\| `(.*?)` \|", table)
        assert names
        assert all(name.startswith(f"{heading}/") for name in names), heading


def test_the_table_of_packages_lists_their_imports():
    order = [name for layer in LAYERS for name in layer]
    assert sorted(name for name, _ in PACKAGES) == sorted(order)
    found: dict[str, set[str]] = {name: set() for name in order}
    for path in SOURCES:
        used = {name.split(".")[0] for name in imports(path.read_text())}
        found[package(path)] |= used & set(order) - {package(path)}
    for name, listed in PACKAGES:
        if listed == "everything below":
            continue
        expected = set() if listed == "nothing" else set(listed.split(", "))
        assert expected == found[name], name


def test_every_file_that_is_mentioned_exists():
    for name in re.findall(r"`([\w/]+\.(?:py|mjs|html|toml))`", PAGE):
        assert (ROOT / "src" / name).is_file() or (ROOT / name).is_file(), name


def test_the_figure_shows_modules_that_exist():
    tree = ElementTree.fromstring(PICTURE)
    shown = [t.text or "" for t in tree.findall(".//{*}text") if t.get("class") == "module"]
    assert len(shown) > 5
    for name in (name for text in shown for name in text.split(" · ")):
        assert f"{name}.py" in modules(), name
    # Each class with a colour has one in dark mode, too.
    light, _, dark = PICTURE.partition("<style>")[2].partition("@media")
    assert coloured_classes(light) == coloured_classes(dark)


def coloured_classes(style: str) -> set[str]:
    """The classes to which a style sheet assigns a colour."""
    rules = re.findall(r"([^{}]*)\{[^{}]*#[0-9a-f]{6}[^{}]*\}", style)
    return {name for selector in rules for name in re.findall(r"\.([\w-]+)", selector)}
