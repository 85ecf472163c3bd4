"""The examples of docs/extending.md, applied to the source."""

import re

from local.runtime import ROOT
from tests.pages import text_of

PAGE = "docs/extending.md"


def changes(heading: str) -> dict[str, str]:
    """The new text of each file that the examples below a heading change, by path."""
    text = re.split(r"(?m)^## ", text_of(PAGE))
    (section,) = (each for each in text if each.startswith(f"{heading}\n"))
    changed = dict(re.findall(r"(?ms)^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", section))
    for path, diff in re.findall(r"(?ms)^```diff\n--- (\S+)\n(.*?)^```$", section):
        changed[path] = _apply_diff(changed.get(path) or (ROOT / path).read_text(), diff)
    assert changed
    return changed


def _apply_diff(text: str, diff: str) -> str:
    for hunk in diff.split("@@\n"):
        lines = [(line[0], line[1:]) for line in hunk.splitlines()]
        before = "".join(f"{line}\n" for mark, line in lines if mark in " -")
        after = "".join(f"{line}\n" for mark, line in lines if mark in " +")
        assert text.count(before) == 1, f"not once in the source:\n{before}"
        text = text.replace(before, after)
    return text
