"""The choice of the protocol, by what a server says and by what it takes."""

from dataclasses import dataclass

import pytest

from . import faults
from .fault_table import HTML, QUICK, SCALED, Pace, Row, always, balance, every
from .faults import INGESTION, OTLP, Fault, World, answer, close, first, hang, slow, well

pytestmark = pytest.mark.long


def health(status: int = 200, text: str = "") -> Fault:
    return answer(status, text, "application/json")


def says(version: str) -> Fault:
    return health(text=f'{{"status": "OK", "version": "{version}"}}')


@dataclass(frozen=True)
class Choice:
    """A server of some version whose health page says something else, or nothing."""

    name: str
    version: str
    health: Fault = well
    asked_once: bool = True
    quick: bool = False


CHOICES = [
    Choice("v2", "2.95.0"),
    Choice("v3", "3.120.0"),
    Choice("v4", "4.16.0"),
    Choice("v3 that says 4", "3.120.0", says("4.0.0")),
    Choice("v2 that says 4", "2.95.0", says("4.0.0")),
    Choice("v4 that says 3", "4.16.0", says("3.200.0"), quick=True),
    Choice("v4 that says nothing", "4.16.0", health(text="{}")),
    Choice("v4 that says HTML", "4.16.0", answer(200, HTML, "text/html")),
    Choice("v4 that hides its health", "4.16.0", health(404)),
    Choice("v4 with a slow health page", "4.16.0", slow(0.4)),
    Choice("v4 with a sick health page", "4.16.0", health(503), asked_once=False),
    Choice("v4 with a health page that hangs", "4.16.0", hang, asked_once=False),
    Choice("v3 with a health page that hangs", "3.120.0", hang, asked_once=False),
    Choice("v4 with a health page that closes", "4.16.0", close, asked_once=False),
]


def choose(world: World, choice: Choice, calls: int) -> None:
    # With time enough for the health page, also where the machine has others to serve.
    pace = Pace(4, 10, calls)
    world.langfuse.begin(choice.version)
    world.langfuse.health = choice.health
    with world.gateway(**pace.env("auto")) as gateway:
        books = world.run(gateway, pace.calls, pace.retry + 20)
        balance(Row(choice.name, always(well)), books)
        # The others look what the one that asks has learned, and what the first uploads have.
        assert world.langfuse.asked == 1 if choice.asked_once else world.langfuse.asked < 20
        # The third version takes both, so what its health page says is as good as its answers.
        spoken = {"2": {"ingestion"}, "3": {"ingestion", "otlp"}, "4": {"otlp"}}
        assert faults.state(gateway)["protocol"] in spoken[choice.version[0]]


@pytest.mark.parametrize("choice", [c for c in CHOICES if c.quick], ids=lambda c: c.name)
def test_the_protocol_is_found(world: World, choice: Choice):
    choose(world, choice, 20)


@pytest.mark.long
@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: c.name)
def test_the_protocol_is_found_by_many(world: World, choice: Choice):
    choose(world, choice, 200)


@pytest.mark.parametrize("status", [404, pytest.param(405, marks=pytest.mark.long)])
def test_a_server_with_neither_protocol(world: World, status):
    world.langfuse.begin()
    world.langfuse.fault = answer(status)
    with world.gateway(**QUICK.env("auto")) as gateway:
        books = world.run(gateway, QUICK.calls, QUICK.retry + 20)
        reason = "not taken as ingestion and otlp"
        balance(Row("neither", always(well), every, reason, repeated=True), books)
        # It is reported once, and counted each time.
        (line,) = books.lines
        assert reason in line["reason"]
        assert world.langfuse.paths == {INGESTION: QUICK.calls, OTLP: QUICK.calls}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("3.120.0", "4.16.0"),
        *(
            pytest.param(before, after, marks=pytest.mark.long)
            for before, after in (
                ("2.95.0", "4.16.0"),
                ("4.16.0", "3.120.0"),
                ("4.16.0", "2.95.0"),
                ("2.95.0", "3.120.0"),
            )
        ),
    ],
)
@pytest.mark.parametrize("flush_at", [1, 10])
@pytest.mark.parametrize("trouble", ["none", pytest.param("busy", marks=pytest.mark.long)])
def test_a_server_that_is_exchanged_under_load(world: World, before, after, flush_at, trouble):
    """In the middle of a continuous load, with and without other trouble, nothing is lost and
    nothing is doubled."""
    langfuse, calls = world.langfuse, 80 if trouble == "none" else 200
    langfuse.begin(before)
    uploads = []

    async def exchange(request, handler):
        uploads.append(request)
        if len(uploads) == calls // flush_at // 2:
            langfuse.inbox.version = after
        fault = first(1, answer(503)) if trouble == "busy" and len(uploads) % 3 == 0 else well
        return await fault(request, handler)

    langfuse.fault = exchange
    with world.gateway(**SCALED.env("auto", flush_at)) as gateway:
        books = world.run(gateway, calls, SCALED.retry + 20, at_once=20)
        balance(Row("exchange", always(well)), books)
        assert set(books.received.values()) == {1}
        protocols = {found["protocol"] for found in books.observations.values()}
        if "4.16.0" in (before, after):
            assert after == "3.120.0" or len(protocols) == 2
        else:
            assert protocols == {"ingestion"}
        if after == "4.16.0":
            assert faults.state(gateway)["protocol"] == "otlp"
