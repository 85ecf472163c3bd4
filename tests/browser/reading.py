"""How a test reads an open trace."""

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visitor


def open_trace(visit: Visitor, name: str = "t", **options: Any) -> Page:
    page = visit(f"/?trace={name}", **options)
    expect(page.locator(".observation")).to_be_visible()
    return page


def section(page: Page, title: str) -> Locator:
    heading = page.get_by_role("heading", name=title, exact=True)
    return page.locator(".observation section").filter(has=heading)


UNFOLD = """async () => {
  for (let closed; (closed = document.querySelectorAll("#trace details:not([open])")).length > 0;) {
    for (const node of closed) node.open = true;
    // What is in them is made when they tell of it.
    await new Promise((resolve) => { setTimeout(resolve); });
  }
}"""


def said(page: Page, title: str) -> list[tuple[str, str]]:
    """Who says what in the input or the output, what is folded too."""
    page.evaluate(UNFOLD)
    found = (
        section(page, title)
        .locator(".message")
        .evaluate_all(
            "all => all.map((one) => [...one.children].slice(0, 2).map((part) => part.innerText))"
        )
    )
    return [(who, " ".join(what.split())) for who, what in found]
