"""docs/troubleshooting.md knows every message that there is, and no other."""

import re

import pytest

from .messages import GAP, ROOT, Message, first_arguments, keywords, messages, messages_in

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TOOLING = [ROOT / "local" / "runtime" / name for name in ("runtime.py", "workerd.py")]
EVENTS = ("log", "_report", "report_undelivered")
# Texts that nobody comes to read, or not as a message, and why. A path stands for all of its texts
# but for its refusals.
LEFT_OUT = {
    "-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,10000}-----END": "a pattern",
    "Basic …": "a header",
    "Bearer …": "a header",
    "src/gateway/pages.py": "a page for who opens the gateway's address",
    "at …:…": "the end of an `error`, which names a place in the source",
    "trace name": "the beginning of a note",
    "not accepted": "looked for in Langfuse's words",
    "a list was expected": "caught at once: the answer is not Langfuse's",
    "a model that is no text": "caught at once: a 403",
    "not a JSON object": "caught at once: a 400",
    "content that is no text": "the end of `not an observation for this deployment: …`",
    "stream of events": "the name of a form",
    "too large": "a fate, which no line shows",
    "not spoken": "a fate, which no line shows",
    "start the runtime with inspect=True": "for who writes a test",
    "not in the log after … s:": "for who writes a test",
    "(name = …, fromEnvironment = …)": "workerd's configuration",
    "(name = …, json = …)": "workerd's configuration",
    "(name = …, … = embed …)": "workerd's configuration",
    "(name = …, unsafeEval = void)": "workerd's configuration",
}


def is_frame(message: Message) -> bool:
    """Whether there is nothing in a message but what other ones say."""
    return not re.search("[A-Za-z]{3}", message.text.replace(GAP, ""))


def is_left_out(message: Message) -> bool:
    if message.path in LEFT_OUT:
        return message.status is None
    is_pattern = "(?P<" in message.text
    return message.shown in LEFT_OUT or is_pattern or "workerd.capnp" in message.text


EVERY = [
    message
    for path in (*SOURCES, *TOOLING)
    for message in messages(path)
    if not is_frame(message) and not is_left_out(message)
]


def quotes(text: str) -> list[str]:
    """What stands as code in the first columns of the tables of a text."""
    cells = re.findall(r"(?m)^\| (.*?) \|", text)
    codes = (code for cell in cells for code in re.findall(r"``(.+?)``(?!`)|`(.+?)`", cell))
    return [(double or single).strip() for double, single in codes]


def section(heading: str) -> str:
    """What stands under a heading, down to the next one of whichever level."""
    found = re.search(rf"(?ms)^###? {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE)
    assert found, heading
    return found[1]


QUOTED = quotes(PAGE)
STATUSES = sorted({message.status for message in EVERY if message.status})


def has(quoted: list[str], message: Message) -> bool:
    return any(message.pattern.fullmatch(quote) for quote in quoted)


@pytest.mark.parametrize("message", EVERY, ids=str)
def test_each_message_is_explained(message: Message):
    prose = re.sub(r"\s+", " ", PAGE)
    if message.status:
        assert has(quotes(section(str(message.status))), message)
    # The end of another message may stand in the explanation of that one.
    elif not has(QUOTED, message):
        assert f"`{message.shown}`" in prose or f"{message.shown}" in " ".join(QUOTED)


@pytest.mark.parametrize("status", STATUSES)
def test_each_quoted_answer_is_one(status: int):
    own = [message for message in EVERY if message.status == status]
    for quote in quotes(section(str(status))):
        assert any(message.pattern.fullmatch(quote) for message in own), quote


def test_each_quoted_message_is_one():
    events = set().union(*(first_arguments(path, *EVENTS) for path in SOURCES))
    makefile = (ROOT / "Makefile").read_text()
    for quote in QUOTED:
        known = any(message.pattern.fullmatch(quote) for message in EVERY)
        assert known or quote in events or quote in makefile, quote


def test_each_line_of_the_log_is_explained():
    text = section("What the log says")
    events = set().union(*(first_arguments(path, *EVENTS) for path in SOURCES))
    assert {"trace_not_delivered", "trace_queued", "message_not_read", "job_failed"} <= events
    assert events == set(quotes(text))
    for name in set().union(*(keywords(path, "log") for path in SOURCES)):
        assert f"`{name}`" in text, name


def test_what_makefile_says_is_explained():
    (said,) = re.findall(r'sys\.exit\("(.*?)"', (ROOT / "Makefile").read_text())
    assert said in QUOTED


def test_each_answer_has_its_section():
    shown = re.findall(r"(?m)^### (\d{3})$", PAGE)
    assert list(map(int, shown)) == STATUSES


def test_what_is_left_out_is_there():
    there = {m.shown for path in (*SOURCES, *TOOLING) for m in messages(path)}
    assert {text for text in LEFT_OUT if not (ROOT / text).is_file()} <= there


def test_a_message_on_any_road_is_found():
    texts = 'f"a {y} of {Z} " "two", "one", Refusal(400, "no way", "a b")'
    source = f'"""A docstring here."""\nx = [{texts}]'
    found = messages_in(source, "made.py", {"Z": 3})
    assert [(m.shown, m.status) for m in found] == [
        ("a … of 3 two", None),
        ("no way", 400),
        ("a b", None),
    ]
