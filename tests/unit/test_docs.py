"""The docs' tables say what the code does."""

import json
import re
from pathlib import Path

from provider_table import PARAMETERS, PROVIDERS
from routing import overridden

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "gateway.md").read_text()


def rows(columns: int) -> list[list[str]]:
    """The tables' rows of so many cells that begin with a code word."""
    cells = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in re.findall(r"^\| `.*\|$", PAGE, re.MULTILINE)
    ]
    return [row for row in cells if len(row) == columns]


def test_the_table_of_providers():
    assert [row[:3] for row in rows(4)] == [
        [
            f"`{slug}`",
            f"`{provider.base_url}`" if provider.base_url else "yours",
            "Bearer" if provider.credential == "bearer" else f"`{provider.credential}`",
        ]
        for slug, provider in PROVIDERS.items()
    ]
    for slug, _, _, notes in rows(4):
        for path in PROVIDERS[slug.strip("`")].paths:
            assert f"`/{path}`" in notes
    assert PROVIDERS["azure-openai"].deployment_url.partition("?")[0] in PAGE


def test_the_table_of_parameters():
    assert rows(3) == [
        [f"`{{{name}}}`", f"`{header}`", f"`{variable}`"]
        for name, (header, variable) in PARAMETERS.items()
    ]


def test_the_members_of_an_entry():
    example = re.search(r"PROVIDERS = '''(.*?)'''", PAGE, re.DOTALL)
    assert example
    entries = json.loads(example[1])
    assert overridden(entries)["our-claude"].paths == ("messages",)
    members = {row[0].strip("`") for row in rows(2)}
    assert members == {"base_url", "credential", "headers", "paths", "deployment_url"}
    assert set().union(*entries.values()) <= members
