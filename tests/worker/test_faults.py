"""Every answer of Langfuse's, and every silence: nothing is lost without a word, nothing doubled.

After each run the books are balanced: every call to the provider is one generation stored, or one
that a line of the log says was dropped, and why.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web

from local.runtime import Runtime

from . import faults
from .faults import (
    INGESTION,
    OTLP,
    Books,
    Fault,
    Handler,
    Langfuse,
    World,
    answer,
    by_event,
    close,
    down_for,
    first,
    hang,
    retry_at,
    slow,
    stored_but,
    well,
    where,
)

HTML = "<!DOCTYPE html><html><body>Welcome</body></html>"
NOT_LANGFUSE = "the answer is not Langfuse's"


@dataclass(frozen=True)
class Pace:
    """How long an attempt and a whole delivery may take, in seconds, and how many calls there are.

    A fault that lasts `s` seconds by the default settings lasts `s * scale` seconds.
    """

    timeout: float
    retry: float
    calls: int

    @property
    def scale(self) -> float:
        return self.retry / 25

    def env(self, protocol: str, flush_at: int = 1) -> dict[str, str]:
        return {
            "LANGFUSE_TIMEOUT": str(self.timeout),
            "LANGFUSE_RETRY_SECONDS": str(self.retry),
            "LANGFUSE_FLUSH_AT": str(flush_at),
            "LANGFUSE_FLUSH_INTERVAL": str(int(1000 * self.scale)),
            "LANGFUSE_PROTOCOL": protocol,
        }


QUICK, SCALED, REAL = Pace(1.5, 4, 20), Pace(2, 10, 200), Pace(5, 25, 200)


def none(trace_id: str) -> bool:
    return False


def every(trace_id: str) -> bool:
    return True


def some(trace_id: str) -> bool:
    """A few traces, and always the same ones."""
    return int(trace_id[-2:], 16) % 5 == 0


@dataclass(frozen=True)
class Row:
    """A fault and what is to become of the traces that meet it.

    `fault` is made for each run. `lost` are the traces that Langfuse never takes, and `reason`
    stands in the line that reports them. With `answer_lost` a trace may be stored all the same, and
    more than once. With `repeated` lines are left out where the same has just been said, and only
    the isolate's count tells. `padding` makes the calls longer. `patience` makes a scaled run's
    delivery longer, where the pace of an isolate's retries is not scaled with it. `check` looks at
    the rest.
    """

    name: str
    fault: Callable[[Langfuse, Pace], Fault]
    lost: Callable[[str], bool] = none
    reason: str = ""
    answer_lost: bool = False
    repeated: bool = False
    protocols: tuple[str, ...] = ("ingestion", "otlp")
    flush_at: tuple[int, ...] = (1, 10)
    padding: int = 0
    patience: float = 1
    quick: bool = False
    check: Callable[[Langfuse, Books], None] | None = None


def always(fault: Fault) -> Callable[[Langfuse, Pace], Fault]:
    return lambda langfuse, pace: fault


def waited(seconds: float) -> Callable[[Langfuse, Books], None]:
    """The same bytes came again, and not before so many seconds."""

    def check(langfuse: Langfuse, books: Books) -> None:
        tries = [times for times in langfuse.tries.values() if len(times) > 1]
        assert tries
        assert min(times[1] - times[0] for times in tries) >= seconds

    return check


def tried_once(langfuse: Langfuse, books: Books) -> None:
    assert {len(times) for times in langfuse.tries.values()} == {1}
    assert {line.get("tries", 1) for line in books.lines} <= {1}


def went_nowhere_else(langfuse: Langfuse, books: Books) -> None:
    assert langfuse.paths["elsewhere"] == 0
    tried_once(langfuse, books)


def content_was_cut(langfuse: Langfuse, books: Books) -> None:
    for found in books.observations.values():
        assert "cut to" in str(found["metadata"]["notes"])


def busy(status: int, trace_id: str, tries: int) -> dict[str, Any] | None:
    """Some traces' events are to come again."""
    return {"status": status, "message": "busy"} if some(trace_id) and tries == 1 else None


