"""docs/architecture.md describes every module and every import between packages, and no others."""

import re
from xml.etree import ElementTree

from tests.unit.test_house_rules import FLOORS, SOURCES, imports, package

from .messages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
PICTURE = (ROOT / "docs" / "architecture.svg").read_text()
# The files that the first columns of the tables name, and of the table of packages its rows.
NAMED = [
    name
    for cell in re.findall(r"(?m)^\| (`.*?) \|", PAGE)
    for name in re.findall(r"`([\w/]+\.\w+)`", cell)
    if not name.startswith("src/")
]
PACKAGES = re.findall(r"(?m)^\| `src/(\w+)(?:/|\.py)` \| .*? \| (.*?) \|$", PAGE)


def modules() -> set[str]:
    """Every file of `src/`, by its path there, and of `local/`, but for the inbox's page; an empty
    `__init__.py` does not count."""
    there = [*(ROOT / "src").rglob("*"), *(ROOT / "local").rglob("*")]
    files = [file for file in there if file.suffix in (".py", ".mjs")]
    files = [file for file in files if file.read_text().count("\n") > 1]
    return {file.relative_to(ROOT).as_posix().removeprefix("src/") for file in files}


def test_every_module_has_its_row():
    assert sorted(NAMED) == sorted(modules())


def test_every_module_stands_under_its_package():
    for heading, table in re.findall(r"(?ms)^### (\w+)\n(.*?)(?=^##|\Z)", PAGE):
        names = re.findall(r"(?m)^\| `(.*?)` \|", table)
        assert names
        assert all(name.startswith(f"{heading}/") for name in names), heading


def test_the_packages_and_their_imports():
    order = [name for floor in FLOORS for name in floor]
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


def test_every_file_that_is_mentioned_is_there():
    for name in re.findall(r"`([\w/]+\.(?:py|mjs|html|toml))`", PAGE):
        assert (ROOT / "src" / name).is_file() or (ROOT / name).is_file(), name


def test_the_figure_shows_modules_that_exist():
    tree = ElementTree.fromstring(PICTURE)
    shown = [t.text or "" for t in tree.findall(".//{*}text") if t.get("class") == "module"]
    assert len(shown) > 5
    for name in (name for text in shown for name in text.split(" · ")):
        assert f"{name}.py" in modules(), name
    # Each colour has its counterpart on a dark page.
    light, _, dark = PICTURE.partition("<style>")[2].partition("@media")
    assert coloured(light) == coloured(dark)


def coloured(style: str) -> set[str]:
    """The classes that a style sheet gives a colour."""
    rules = re.findall(r"([^{}]*)\{[^{}]*#[0-9a-f]{6}[^{}]*\}", style)
    return {name for selector in rules for name in re.findall(r"\.([\w-]+)", selector)}
