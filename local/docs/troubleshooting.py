"""The quotes of messages in docs/troubleshooting.md.

The page explains each message of the source. The explanations are written by hand; the messages are
the source's own.
"""

import difflib
import re

from local.docs.messages import first_arguments, messages
from local.runtime import ROOT

SOURCES = sorted((ROOT / "src").rglob("*.py"))
TOOLING = [ROOT / "local" / "runtime" / name for name in ("runtime.py", "workerd.py")]
# The functions whose first argument is the name of a log event.
_LOG_FUNCTIONS = ("log", "_report", "report_undelivered")


def quotes(text: str) -> list[str]:
    """The code spans in the first columns of all tables of a text."""
    cells = re.findall(r"(?m)^\| (.*?) \|", text)
    codes = (code for cell in cells for code in re.findall(r"``(.+?)``(?!`)|`(.+?)`", cell))
    return [(double or single).strip() for double, single in codes]


def log_events() -> set[str]:
    """The names of all events of the log."""
    return set[str]().union(*(first_arguments(path, *_LOG_FUNCTIONS) for path in SOURCES))


def with_messages(page: str) -> str:
    """The text of the page with its quotes as the source has them.

    A quote that is no message any more is replaced by the most similar message that the page does
    not quote yet. Below the heading of a status, it is a message of that status. A quote without a
    similar message stays.
    """
    found = (message for path in (*SOURCES, *TOOLING) for message in messages(path))
    existing = [message for message in found if message.has_words]
    events, makefile = log_events(), (ROOT / "Makefile").read_text()
    quoted = quotes(page)
    missing = [m for m in existing if not any(map(m.pattern.fullmatch, quoted))]
    sections = re.split(r"(?m)^(?=##)", page)
    for number, section in enumerate(sections):
        heading = re.match(r"### (\d{3})\n", section)
        status = int(heading[1]) if heading else None
        candidates = [m.shown for m in missing if m.status == status]
        for quote in quotes(section):
            is_current = any(m.pattern.fullmatch(quote) for m in existing) or quote in events
            if is_current or quote in makefile:
                continue
            for similar in difflib.get_close_matches(quote, [*candidates, *events - {*quoted}], 1):
                sections[number] = sections[number].replace(_code(quote), _code(similar))
    return "".join(sections)


def _code(text: str) -> str:
    """A text as a code span."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{' ' if text.endswith('`') else ''}{fence}"
