"""The examples of docs/extending.md as changes of the source."""

import re

from local.runtime import ROOT
from tests.pages import text_of

PAGE = "docs/extending.md"


def changes(heading: str) -> dict[str, str]:
    """What files, by their path, look like after the examples below a heading."""
    text = re.split(r"(?m)^## ", text_of(PAGE))
    (section,) = (part for part in text if part.startswith(f"{heading}\n"))
    made = dict(re.findall(r"(?ms)^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", section))
    for path, diff in re.findall(r"(?ms)^```diff\n--- (\S+)\n(.*?)^```$", section):
        made[path] = _changed(made.get(path) or (ROOT / path).read_text(), diff)
    assert made
    return made


def _changed(text: str, diff: str) -> str:
    for hunk in diff.split("@@\n"):
        lines = [(line[0], line[1:]) for line in hunk.splitlines()]
        before = "".join(f"{line}\n" for mark, line in lines if mark in " -")
        after = "".join(f"{line}\n" for mark, line in lines if mark in " +")
        assert text.count(before) == 1, f"not once in the source:\n{before}"
        text = text.replace(before, after)
    return text
