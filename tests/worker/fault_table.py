"""Every answer of Langfuse's, and every silence: nothing is lost without a word, nothing doubled.

After each run the books are balanced: every call to the provider is one generation stored, or one
that a line of the log says was dropped, and why.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from local.runtime import Runtime

from . import faults
from .faults import (
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


def play(world: World, gateway: Runtime, row: Row, pace: Pace) -> None:
    world.langfuse.begin()
    world.langfuse.fault = row.fault(world.langfuse, pace)
    books = world.run(gateway, pace.calls, pace.retry + 20, padding=row.padding)
    balance(row, books)
    if row.check:
        row.check(world.langfuse, books)
    if row.reason and any(map(row.lost, books.ids)):
        assert any(row.reason in line for line in gateway.logs)
