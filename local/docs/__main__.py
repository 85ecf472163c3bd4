"""`make docs`: write what the docs have from the source, and print the files that have changed.

Those are the tables with a comment that says so, the messages that docs/troubleshooting.md quotes,
and the names of settings that were renamed in `settings/table.py`.
"""

from pathlib import Path

from local.docs.names import mentioning_files, renamed_settings, with_names
from local.docs.tables import with_tables
from local.docs.troubleshooting import with_messages
from local.runtime import ROOT


def main() -> None:
    renamed = renamed_settings((ROOT / "README.md").read_text())
    for path in mentioning_files():
        text = path.read_text()
        current = with_names(text, renamed, is_python=path.suffix == ".py")
        if path.suffix == ".md":
            current = written(path, current)
        if current != text:
            path.write_text(current)
            print(path.relative_to(ROOT))


def written(path: Path, text: str) -> str:
    """The text of a page with its tables and messages as the source has them."""
    text = with_tables(text)
    return with_messages(text) if path.name == "troubleshooting.md" else text


if __name__ == "__main__":
    main()
