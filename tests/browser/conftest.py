"""A page of the inbox in a real browser, and what a test feeds the inbox with."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from local.inbox import Inbox
from local.server import Server
from tests.browser import chromium

BEGAN = datetime(2026, 11, 24, 9, tzinfo=UTC)


def at(milliseconds: float) -> str:
    """A time, so many ms after the tests' first one."""
    return (BEGAN + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")


@dataclass
class Desk:
    """An inbox, its address, and a way to have things arrive."""

    inbox: Inbox
    url: str
    arrived: int = field(default=0)

    def post(self, *events: dict[str, Any]) -> None:
        """Sends a batch to the inbox; half a surrogate pair goes as its escape."""
        body, kind = json.dumps({"batch": events}), {"content-type": "application/json"}
        url = f"{self.url}/api/public/ingestion"
        answer = httpx.post(url, content=body, headers=kind, auth=("any", "pair")).json()
        assert answer["errors"] == []

    def event(self, kind: str, **body: Any) -> dict[str, Any]:
        self.arrived += 1
        return {"id": f"e{self.arrived}", "type": kind, "timestamp": at(0), "body": body}

    def trace(self, name: str, trace: dict[str, Any] | None = None, **generation: Any) -> None:
        """A trace of this name and id with one generation, which took 900 ms."""
        times = {"startTime": at(0), "completionStartTime": at(200), "endTime": at(900)}
        own = {"id": f"g-{name}", "traceId": name, "name": "chat/completions", **times}
        self.post(
            self.event("trace-create", id=name, name=name, **(trace or {})),
            self.event("generation-create", **own, **generation),
        )

    def many(self, number: int) -> None:
        """So many traces, `trace 0` the oldest."""
        for first in range(0, number, 250):
            self.post(
                *(
                    self.event(
                        "generation-create",
                        id=f"g{n}",
                        traceId=f"t{n}",
                        name=f"trace {n}",
                        model=f"model-{n % 5}",
                        startTime=at(n),
                        endTime=at(n + 100 + n % 7),
                        input=[{"role": "user", "content": f"question {n} " + "and more " * 100}],
                        output={"role": "assistant", "content": "an answer " * 100},
                    )
                    for n in range(first, min(first + 250, number))
                )
            )


# Not for longer than a file: Playwright keeps an event loop running in this thread, which must be
# over when the next file's tests run theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium.browser() as running:
            yield running
    except chromium.NoBrowser as error:
        pytest.skip(str(error))


@pytest.fixture
def desk() -> Iterator[Desk]:
    inbox = Inbox()
    with Server(inbox.app()) as server:
        yield Desk(inbox, server.url)


@dataclass
class Visit:
    """A page, and everything that it asked for and complained of."""

    page: Page
    asked: list[str]
    complaints: list[str]


Visitor = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, desk: Desk) -> Iterator[Visitor]:
    """Opens the inbox's page: `visit("/?level=ERROR", color_scheme="dark")`.

    After each test every request of every page went to the inbox, and no page complained.
    """
    contexts: list[BrowserContext] = []
    asked: list[str] = []
    complaints: list[str] = []

    def go(path: str = "/", **options: Any) -> Page:
        size = {"width": 1440, "height": 900}
        context = browser.new_context(**{"viewport": size, "reduced_motion": "reduce", **options})
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type == "error" else None,
        )
        page.goto(f"{desk.url}{path}")
        return page

    yield go
    for context in contexts:
        context.close()
    elsewhere = [url for url in asked if not url.startswith((f"{desk.url}/", "data:"))]
    assert elsewhere == []
    # A trace that is not there is asked for, and the browser says so.
    assert [said for said in complaints if "404 (Not Found)" not in said] == []
