"""The tables of the docs, written from the source.

On a page, a comment above a table names the function below that returns it, and its argument:

    <!-- Written by make docs: modules src/export/* -->
"""

import ast
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from local.runtime import ROOT
from settings.provider_table import URL_PARAMETERS
from settings.table import SETTINGS

_MARK = re.compile(r"(?m)^(<!-- Written by make docs: (\w+) ?(\S*) -->\n\n)((?:\|.*\n)*)")


def settings(_: str) -> list[tuple[str, ...]]:
    """Every row of `settings/table.py`."""
    return [
        ("name", "kind", "default", "meaning"),
        *(
            (f"`{row}`", row.kind, f"`{row.default}`" if row.default else "unset", row.doc)
            for row in SETTINGS
        ),
    ]


def parameters(_: str) -> list[tuple[str, ...]]:
    """The parameters of base URLs."""
    rows = [
        (f"`{{{name}}}`", f"`{header}`", f"`{variable}`")
        for name, (header, variable) in URL_PARAMETERS.items()
    ]
    return [("parameter", "header", "variable"), *rows]


def modules(pattern: str) -> list[tuple[str, ...]]:
    """The files that a pattern such as "src/export/*" matches, with the first sentences of their
    documentation. A package's `__init__.py` is left out if it has nothing else."""
    rows = [
        (f"`{path.relative_to(ROOT).as_posix().removeprefix('src/')}`", first_sentence(path))
        for path in sorted(ROOT.glob(pattern))
        if path.suffix in (".py", ".mjs") and path.read_text().count("\n") > 1
    ]
    return [("module", "description"), *rows]


TABLES: dict[str, Callable[[str], list[tuple[str, ...]]]] = {
    table.__name__: table for table in (settings, parameters, modules)
}


def with_tables(text: str) -> str:
    """The text of a page with its tables as the source has them."""
    return _MARK.sub(lambda match: match[1] + _markdown(TABLES[match[2]](match[3])), text)


def first_column(text: str, table: str) -> list[str]:
    """The code words in the first column of a table of a page."""
    body = next(match[4] for match in _MARK.finditer(text) if match[2] == table)
    return re.findall(r"(?m)^\| `(.+?)` \|", body)


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring, or of the comment at the beginning of a
    JavaScript file, without its full stop."""
    source = path.read_text()
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(source)) or ""
    else:
        text = re.sub(r"(?m)^// ?", "", source)
    sentence = re.match(r"(?s).+?(?=[.](?:\s|$))", text)
    assert sentence, f"{path} does not begin with a sentence about it"
    return " ".join(sentence[0].split())


def _markdown(rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table. The first row is its head."""
    head, *body = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    lines = [f"| {' | '.join(row)} |\n" for row in (head, *body)]
    return "".join([lines[0], f"|{'---|' * len(head)}\n", *lines[1:]])
