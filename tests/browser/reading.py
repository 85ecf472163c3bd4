"""Helpers that open a trace in the inbox's page and read its content."""

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PageOpener


def open_trace(open_page: PageOpener, name: str = "t", **options: Any) -> Page:
    page = open_page(f"/?trace={name}", **options)
    expect(page.locator(".observation")).to_be_visible()
    return page


def section(page: Page, title: str) -> Locator:
    heading = page.get_by_role("heading", name=title, exact=True)
    return page.locator(".observation section").filter(has=heading)


OPEN_ALL_DETAILS = """async () => {
  for (let closed; (closed = document.querySelectorAll("#trace details:not([open])")).length > 0;) {
    for (const node of closed) node.open = true;
    // Their content is created in a handler of their toggle event.
    await new Promise((resolve) => { setTimeout(resolve); });
  }
}"""


def read_messages(page: Page, title: str) -> list[tuple[str, str]]:
    """The role and the text of each message in the input or the output, also in closed details."""
    page.evaluate(OPEN_ALL_DETAILS)
    found = (
        section(page, title)
        .locator(".message")
        .evaluate_all(
            "all => all.map((one) => [...one.children].slice(0, 2).map((part) => part.innerText))"
        )
    )
    return [(role, " ".join(text.split())) for role, text in found]
