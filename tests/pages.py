"""The project's Markdown pages: their blocks of code, their prose, links and anchors."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from local.runtime import ROOT

# Folders of installed or generated files.
IGNORED_FOLDERS = ("node_modules", "python_modules", "out")


def _pages() -> list[str]:
    found: list[str] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in IGNORED_FOLDERS and name[0] != "."]
        found += [os.path.join(folder, name) for name in files if name.endswith(".md")]
    return sorted(Path(path).relative_to(ROOT).as_posix() for path in found)


# Every page of the repository.
PAGES = _pages()


# Pages whose blocks have a test of their own, and that test, which names the page. The blocks of
# all other pages are run by tests/worker/test_docs.py.
OWN_TESTS = {
    "docs/clients.md": "tests/clients",
    "docs/extending.md": "tests/worker/test_docs_extending.py",
    "docs/self-hosting.md": "tests/worker/test_self_hosting.py",
}


@dataclass(frozen=True)
class Block:
    """A block of code on a page.

    `heading` is the heading above it, `number` its index among the blocks of its language under
    that heading, `line` the line of its fence.
    """

    page: str
    heading: str
    number: int
    language: str
    code: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}-{self.heading}-{self.number}"


def text_of(page: str) -> str:
    """A page's text."""
    return (ROOT / page).read_text()


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in these languages, or in any, in order.

    A block in a list item is returned without the indentation of its fence.
    """
    found: list[Block] = []
    heading, fence, indent, language, start = "", "", "", "", 0
    code: list[str] = []
    for line, text in enumerate(text_of(page).splitlines(), 1):
        fence_match = re.match(r"( *)(```+)([\w-]*)\s*$", text)
        if fence:
            if fence_match and fence_match[2] == fence:
                number = sum(b.heading == heading and b.language == language for b in found)
                body = "".join(f"{each}\n" for each in code)
                found.append(Block(page, heading, number, language, body, start))
                fence = ""
            else:
                code.append(text.removeprefix(indent))
        elif fence_match:
            indent, fence, language = fence_match.groups()
            start, code = line, []
        elif text.startswith("#"):
            heading = text.lstrip("# ")
    assert not fence, f"{page}:{start}: a block that does not end"
    return [block for block in found if not languages or block.language in languages]


def prose(page: str) -> str:
    """A page's text without its blocks of code."""
    return re.sub(r"(?ms)^ *(```+)[\w-]*\n.*?^ *\1$", "", text_of(page))


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub generates them.

    https://docs.github.com/en/get-started/writing-on-github/getting-started-with-writing-and-formatting-on-github/basic-writing-and-formatting-syntax#section-links
    """
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#+ +(.*)$", prose(page)):
        plain = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        suffix = 0
        while (anchor := f"{name}-{suffix}" if suffix else name) in found:
            suffix += 1
        found.add(anchor)
    return found


def links(page: str) -> list[str]:
    """The targets of a page's links and images."""
    text = re.sub(r"(?s)``.+?``|`.+?`", "", prose(page))
    inline = re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", text)
    html = re.findall(r"(?:href|src|srcset)=\"([^\"]+)\"", text)
    return [*inline, *html, *re.findall(r"<(https?://[^>\s]+)>", text)]
