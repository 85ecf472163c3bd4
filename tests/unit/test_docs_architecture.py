"""docs/architecture.md names every module, and none that is not there."""

import re
from xml.etree import ElementTree

from .messages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
PICTURE = (ROOT / "docs" / "architecture.svg").read_text()
# The files that a table's first column names.
NAMED = [
    name for cell in re.findall(r"(?m)^\| (`.*?) \|", PAGE) for name in re.findall("`(.*?)`", cell)
]


def modules() -> set[str]:
    """Every file of ours, those of `src/` without it; an empty `__init__.py` is none."""
    there = [*(ROOT / "src").rglob("*.py"), *(ROOT / "local").iterdir()]
    files = [file for file in there if file.is_file() and file.read_text().count("\n") > 1]
    return {file.relative_to(ROOT).as_posix().removeprefix("src/") for file in files}


def test_every_module_has_its_line():
    assert sorted(NAMED) == sorted(modules())


def test_every_file_that_is_mentioned_is_there():
    for name in re.findall(r"`([\w/]+\.(?:py|mjs|html|toml))`", PAGE):
        assert (ROOT / "src" / name).is_file() or (ROOT / name).is_file(), name


def test_the_picture_shows_rooms_that_are_there():
    tree = ElementTree.fromstring(PICTURE)
    rooms = [t.text or "" for t in tree.findall(".//{*}text") if t.get("class") == "room"]
    assert len(rooms) > 5
    for room in (name for text in rooms for name in text.split(" · ")):
        assert {f"{room}.py", f"{room}/__init__.py"} & modules(), room
    # Each colour has its counterpart on a dark page.
    light, _, dark = PICTURE.partition("<style>")[2].partition("@media")
    assert coloured(light) == coloured(dark)


def coloured(style: str) -> set[str]:
    """The classes that a style sheet gives a colour."""
    rules = re.findall(r"([^{}]*)\{[^{}]*#[0-9a-f]{6}[^{}]*\}", style)
    return {name for selector in rules for name in re.findall(r"\.([\w-]+)", selector)}
