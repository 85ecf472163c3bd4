"""The choice between ingestion batches and OTLP, by the server's health page and its responses, for
many requests at once, in virtual time and at the default settings."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from core.types import HttpResponse
from export.outbox import get_outbox
from tests.unit.export.deliveries import deliver, new_isolate
from tests.unit.export.fault_table import (
    HTML,
    Row,
    always,
    check_balance,
    every,
    settings_for,
)
from tests.unit.export.faulty_langfuse import (
    INGESTION_PATH,
    OTLP_PATH,
    Fault,
    FaultyLangfuse,
    Upload,
    accept,
    close,
    delay,
    first,
    hang,
    respond,
)
from tests.unit.langfuse import DESTINATION

# The protocols that each version of the server supports.
SUPPORTED = {"2": {"ingestion"}, "3": {"ingestion", "otlp"}, "4": {"otlp"}}


@pytest.fixture(autouse=True)
def _new_isolate() -> Iterator[None]:
    with new_isolate():
        yield


def names_version(version: str) -> Fault:
    return respond(200, f'{{"status": "OK", "version": "{version}"}}')


@dataclass(frozen=True)
class Server:
    """A server of some version, whose health page may be wrong or missing."""

    name: str
    version: str
    health: Fault = accept
    is_health_checked_once: bool = True


SERVERS = [
    Server("v2", "2.95.0"),
    Server("v3", "3.120.0"),
    Server("v4", "4.16.0"),
    Server("v3, named 4", "3.120.0", names_version("4.0.0")),
    Server("v2, named 4", "2.95.0", names_version("4.0.0")),
    Server("v4, named 3", "4.16.0", names_version("3.200.0")),
    Server("v4 without a version", "4.16.0", respond(200, "{}")),
    Server("v4 with an HTML page", "4.16.0", respond(200, HTML)),
    Server("v4 without a health page", "4.16.0", respond(404)),
    Server("v4 with a slow health page", "4.16.0", delay(0.4)),
    Server("v4 with health 503", "4.16.0", respond(503), is_health_checked_once=False),
    Server("v4 with a hanging health page", "4.16.0", hang, is_health_checked_once=False),
    Server("v3 with a hanging health page", "3.120.0", hang, is_health_checked_once=False),
    Server("v4 with a closing health page", "4.16.0", close, is_health_checked_once=False),
]


@pytest.mark.parametrize("calls", [20, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_the_supported_protocol_is_found(server: Server, calls: int):
    langfuse = FaultyLangfuse(server.version, health_fault=server.health)
    settings = settings_for("auto", 1)
    result = deliver(langfuse, settings, calls)
    check_balance(Row(server.name, always(accept)), langfuse, result)
    # One request checks the server's health, the others wait for its result; an upload's response
    # also shows which protocol is supported.
    checks = langfuse.health_checks
    assert checks == 1 if server.is_health_checked_once else checks < 20
    assert get_outbox(DESTINATION, settings).exporter.protocol in SUPPORTED[server.version[0]]


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_either_protocol(status: int):
    langfuse = FaultyLangfuse(fault=respond(status))
    result = deliver(langfuse, settings_for("auto", 1), 20)
    reason = "not taken as ingestion and otlp"
    row = Row("neither", always(accept), every, reason, is_misconfiguration=True)
    assert result.counts["dropped"] == 20
    check_balance(row, langfuse, result)
    # Each delivery tries both: the server may be the one that was just being replaced.
    assert langfuse.paths == {INGESTION_PATH: 20, OTLP_PATH: 20}


VERSIONS = ["2.95.0", "3.120.0", "4.16.0"]


@pytest.mark.parametrize("disturbance", ["none", "503"])
@pytest.mark.parametrize("flush_at", [1, 10])
@pytest.mark.parametrize(
    ("before", "after"),
    [(before, after) for before in VERSIONS for after in VERSIONS if before != after],
)
def test_a_server_that_is_replaced_under_load(
    before: str, after: str, flush_at: int, disturbance: str
):
    """Half of the uploads go to the old version. Some of the others get a 503 first."""
    calls = 100
    langfuse = FaultyLangfuse(before)
    langfuse.fault = replace_version(after, calls // flush_at // 2, disturbance == "503")
    settings = settings_for("auto", flush_at)
    result = deliver(langfuse, settings, calls, within=10)
    check_balance(Row("replaced", always(accept)), langfuse, result)
    assert langfuse.version == after
    protocols = {found["protocol"] for found in result.observations.values()}
    chosen = "otlp" if before[0] == "4" else "ingestion"
    assert protocols == ({chosen} if chosen in SUPPORTED[after[0]] else {"ingestion", "otlp"})
    assert get_outbox(DESTINATION, settings).exporter.protocol in SUPPORTED[after[0]]


def replace_version(version: str, uploads: int, is_disturbed: bool) -> Fault:
    """The server has another version after this number of uploads."""
    count = 0
    disturb = first(1, respond(503))

    async def fault(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        nonlocal count
        count += 1
        if count == uploads:
            langfuse.version = version
        return await (disturb if is_disturbed and count % 3 == 0 else accept)(upload, langfuse)

    return fault