def mixed(trace_id: str, tries: int) -> dict[str, Any] | None:
    """Some events are refused, of the others half have to come again."""
    if some(trace_id):
        return {"status": 400, "message": "Invalid request data", "error": "bad"}
    return busy(503, trace_id[:-2] + trace_id[-3:-1], tries)


def unknown(status: int) -> Callable[[Langfuse, Pace], Fault]:
    """Some events are refused, the first time, under an id that nobody knows."""

    def of(langfuse: Langfuse, pace: Pace) -> Fault:
        refuse = by_event(lambda trace_id, tries: busy(status, trace_id, tries))(langfuse)

        async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
            answered = await refuse(request, handler)
            assert isinstance(answered, web.Response)
            assert answered.text
            said = json.loads(answered.text)
            errors = [{**error, "id": "unknown"} for error in said["errors"]]
            return web.json_response({**said, "errors": errors}, status=207)

        return play

    return of


def rejecting(langfuse: Langfuse, pace: Pace) -> Fault:
    """Some spans are rejected, the others of an export are stored."""

    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        export = json.loads(await request.read())
        (scope,) = export["resourceSpans"][0]["scopeSpans"]
        good = [span for span in scope["spans"] if not some(span["traceId"])]
        bad = len(scope["spans"]) - len(good)
        scope["spans"] = good
        await langfuse.store(request, export)
        rejected = {"rejectedSpans": str(bad), "errorMessage": "too odd"}
        return web.json_response({"partialSuccess": rejected} if bad else {})

    return play


async def _nothing_said(request: web.Request, handler: Handler) -> web.StreamResponse:
    return web.json_response({"successes": [], "errors": []}, status=207)


