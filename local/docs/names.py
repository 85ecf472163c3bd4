"""The names of settings, where the docs, the examples and the source mention them."""

import ast
import re
import subprocess
from pathlib import Path

from local.docs.tables import first_column
from local.runtime import ROOT
from settings.table import SETTINGS

# Tests have the names that they expect, and the changelog those of each version.
_LEFT_OUT = ("tests/", "CHANGELOG.md")


def renamed_settings(readme: str) -> dict[str, str]:
    """The settings that have another name in the README's table: their old names to the new ones.
    Empty where rows were added, removed or moved."""
    old, new = first_column(readme, "settings"), [row.name for row in SETTINGS]
    renamed = {a: b for a, b in zip(old, new, strict=False) if a != b}
    return renamed if len(old) == len(new) and not renamed.keys() & set(new) else {}


def mentioning_files() -> list[Path]:
    """The files of the repository that follow when a setting is renamed."""
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    files = (ROOT / name for name in listed if not name.startswith(_LEFT_OUT))
    return [path for path in files if path.is_file() and path.suffix != ".png"]


def with_names(text: str, renamed: dict[str, str], *, is_python: bool = False) -> str:
    """A text with old names of settings replaced by new ones. In Python, a name that is also an
    identifier of the file stays."""
    renamed = {old: new for old, new in renamed.items() if old in text}
    if renamed and is_python:
        identifiers = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        renamed = {old: new for old, new in renamed.items() if old not in identifiers}
    for old, new in renamed.items():
        # Not a part of another name, but perhaps the beginning of a continuation's.
        text = re.sub(rf"(?<![\w.]){re.escape(old)}(?=_[2-9]\b|(?!\w))", new, text)
    return text
