"""`make docs`: write what the docs have from the source, and print the names of changed files.

Written are the tables that are marked as such, the quotes of messages in docs/troubleshooting.md,
and, where a setting was renamed in `settings/table.py`, its mentions in all files but the tests.
"""

from collections.abc import Callable
from pathlib import Path

from local.docs.names import mentioning_files, renamed_settings, with_names
from local.docs.tables import with_tables
from local.docs.troubleshooting import with_messages
from local.runtime import ROOT


def main() -> None:
    renamed = renamed_settings((ROOT / "README.md").read_text())
    files = mentioning_files()
    # The source comes before the pages that quote it.
    for path in files if renamed else ():
        _update(path, lambda path, text: with_names(text, renamed, is_python=path.suffix == ".py"))
    for path in files:
        if path.suffix == ".md":
            _update(path, written)


def _update(path: Path, change: Callable[[Path, str], str]) -> None:
    text = path.read_text()
    if (changed := change(path, text)) != text:
        path.write_text(changed)
        print(path.relative_to(ROOT))


def written(path: Path, text: str) -> str:
    """The text of a page with its tables and messages as the source has them."""
    text = with_tables(text)
    return with_messages(text) if path.name == "troubleshooting.md" else text


if __name__ == "__main__":
    main()
