"""Makes the pictures of the inbox in `docs/`: `python -m tests.browser.screenshot`, with
`PYTHONPATH=src`.

The story's requests go through the gateway in workerd, and Chromium looks at what arrives.
"""

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from local.inbox import Inbox
from local.runtime import ROOT, Runtime, wrangler_config
from local.server import Server
from tests.browser import story
from tests.browser.chromium import browser

KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-pictures", "LANGFUSE_SECRET_KEY": "sk-lf-pictures"}
TRACES = len(story.requests())
OPENED = "help desk"


def take(running: Browser, url: str, path: Path, **options: Any) -> None:
    """One picture of the page with the newest trace open."""
    context = running.new_context(
        viewport={"width": 1440, "height": 980}, reduced_motion="reduce", **options
    )
    page = context.new_page()
    page.goto(url)
    page.get_by_role("link", name=OPENED).first.click()
    page.get_by_role("heading", name="Output").wait_for()
    page.mouse.move(0, 0)
    page.screenshot(path=path)
    context.close()


def main() -> None:
    inbox = Inbox()
    with Server(story.app()) as provider, Server(inbox.app()) as page:
        env = {
            **wrangler_config()["vars"],
            **KEYS,
            "LANGFUSE_BASE_URL": page.url,
            "PROVIDERS": story.providers(provider.url),
        }
        with Runtime(env) as gateway:
            story.tell(gateway.url)
            # A trace of several observations is whole when its span is there.
            inbox.wait_for(TRACES + 2)
        with browser() as running:
            for scheme, name in (("light", "inbox.png"), ("dark", "inbox-dark.png")):
                take(running, page.url, ROOT / "docs" / name, color_scheme=scheme)


if __name__ == "__main__":
    main()
