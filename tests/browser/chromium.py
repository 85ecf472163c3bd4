"""The browser of these tests: where it is, and how it is started."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# It asks nothing of the internet on its own.
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoBrowser(RuntimeError):
    """There is no Chromium; the message says what would be one."""


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium: the one that `CHROMIUM` names, else one on the PATH, else Playwright's
    own. Raises NoBrowser."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        path = found or playwright.chromium.executable_path
        if not Path(path).exists():
            raise NoBrowser(
                f"no Chromium: {path} is not there. Install one (`apt-get install chromium`), or "
                "name one in the variable CHROMIUM"
            )
        # As root there is no sandbox to start.
        flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        running = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield running
        finally:
            running.close()
