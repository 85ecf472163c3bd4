"""`make docs`: the docs have what it writes, and each of its parts works."""

import pytest

from local.docs.__main__ import written
from local.docs.names import mentioning_files, renamed_settings, with_names
from local.docs.tables import TABLES, first_sentence, with_tables
from local.runtime import ROOT
from settings.table import CONTENT, PROJECTS, PROVIDER_KEY, SETTINGS
from tests.pages import PAGES, text_of

README = text_of("README.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_as_make_docs_writes_it(page: str):
    assert text_of(page) == written(ROOT / page, text_of(page)), "run `make docs`"


@pytest.mark.parametrize("table", TABLES)
def test_each_table_is_on_a_page(table: str):
    marks = [page for page in PAGES if f"<!-- Written by make docs: {table}" in text_of(page)]
    assert marks


def test_a_table_replaces_what_is_below_its_mark():
    mark = "<!-- Written by make docs: parameters -->\n\n"
    (table,) = (with_tables(f"{mark}{old}\nText.\n") for old in ("| an | old | row |\n",))
    assert table.startswith(f"{mark}| parameter | header | variable |\n|---|---|---|\n| `{{")
    assert "| an | old |" not in table
    assert table.endswith("|\n\nText.\n")
    assert with_tables(table) == table
    assert with_tables(f"{mark}\nText.\n") == table


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("src/core/version.py", "Name and version of the gateway"),
        ("local/runtime/boot.mjs", "Loads Pyodide in workerd, for snapshot.mjs and host.mjs"),
    ],
)
def test_the_first_sentence_of_a_module(path: str, sentence: str):
    assert first_sentence(ROOT / path) == sentence


def test_the_readme_names_the_settings_that_fail_closed():
    start = README.index("If the value of")
    named = README[start : README.index("`GET /health`", start)]
    for setting in SETTINGS:
        is_parameter = "[parameter]" in setting.doc
        assert (f"`{setting}`" in named) == (setting.fails_closed and not is_parameter)


def test_no_setting_is_renamed():
    assert renamed_settings(README) == {}


@pytest.mark.parametrize("setting", [CONTENT, PROVIDER_KEY], ids=str)
def test_a_setting_is_renamed_where_the_readme_has_its_old_name(setting):
    row = f"| `{setting}` |"
    assert README.count(row) == 1
    old = README.replace(row, "| `AN_OLD_NAME` |")
    assert renamed_settings(old) == {"AN_OLD_NAME": setting.name}


def test_a_row_that_was_added_removed_or_moved_renames_nothing():
    lines = README.splitlines(keepends=True)
    first, second = (
        next(n for n, line in enumerate(lines) if line.startswith(f"| `{row}` |"))
        for row in (CONTENT, PROJECTS)
    )
    assert renamed_settings("".join(lines[:first] + lines[first + 1 :])) == {}
    lines[first], lines[second] = lines[second], lines[first]
    assert renamed_settings("".join(lines)) == {}


@pytest.mark.parametrize(
    ("text", "renamed"),
    [
        ("`LIMIT`, LIMIT = 1", "`NEW`, NEW = 1"),
        ("LIMIT_2 and LIMIT_9", "NEW_2 and NEW_9"),
        ("MY_LIMIT, LIMITS, LIMIT_OF, table.LIMIT", "MY_LIMIT, LIMITS, LIMIT_OF, table.LIMIT"),
    ],
)
def test_only_whole_names_are_replaced(text: str, renamed: str):
    assert with_names(text, {"LIMIT": "NEW"}) == renamed


def test_an_identifier_in_python_stays():
    assert with_names('x = {"LIMIT": 1}  # LIMIT', {"LIMIT": "NEW"}, is_python=True) == (
        'x = {"NEW": 1}  # NEW'
    )
    assert with_names('LIMIT = "LIMIT"', {"LIMIT": "NEW"}, is_python=True) == 'LIMIT = "LIMIT"'


def test_the_files_that_mention_settings():
    names = {path.relative_to(ROOT).as_posix() for path in mentioning_files()}
    assert {"README.md", "wrangler.toml", ".dev.vars.example", "src/settings/load.py"} <= names
    assert "CHANGELOG.md" not in names
    assert not any(name.startswith("tests/") for name in names)
