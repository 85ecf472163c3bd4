"""Fixtures: an inbox with helpers that add traces, and its page in a real browser."""

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

START = datetime(2026, 11, 24, 9, tzinfo=UTC)


def time_at(milliseconds: float) -> str:
    """The ISO time that is so many milliseconds after `START`."""
    return (START + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")


@dataclass
class InboxServer:
    """A running inbox, its URL, and methods that add traces to it."""

    inbox: Inbox
    url: str
    event_count: int = field(default=0)

    def post(self, *events: dict[str, Any]) -> None:
        """Send a batch of events to the inbox, in ASCII, so that a lone surrogate is escaped."""
        body, headers = json.dumps({"batch": events}), {"content-type": "application/json"}
        url = f"{self.url}/api/public/ingestion"
        response = httpx.post(url, content=body, headers=headers, auth=("any", "pair")).json()
        assert response["errors"] == []

    def event(self, kind: str, **body: Any) -> dict[str, Any]:
        self.event_count += 1
        return {"id": f"e{self.event_count}", "type": kind, "timestamp": time_at(0), "body": body}

    def add_trace(self, name: str, trace: dict[str, Any] | None = None, **generation: Any) -> None:
        """Add a trace with this name and id, and with one generation of 900 ms.

        `trace` and `generation` are further fields of the two events.
        """
        times = {
            "startTime": time_at(0),
            "completionStartTime": time_at(200),
            "endTime": time_at(900),
        }
        fields = {"id": f"g-{name}", "traceId": name, "name": "chat/completions", **times}
        self.post(
            self.event("trace-create", id=name, name=name, **(trace or {})),
            self.event("generation-create", **fields, **generation),
        )

    def add_traces(self, count: int) -> None:
        """Add this number of traces, of which `trace 0` is the oldest."""
        for first in range(0, count, 250):
            self.post(
                *(
                    self.event(
                        "generation-create",
                        id=f"g{n}",
                        traceId=f"t{n}",
                        name=f"trace {n}",
                        model=f"model-{n % 5}",
                        startTime=time_at(n),
                        endTime=time_at(n + 100 + n % 7),
                        input=[{"role": "user", "content": f"question {n} " + "and more " * 100}],
                        output={"role": "assistant", "content": "an answer " * 100},
                    )
                    for n in range(first, min(first + 250, count))
                )
            )


# Module scope: Playwright keeps an event loop running in this thread, which must have ended when
# the tests of the next file run their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium.browser() as running:
            yield running
    except chromium.NoBrowser as error:
        pytest.skip(str(error))


@pytest.fixture
def inbox_server() -> Iterator[InboxServer]:
    inbox = Inbox()
    with Server(inbox.app()) as server:
        yield InboxServer(inbox, server.url)


PageOpener = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, inbox_server: InboxServer) -> Iterator[PageOpener]:
    """A function that opens the inbox's page: `open_page("/?level=ERROR", color_scheme="dark")`.

    After each test it is checked that all pages sent requests only to the inbox, and had no errors.
    """
    contexts: list[BrowserContext] = []
    requested_urls: list[str] = []
    errors: list[str] = []

    def open_new_page(path: str = "/", **options: Any) -> Page:
        size = {"width": 1440, "height": 900}
        context = browser.new_context(**{"viewport": size, "reduced_motion": "reduce", **options})
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requested_urls.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
        page.on(
            "console",
            lambda message: errors.append(message.text) if message.type == "error" else None,
        )
        page.goto(f"{inbox_server.url}{path}")
        return page

    yield open_new_page
    for context in contexts:
        context.close()
    foreign_urls = [
        url for url in requested_urls if not url.startswith((f"{inbox_server.url}/", "data:"))
    ]
    assert foreign_urls == []
    # The browser logs an error for a request of a trace that does not exist.
    assert [error for error in errors if "404 (Not Found)" not in error] == []
