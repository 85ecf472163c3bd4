"""Fixtures that several unit tests share."""

from collections.abc import Iterator

import httpx
import pytest

from local.inbox import Inbox
from local.server import Server


@pytest.fixture
def client(inbox: Inbox) -> Iterator[httpx.Client]:
    """An HTTP client of the inbox that the test module's `inbox` fixture returns."""
    with (
        Server(inbox.app()) as server,
        httpx.Client(base_url=server.url, auth=("any", "pair"), verify=False) as client,
    ):
        yield client
