"""Every text of the source that somebody may come to read: an error, a line of the log, a note.

What makes a text one is that it has words in it with a space between, so that no road to a client,
to the log or into a trace has to be known, and none can be forgotten.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
# Stands for whatever is put into a message when it is made.
GAP = "\0"
_PHRASE = re.compile(rf"[A-Za-z0-9:,;'\"`{GAP}.)] [A-Za-z0-9'\"`{GAP}(]")


@dataclass(frozen=True)
class Message:
    """A text of the source. `status` is that of the refusal which it is the message of, else None;
    `text` has a `GAP` for each value that is known only later."""

    path: str
    line: int
    text: str
    status: int | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.shown}"

    @property
    def shown(self) -> str:
        """As the docs show it."""
        return self.text.replace(GAP, "…")

    @property
    def pattern(self) -> re.Pattern[str]:
        """What it may read like, and how it is quoted."""
        return re.compile(".+?".join(map(re.escape, self.text.split(GAP))), re.DOTALL)


def messages(path: Path) -> list[Message]:
    """The messages of a module below `src/` or `local/`, in their order."""
    source = path.read_text()
    name = path.relative_to(ROOT).as_posix()
    names: dict[str, Any] = {}
    if not re.search(r"^(?:import|from) (?:js|pyodide|workers)\b", source, re.MULTILINE):
        module = name.removeprefix("src/").removesuffix(".py").removesuffix("/__init__")
        names = vars(importlib.import_module(module.replace("/", ".")))
    return messages_in(source, name, names)


def messages_in(source: str, path: str, names: dict[str, Any]) -> list[Message]:
    """The messages of a source, in which these names have values."""
    found = [
        Message(path, node.lineno, text, status)
        for node, status in _texts(ast.parse(source), None)
        if _PHRASE.search(text := _template(node, names).strip())
    ]
    return sorted(dict.fromkeys(found), key=lambda message: message.line)


def first_arguments(path: Path, *functions: str) -> set[str]:
    """The first arguments, where they are plain texts, of all calls of these functions."""
    firsts = (call.args[0] for call in _calls(path, functions) if call.args)
    return {str(first.value) for first in firsts if isinstance(first, ast.Constant)}


def keywords(path: Path, *functions: str) -> set[str]:
    """The names of what all calls of these functions are given by name."""
    return {k.arg for call in _calls(path, functions) for k in call.keywords if k.arg}


def _calls(path: Path, functions: tuple[str, ...]) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            if name in functions:
                yield node


def _texts(node: ast.AST, status: int | None) -> Iterator[tuple[ast.expr, int | None]]:
    """The texts in a tree that are no docstrings, each with its refusal's status."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refusal":
        first, message, *others = node.args
        assert isinstance(first, ast.Constant), "a refusal's status is written out"
        assert isinstance(first.value, int)
        yield from _texts(message, first.value)
        for other in others:
            yield from _texts(other, None)
        return
    if isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        yield node, status
        return
    for child in ast.iter_child_nodes(node):
        # A text that is a statement is a docstring.
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield from _texts(child, status)


def _template(node: ast.expr, names: dict[str, Any]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.JoinedStr)
    return "".join(
        _value(part, names) if isinstance(part, ast.FormattedValue) else _template(part, names)
        for part in node.values
    )


def _value(node: ast.FormattedValue, names: dict[str, Any]) -> str:
    """What an f-string puts in where it is made of the module's own constants, else a gap."""
    expression = ast.Expression(ast.JoinedStr([node]))
    ast.fix_missing_locations(expression)
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    if not all(isinstance(names.get(name), str | int | float | tuple | dict) for name in used):
        return GAP
    return str(eval(compile(expression, "f-string", "eval"), names))
