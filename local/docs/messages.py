"""The messages in the source: every text that a user may read in an error, a log or a trace.

A message is any string with at least two words. So no list of the places that send, log or record
a text is needed, and none can be missing. docs/troubleshooting.md quotes each of them.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.runtime import ROOT
from settings import table

# Stands for a value that is inserted into a message at run time.
PLACEHOLDER = "\0"
_PHRASE = re.compile(rf"[A-Za-z0-9:,;'\"`{PLACEHOLDER}.)] [A-Za-z0-9'\"`{PLACEHOLDER}(]")


@dataclass(frozen=True)
class Message:
    """A text of the source, with a `PLACEHOLDER` for each value that is inserted at run time.

    `status` is the status of the refusal that has this message, or None.
    """

    path: str
    line: int
    text: str
    status: int | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.shown}"

    @property
    def shown(self) -> str:
        """The text as the docs quote it, with "…" for each placeholder."""
        return self.text.replace(PLACEHOLDER, "…")

    @property
    def has_words(self) -> bool:
        """Whether it has words besides its placeholders."""
        return bool(re.search("[A-Za-z]{3}", self.text.replace(PLACEHOLDER, "")))

    @property
    def pattern(self) -> re.Pattern[str]:
        """A pattern of the texts that users may read, and of quotes of the message."""
        return re.compile(".+?".join(map(re.escape, self.text.split(PLACEHOLDER))), re.DOTALL)


def messages(path: Path) -> list[Message]:
    """The messages of a module below `src/` or `local/`, in order of their lines."""
    source = path.read_text()
    name = path.relative_to(ROOT).as_posix()
    names: dict[str, Any] = {}
    if not re.search(r"^(?:import|from) (?:js|pyodide|workers)\b", source, re.MULTILINE):
        module = name.removeprefix("src/").removesuffix(".py").removesuffix("/__init__")
        names = vars(importlib.import_module(module.replace("/", ".")))
    return messages_in(source, name, names)


def messages_in(source: str, path: str, names: dict[str, Any]) -> list[Message]:
    """The messages of a source text. `names` are the values of the module's constants."""
    found = [
        Message(path, node.lineno, text, status)
        for node, status in _texts(ast.parse(source), None)
        if _PHRASE.search(text := _template(node, names).strip())
    ]
    return sorted(dict.fromkeys(found), key=lambda message: message.line)


def first_arguments(path: Path, *functions: str) -> set[str]:
    """The first arguments of all calls of these functions, where they are literals."""
    firsts = (call.args[0] for call in _calls(path, functions) if call.args)
    return {str(first.value) for first in firsts if isinstance(first, ast.Constant)}


def keywords(path: Path, *functions: str) -> set[str]:
    """The names of the keyword arguments in all calls of these functions."""
    return {k.arg for call in _calls(path, functions) for k in call.keywords if k.arg}


def _calls(path: Path, functions: tuple[str, ...]) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            if name in functions:
                yield node


def _texts(node: ast.AST, status: int | None) -> Iterator[tuple[ast.expr, int | None]]:
    """The texts in a tree except docstrings, each with the status of its refusal or None."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refusal":
        first, message, *others = node.args
        assert isinstance(first, ast.Constant), "a refusal's status is written out"
        assert isinstance(first.value, int)
        yield from _texts(message, first.value)
        for other in others:
            yield from _texts(other, None)
        return
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "cast":
        yield from _texts(node.args[1], status)  # the first argument is a type
        return
    if isinstance(node, ast.AnnAssign) and getattr(node.annotation, "id", "") == "TypeAlias":
        return
    if isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        yield node, status
        return
    for child in ast.iter_child_nodes(node):
        # A constant that is a statement is a docstring.
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
    """The value that an f-string inserts, where it has only constants of the module and names of
    settings.

    Otherwise `PLACEHOLDER`.
    """
    expression = ast.Expression(ast.JoinedStr([node]))
    ast.fix_missing_locations(expression)
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    constants = (str, int, float, tuple, dict, table.Setting)
    if not all(isinstance(names.get(n), constants) or names.get(n) is table for n in used):
        return PLACEHOLDER
    return str(eval(compile(expression, "f-string", "eval"), names))
