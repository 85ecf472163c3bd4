"""What several unit tests stand on."""

from collections.abc import Iterator

import httpx
import pytest

from local.inbox import Inbox
from local.server import Server


@pytest.fixture
def client(inbox: Inbox) -> Iterator[httpx.Client]:
    """A client of the test's own `inbox`."""
    with (
        Server(inbox.app()) as server,
        httpx.Client(base_url=server.url, auth=("any", "pair"), verify=False) as client,
    ):
        yield client
