"""Finds and starts the Chromium that the browser tests use."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Without any requests of the browser's own to the internet.
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoBrowser(RuntimeError):
    """No Chromium was found. The message explains how to provide one."""


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium: that of the variable `CHROMIUM`, one on the PATH, or Playwright's own.

    Raises NoBrowser.
    """
    configured = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        path = configured or playwright.chromium.executable_path
        if not Path(path).exists():
            raise NoBrowser(
                f"no Chromium: {path} is not there. Install one (`apt-get install chromium`), or "
                "name one in the variable CHROMIUM"
            )
        # Chromium's sandbox does not start as root.
        flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        running = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield running
        finally:
            running.close()