async def _strange_ids(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Everything is stored; the answer says so twice, and of others too."""
    await handler(request)
    events = json.loads(await request.read())["batch"]
    said = [{"id": event["id"], "status": 201} for event in events]
    errors = [{"id": "of-somebody-else", "status": 503, "message": "busy"}]
    known = {"successes": [*said, *said, {"id": "nobody's", "status": 201}], "errors": errors}
    return web.json_response(known, status=207)


ROWS = [
    Row("well", always(well), quick=True, check=tried_once),
    # Another time.
    *(
        Row(f"{status} once", always(first(1, answer(status, "oops"))))
        for status in (408, 429, 500, 502, 504)
    ),
    Row("503 twice", always(first(2, answer(503, "oops"))), patience=2),
    Row("503 for ever", always(answer(503)), every, "HTTP 503"),
    Row("closes once", always(first(1, close))),
    Row("closes for ever", always(close), every, "could not be reached"),
    Row(
        "closes when stored, once",
        always(first(1, stored_but(close))),
        answer_lost=True,
        quick=True,
    ),
    Row(
        "closes when stored",
        always(stored_but(close)),
        every,
        "could not be reached",
        answer_lost=True,
    ),
    Row("500 when stored, once", always(first(1, stored_but(answer(500)))), answer_lost=True),
    Row("hangs once", always(first(1, hang))),
    Row("hangs for ever", always(hang), every, "could not be reached"),
    Row("hangs when stored, once", always(first(1, stored_but(hang))), answer_lost=True),
    Row(
        "hangs when stored",
        always(stored_but(hang)),
        every,
        "could not be reached",
        answer_lost=True,
    ),
    Row("slow by 1 s", lambda langfuse, pace: slow(pace.scale)),
    Row(
        "slow by 10 s", lambda langfuse, pace: slow(10 * pace.scale), every, "could not be reached"
    ),
    Row(
        "slow by 10 s, and stored",
        lambda langfuse, pace: stored_but(slow(10 * pace.scale)),
        every,
        "could not be reached",
        answer_lost=True,
    ),
    Row(
        "slow by 40 s", lambda langfuse, pace: slow(40 * pace.scale), every, "could not be reached"
    ),
    Row("slow by 10 s once", lambda langfuse, pace: first(1, slow(10 * pace.scale))),
    Row("down for 5 s", lambda langfuse, pace: down_for(5 * pace.scale)),
    Row(
        "down for 5 s, with 502",
        lambda langfuse, pace: down_for(5 * pace.scale, answer(502)),
        quick=True,
    ),
    # When it says.
    Row("retry after 2 s", always(first(1, answer(429, retry_after="2"))), check=waited(2)),
    Row("retry after a date", always(first(1, retry_at(2))), check=waited(1), quick=True),
    Row("503 and retry after 2 s", always(first(1, answer(503, retry_after="2"))), check=waited(2)),
    Row(
        "retry after an hour",
        always(answer(429, retry_after="3600")),
        every,
        "HTTP 429",
        check=tried_once,
        quick=True,
    ),
    # Event by event.
    Row(
        "some events 503",
        lambda langfuse, pace: by_event(lambda *e: busy(503, *e))(langfuse),
        protocols=("ingestion",),
    ),
    Row(
        "some events 429",
        lambda langfuse, pace: by_event(lambda *e: busy(429, *e))(langfuse),
        protocols=("ingestion",),
    ),
    Row(
        "some events 400",
        lambda langfuse, pace: by_event(mixed)(langfuse),
        some,
        "400 Invalid request data",
        protocols=("ingestion",),
        flush_at=(10,),
        quick=True,
    ),
    Row(
        "no event is mentioned",
        always(_nothing_said),
        every,
        "not in the answer",
        protocols=("ingestion",),
    ),
    Row(
        "others' events are mentioned",
        always(_strange_ids),
        protocols=("ingestion",),
        check=tried_once,
    ),
    Row("unknown events 503", unknown(503), protocols=("ingestion",), flush_at=(10,)),
    Row(
        "spans are rejected",
        rejecting,
        some,
        "spans rejected: too odd",
        answer_lost=True,
        protocols=("otlp",),
    ),
    # Bad and large ones.
    Row(
        "a bad one spoils the batch",
        always(
            where(
                lambda request, ids: any(map(some, ids)),
                answer(400, '{"message": "Invalid OTel span"}'),
            )
        ),
        some,
        "Invalid OTel span",
        quick=True,
    ),
    Row("400 for ever", always(answer(400)), every, "HTTP 400"),
    Row(
        "one a request",
        always(where(lambda request, ids: len(ids) > 1, answer(413))),
        flush_at=(10,),
    ),
    Row(
        "a long one is cut",
        always(where(lambda request, ids: (request.content_length or 0) > 8_000, answer(413))),
        padding=12_000,
        check=content_was_cut,
        quick=True,
    ),
    Row("413 for ever", always(answer(413)), every, "HTTP 413"),
    # Not again.
    *(
        Row(
            f"{status}",
            always(answer(status, '{"message": "Invalid credentials"}')),
            every,
            "are the Langfuse keys right? Invalid credentials",
            repeated=True,
            check=tried_once,
            quick=status == 401,
        )
        for status in (401, 403)
    ),
    *(
        Row(
            f"{status}",
            always(answer(status, location="/login?next=/")),
            every,
            "redirected to /login:",
            repeated=True,
            check=went_nowhere_else,
            quick=status == 302,
        )
        for status in (301, 302, 303, 307, 308)
    ),
    *(
        Row(
            f"{status}",
            always(answer(status)),
            every,
            "not taken as",
            repeated=True,
            check=tried_once,
        )
        for status in (404, 405)
    ),
    Row(
        "HTML",
        always(answer(200, HTML, "text/html")),
        every,
        NOT_LANGFUSE,
        repeated=True,
        check=tried_once,
        quick=True,
    ),
    Row(
        "garbage",
        always(answer(207, "{nonsense")),
        every,
        NOT_LANGFUSE,
        repeated=True,
        check=tried_once,
    ),
    Row("5 MB", always(answer(200, "x" * 5_000_000)), every, "could not be reached"),
    Row("5 MB once", always(first(1, stored_but(answer(200, "x" * 5_000_000)))), answer_lost=True),
]


def balance(row: Row, books: Books) -> None:
    """Every call is one generation stored, or one that was reported as lost, and not both."""
    ids, reported = set(books.ids), books.reported
    lost = {id for id in ids if row.lost(id)}
    # What the row before had under way when its answers were lost may arrive in this one.
    ours = {id: found for id, found in books.observations.items() if id in ids}
    stored = set(ours)
    for id, found in ours.items():
        number = books.ids[id]
        assert f"call {number}" in str(found["input"])
        assert faults.kind_of(number) == "embedding" or f"reply {number}" in str(found)
    assert (books.stored, books.dropped) == (len(ids - lost), len(lost))
    if row.answer_lost:
        assert ids - lost <= stored
    else:
        assert stored == ids - lost
        assert {found["received"] for found in ours.values()} <= {1}
    if not row.repeated:
        assert reported == dict.fromkeys(lost, 1)
        named = [line["observations"] for line in books.lines if "trace_ids" in line]
        assert sum(named) == len(lost)
    for line in books.lines:
        # One without ids makes up for lines that were left out, of the row before.
        if "trace_ids" in line:
            assert row.reason in line["reason"]
            assert line["tries"] >= 1


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with faults.world() as made:
        yield made


def play(world: World, gateway: Runtime, row: Row, pace: Pace) -> None:
    world.langfuse.begin()
    world.langfuse.fault = row.fault(world.langfuse, pace)
    books = world.run(gateway, pace.calls, pace.retry + 20, padding=row.padding)
    balance(row, books)
    if row.check:
        row.check(world.langfuse, books)
    if row.reason:
        assert any(row.reason in line for line in gateway.logs)


def cases(quick: bool) -> list[Any]:
    """Grouped by gateway."""
    return [
        pytest.param(protocol, flush_at, row, id=f"{protocol}-{flush_at}-{row.name}")
        for protocol in ("ingestion", "otlp")
        for flush_at in (1, 10)
        for row in ROWS
        if protocol in row.protocols and flush_at in row.flush_at and (row.quick or not quick)
        # In the quick run each row is played once.
        if not quick or (flush_at == 10 and protocol == row.protocols[-1])
    ]


@pytest.mark.parametrize(("protocol", "flush_at", "row"), cases(quick=True))
def test_a_few_calls(world: World, protocol, flush_at, row: Row):
    play(world, world.kept(**QUICK.env(protocol, flush_at)), row, QUICK)


@pytest.mark.long
@pytest.mark.parametrize(("protocol", "flush_at", "row"), cases(quick=False))
def test_many_calls_at_once(world: World, protocol, flush_at, row: Row):
    pace = replace(SCALED, retry=SCALED.retry * row.patience)
    play(world, world.kept(**pace.env(protocol, flush_at)), row, pace)


# The choice of the protocol.


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


# In real time, with the settings that the Worker has by default.


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
@pytest.mark.parametrize(
    "name",
    [
        "down for 5 s",
        "down for 5 s, with 502",
        "hangs for ever",
        "hangs once",
        "slow by 1 s",
        "slow by 10 s",
        "slow by 10 s once",
        "slow by 40 s",
        "503 twice",
        "503 for ever",
        "retry after 2 s",
        "retry after a date",
    ],
)
def test_in_real_time(world: World, protocol, name):
    (row,) = (row for row in ROWS if row.name == name)
    gateway = world.kept(LANGFUSE_PROTOCOL=protocol)
    play(world, gateway, row, REAL)
