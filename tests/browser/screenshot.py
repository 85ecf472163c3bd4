"""Creates the pictures of the inbox in `docs/`.

Run it with `PYTHONPATH=src python -m tests.browser.screenshot`. The requests of `help_desk` go
through the gateway in workerd, and Chromium opens the page of the inbox that gets their traces.
"""

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from local.inbox import Inbox
from local.runtime import ROOT, Runtime, wrangler_config
from local.server import Server
from tests.browser import help_desk
from tests.browser.chromium import browser

KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-pictures", "LANGFUSE_SECRET_KEY": "sk-lf-pictures"}
TRACE_COUNT = len(help_desk.requests())
OPENED_TRACE = "help desk"


def take(running: Browser, url: str, path: Path, **options: Any) -> None:
    """Take one picture of the page, with the newest trace named `OPENED_TRACE` open."""
    context = running.new_context(
        viewport={"width": 1440, "height": 980}, reduced_motion="reduce", **options
    )
    page = context.new_page()
    page.goto(url)
    page.get_by_role("link", name=OPENED_TRACE).first.click()
    page.get_by_role("heading", name="Output").wait_for()
    page.mouse.move(0, 0)
    page.screenshot(path=path)
    context.close()


def main() -> None:
    inbox = Inbox()
    with Server(help_desk.app()) as provider, Server(inbox.app()) as page:
        env = {
            **wrangler_config()["vars"],
            **KEYS,
            "LANGFUSE_BASE_URL": page.url,
            "PROVIDERS": help_desk.providers(provider.url),
        }
        with Runtime(env) as gateway:
            help_desk.send_requests(gateway.url)
            # The trace of the fallback has three observations: a span and two attempts.
            inbox.wait_for(TRACE_COUNT + 2)
        with browser() as running:
            for scheme, name in (("light", "inbox.png"), ("dark", "inbox-dark.png")):
                take(running, page.url, ROOT / "docs" / name, color_scheme=scheme)


if __name__ == "__main__":
    main()
