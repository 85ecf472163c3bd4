"""docs/troubleshooting.md explains every message of the source, and quotes no other."""

import re
from typing import Any

import pytest

from local.docs.messages import Message, keywords, messages, messages_in
from local.docs.troubleshooting import SOURCES, TOOLING, log_events, quotes, with_messages
from local.runtime import ROOT
from settings.load import load_settings
from settings.table import SETTINGS, Setting

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
# Texts that are not messages, and why. A path stands for all texts of the file but its refusals.
NOT_MESSAGES = {
    "-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,10000}-----END": "a pattern",
    "Basic …": "a header",
    "Bearer …": "a header",
    "src/gateway/pages.py": "the page at the gateway's address",
    "src/settings/table.py": "the table of settings in the README",
    "at …:…": "the end of an `error`, a line of the source",
    "not accepted": "searched for in Langfuse's messages",
    "a list was expected": "caught immediately: the answer is not Langfuse's",
    "an id was expected": "the same",
    "a status was expected": "the same",
    "a model that is no text": "caught immediately: a 403",
    "not a JSON object": "caught immediately: a 400",
    "stream of events": "the name of a format",
    "too large": "an outcome, which is not logged",
    "not spoken": "an outcome, which is not logged",
    "start the runtime with inspect=True": "for authors of tests",
    "not in the log after … s:": "for authors of tests",
    "(name = …, fromEnvironment = …)": "workerd's configuration",
    "(name = …, json = …)": "workerd's configuration",
    "(name = …, … = embed …)": "workerd's configuration",
    "(name = …, unsafeEval = void)": "workerd's configuration",
}


def is_not_a_message(message: Message) -> bool:
    if message.path in NOT_MESSAGES:
        return message.status is None
    is_pattern = "(?P<" in message.text
    return message.shown in NOT_MESSAGES or is_pattern or "workerd.capnp" in message.text


ALL_MESSAGES = [
    message
    for path in (*SOURCES, *TOOLING)
    for message in messages(path)
    if message.has_words and not is_not_a_message(message)
]


def section(heading: str) -> str:
    """The text under a heading, up to the next heading of any level."""
    found = re.search(rf"(?ms)^###? {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE)
    assert found, heading
    return found[1]


ALL_QUOTES = quotes(PAGE)
STATUSES = sorted({message.status for message in ALL_MESSAGES if message.status})


def is_quoted_in(texts: list[str], message: Message) -> bool:
    return any(message.pattern.fullmatch(quote) for quote in texts)


@pytest.mark.parametrize("message", ALL_MESSAGES, ids=str)
def test_each_message_is_explained(message: Message):
    prose = re.sub(r"\s+", " ", PAGE)
    if message.status:
        assert is_quoted_in(quotes(section(str(message.status))), message)
    # The end of another message may be in the explanation of that message.
    elif not is_quoted_in(ALL_QUOTES, message):
        assert f"`{message.shown}`" in prose or f"{message.shown}" in " ".join(ALL_QUOTES)


@pytest.mark.parametrize("status", STATUSES)
def test_each_quote_under_a_status_is_a_message_of_that_status(status: int):
    messages_of_status = [message for message in ALL_MESSAGES if message.status == status]
    for quote in quotes(section(str(status))):
        assert any(message.pattern.fullmatch(quote) for message in messages_of_status), quote


def test_each_quote_is_a_message_a_log_event_or_from_the_makefile():
    events = log_events()
    makefile = (ROOT / "Makefile").read_text()
    for quote in ALL_QUOTES:
        is_message = any(message.pattern.fullmatch(quote) for message in ALL_MESSAGES)
        assert is_message or quote in events or quote in makefile, quote


def test_each_log_event_and_field_is_explained():
    text = section("What the log says")
    events = log_events()
    assert {"trace_not_delivered", "trace_queued", "message_not_read", "job_failed"} <= events
    assert events == set(quotes(text))
    for name in set().union(*(keywords(path, "log") for path in SOURCES)):
        assert f"`{name}`" in text, name


def test_the_error_of_the_makefile_is_explained():
    (error,) = re.findall(r'sys\.exit\("(.*?)"', (ROOT / "Makefile").read_text())
    assert error in ALL_QUOTES


@pytest.mark.parametrize("setting", [row for row in SETTINGS if row.kind == "variable"], ids=str)
def test_a_message_about_a_setting_is_explained_with_its_name(setting: Setting[Any]):
    explanations = re.findall(r"(?m)^\| `(.+?)` \| (.*) \|$", section("Settings"))
    for value in (7, "x", "-1", "1e9", " ", [], {}, "[", "[1]", '["("]', '{"a": 1}'):
        loaded = load_settings({setting.name: value})
        for text in (*loaded.warnings, loaded.problem or ""):
            names = {
                name
                for quote, explanation in explanations
                if re.fullmatch(re.escape(f"{setting} {quote}").replace("…", ".+"), text)
                for name in re.findall("`([A-Z_]{5,})`", explanation)
            }
            assert not names or setting.name in names, text


@pytest.mark.parametrize(
    ("message", "quote"),
    [
        ("The gateway failed. Its log says where.", "The gateway failed. The log says where."),
        ("must be true or false", "must be either true or false"),
        ("The provider … could not be reached.", "The provider … was not reached."),
        ("trace_not_delivered", "trace_undelivered"),
    ],
)
def test_a_quote_follows_when_its_message_changes(message: str, quote: str):
    assert f"`{message}`" in PAGE
    assert with_messages(PAGE.replace(f"| `{message}` |", f"| `{quote}` |")) == PAGE


def test_each_status_has_a_section():
    headings = re.findall(r"(?m)^### (\d{3})$", PAGE)
    assert list(map(int, headings)) == STATUSES


def test_each_entry_of_not_messages_exists():
    existing = {m.shown for path in (*SOURCES, *TOOLING) for m in messages(path)}
    assert {text for text in NOT_MESSAGES if not (ROOT / text).is_file()} <= existing


def test_messages_are_found_wherever_they_are_used():
    literals = 'f"a {y} of {Z} " "two", "one", Refusal(400, "no way", "a b")'
    source = f'"""A docstring here."""\nx = [{literals}]'
    found = messages_in(source, "made.py", {"Z": 3})
    assert [(m.shown, m.status) for m in found] == [
        ("a … of 3 two", None),
        ("no way", 400),
        ("a b", None),
    ]
