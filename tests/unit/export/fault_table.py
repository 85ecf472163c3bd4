"""Every fault of a Langfuse server that a delivery has to survive, and what must come of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.types import HttpResponse
from settings.load import Settings
from tests.unit.export.deliveries import Queue, Result
from tests.unit.export.faulty_langfuse import (
    INGESTION_PATH,
    Fault,
    FaultyLangfuse,
    Upload,
    accept,
    close,
    delay,
    down_for,
    first,
    hang,
    json_response,
    refuse_events,
    respond,
    retry_at,
    store_then,
    too_much,
    trace_id,
    where,
)
from tests.unit.langfuse import SETTINGS

HTML = "<!DOCTYPE html><html><body>Welcome</body></html>"
NOT_LANGFUSE = "the answer is not Langfuse's"
UNREACHABLE = "could not be reached"


def none(id: str) -> bool:
    return False


def every(id: str) -> bool:
    return True


def some(id: str) -> bool:
    """A fifth of the traces, always the same ones."""
    return int(id[-2:], 16) % 5 == 0


Check = Callable[[FaultyLangfuse, Result], None]


@dataclass(frozen=True)
class Row:
    """A fault, and what must become of the observations that meet it.

    `fault` makes the fault for one run. `lost` selects the traces that Langfuse never takes;
    `reason` is part of each line that reports them. With `is_refused` it refuses them for good, so
    that the queue need not keep them. With `may_repeat` Langfuse may have stored an observation
    whose upload failed, and may get it again. `is_misconfiguration` marks a fault that is logged
    once a minute and otherwise only counted, and that is not tried again. `padding` lengthens each
    observation, in characters. `check` examines the rest.
    """

    name: str
    fault: Callable[[], Fault]
    lost: Callable[[str], bool] = none
    reason: str = ""
    is_refused: bool = False
    may_repeat: bool = False
    is_misconfiguration: bool = False
    protocols: tuple[str, ...] = ("ingestion", "otlp")
    flush_at: tuple[int, ...] = (1, 10)
    padding: int = 0
    check: Check | None = None


def settings_for(protocol: str, flush_at: int, **changes: Any) -> Settings:
    """The default settings, but for these."""
    return replace(SETTINGS, protocol=protocol, flush_at=flush_at, **changes)


def always(fault: Fault) -> Callable[[], Fault]:
    return lambda: fault


# Checks.


def waited(seconds: float) -> Check:
    """The same bytes were sent again, and not before this many seconds."""

    def check(langfuse: FaultyLangfuse, result: Result) -> None:
        repeated = [times for times in langfuse.arrivals.values() if len(times) > 1]
        assert repeated
        assert min(times[1] - times[0] for times in repeated) >= seconds

    return check


def tried_once(langfuse: FaultyLangfuse, result: Result) -> None:
    assert {len(times) for times in langfuse.arrivals.values()} == {1}


def tried_again(langfuse: FaultyLangfuse, result: Result) -> None:
    assert {len(times) for times in langfuse.arrivals.values()} == {2}


def content_was_truncated(langfuse: FaultyLangfuse, result: Result) -> None:
    for found in result.observations.values():
        assert "cut to" in str(found["metadata"]["notes"])


# Faults that only one row has.


EVENT_KINDS = ("trace", "observation")


def busy(
    status: int, event: Mapping[str, Any], attempt: int, kinds: Sequence[str] = EVENT_KINDS
) -> Mapping[str, Any] | None:
    """The error of some traces' events of these kinds, the first time."""
    kind = "trace" if event["type"] == "trace-create" else "observation"
    is_busy = kind in kinds and some(trace_id(event)) and attempt == 1
    return {"status": status, "message": "busy"} if is_busy else None


def mixed(event: Mapping[str, Any], attempt: int) -> Mapping[str, Any] | None:
    """Some events are malformed; some of the others have to be sent again."""
    if some(trace_id(event)):
        return {"status": 400, "message": "Invalid request data", "error": "bad"}
    is_busy = int(trace_id(event), 16) % 5 == 1 and attempt == 1
    return {"status": 503, "message": "busy"} if is_busy else None


def reject_spans() -> Fault:
    """Some spans are rejected, the others of an export are stored."""

    async def fault(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        export = json.loads(upload.body)
        (scope,) = export["resourceSpans"][0]["scopeSpans"]
        valid = [span for span in scope["spans"] if not some(trace_id(span))]
        rejected = len(scope["spans"]) - len(valid)
        scope["spans"] = valid
        response = langfuse.store_spans(export)
        partial = {"rejectedSpans": str(rejected), "errorMessage": "too odd"}
        is_partial = rejected and response.status == 200
        return json_response(200, {"partialSuccess": partial}) if is_partial else response

    return fault


async def _name_other_events(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
    """The response names each stored event twice, and events that were not sent."""
    content = json.loads(langfuse.accept(upload).text)
    content["successes"] = [*content["successes"] * 2, {"id": "not-sent-1", "status": 201}]
    content["errors"] += [{"id": "not-sent-2", "status": 503, "message": "busy"}]
    return json_response(207, content)


NO_EVENTS = json.dumps({"successes": [], "errors": []})

ROWS = [
    Row("no fault", always(accept), check=tried_once),
    # Faults that pass, and outages.
    *(
        Row(f"{status} once", always(first(1, respond(status, "oops"))), check=tried_again)
        for status in (408, 425, 429, 500, 502, 504)
    ),
    Row("503 twice", always(first(2, respond(503, "oops")))),
    Row("503 always", always(respond(503)), every, "HTTP 503"),
    Row("connection closed once", always(first(1, close)), check=tried_again),
    Row("connection closed always", always(close), every, UNREACHABLE),
    Row(
        "stored, then connection closed once", always(first(1, store_then(close))), may_repeat=True
    ),
    Row(
        "stored, then connection closed always",
        always(store_then(close)),
        every,
        UNREACHABLE,
        may_repeat=True,
    ),
    Row("stored, then 500 once", always(first(1, store_then(respond(500)))), may_repeat=True),
    Row("no response once", always(first(1, hang)), check=waited(5)),
    Row("no response ever", always(hang), every, UNREACHABLE),
    Row("stored, then no response once", always(first(1, store_then(hang))), may_repeat=True),
    Row(
        "stored, then no response ever",
        always(store_then(hang)),
        every,
        UNREACHABLE,
        may_repeat=True,
    ),
    Row("1 s late", always(delay(1)), check=tried_once),
    Row("10 s late", always(delay(10)), every, UNREACHABLE),
    Row(
        "stored, then 10 s late", always(store_then(delay(10))), every, UNREACHABLE, may_repeat=True
    ),
    Row("40 s late", always(delay(40)), every, UNREACHABLE),
    Row("10 s late once", always(first(1, delay(10))), check=waited(5)),
    Row("down for 5 s", lambda: down_for(5)),
    Row("down for 5 s, with 502", lambda: down_for(5, respond(502))),
    Row("down for 15 s", lambda: down_for(15)),
    # Retry-After.
    Row("429 for 2 s", always(first(1, respond(429, retry_after="2"))), check=waited(2)),
    Row("429 until a date", always(first(1, retry_at(2))), check=waited(1)),
    Row("503 for 2 s", always(first(1, respond(503, retry_after="2"))), check=waited(2)),
    Row(
        "429 for an hour",
        always(respond(429, retry_after="3600")),
        every,
        "HTTP 429",
        check=tried_once,
    ),
    # Responses about single events or spans.
    *(
        Row(
            f"some events {status}",
            refuse_events(lambda *event, status=status: busy(status, *event)),
            protocols=("ingestion",),
        )
        for status in (429, 503)
    ),
    *(
        Row(
            f"some {kind} events 503",
            refuse_events(lambda event, attempt, kind=kind: busy(503, event, attempt, [kind])),
            protocols=("ingestion",),
        )
        for kind in EVENT_KINDS
    ),
    Row(
        "some events 400",
        refuse_events(mixed),
        some,
        "400 Invalid request data",
        is_refused=True,
        protocols=("ingestion",),
        # A response that refuses every event is taken for one of a server without this protocol.
        flush_at=(10,),
    ),
    Row(
        "no event is named",
        always(respond(207, NO_EVENTS)),
        every,
        "not in the answer",
        protocols=("ingestion",),
    ),
    Row(
        "events are named that were not sent",
        always(_name_other_events),
        protocols=("ingestion",),
        check=tried_once,
    ),
    Row(
        "an unknown event 503",
        refuse_events(lambda *event: busy(503, *event), id="unknown"),
        protocols=("ingestion",),
    ),
    Row(
        "some spans are rejected",
        reject_spans,
        some,
        "spans rejected: too odd",
        is_refused=True,
        may_repeat=True,
        protocols=("otlp",),
    ),
    # Malformed and large ones.
    Row(
        "400 for a batch with a malformed one",
        always(
            where(
                lambda upload: any(map(some, upload.trace_ids)),
                respond(400, '{"message": "Invalid OTel span"}'),
            )
        ),
        some,
        "Invalid OTel span",
        is_refused=True,
    ),
    Row("400 always", always(respond(400)), every, "HTTP 400", is_refused=True),
    Row("422 always", always(respond(422)), every, "HTTP 422", is_refused=True),
    Row(
        "413 for more than one",
        always(where(lambda upload: len(upload.trace_ids) > 1, respond(413))),
        flush_at=(10,),
    ),
    Row(
        "413 for long ones",
        always(where(lambda upload: len(upload.body) > 8_000, respond(413))),
        padding=12_000,
        check=content_was_truncated,
    ),
    Row("413 always", always(respond(413)), every, "HTTP 413", is_refused=True),
    # Misconfigurations.
    *(
        Row(
            f"{status}",
            always(respond(status, '{"message": "Invalid credentials"}')),
            every,
            "are the Langfuse keys right? Invalid credentials",
            is_misconfiguration=True,
        )
        for status in (401, 403)
    ),
    *(
        Row(
            f"{status}",
            always(respond(status, location="/login?next=/")),
            every,
            "redirected to /login:",
            is_misconfiguration=True,
        )
        for status in (301, 302, 303, 307, 308)
    ),
    *(
        Row(f"{status}", always(respond(status)), every, "not taken as", is_misconfiguration=True)
        for status in (404, 405)
    ),
    Row("HTML", always(respond(200, HTML)), every, NOT_LANGFUSE, is_misconfiguration=True),
    Row(
        "invalid JSON",
        always(respond(207, "{nonsense")),
        every,
        NOT_LANGFUSE,
        is_misconfiguration=True,
    ),
    Row("too long a response", always(too_much), every, UNREACHABLE),
    Row(
        "stored, then too long a response once",
        always(first(1, store_then(too_much))),
        may_repeat=True,
    ),
]


ROWS_BY_NAME = {row.name: row for row in ROWS}


def faults_in_turn(names: Sequence[str]) -> Fault:
    """The fault of the first row of these for the first upload, and so on; after the last row none.
    A row for the other protocol has no effect."""
    remaining = [(ROWS_BY_NAME[name].protocols, ROWS_BY_NAME[name].fault()) for name in names]

    async def fault(upload: Upload, langfuse: FaultyLangfuse) -> HttpResponse:
        protocols, found = remaining.pop(0) if remaining else ((), accept)
        protocol = "ingestion" if upload.path == INGESTION_PATH else "otlp"
        return await (found if protocol in protocols else accept)(upload, langfuse)

    return fault


def check_balance(row: Row, langfuse: FaultyLangfuse, result: Result) -> None:
    """Assert that every observation is stored once or reported as lost once, and never both."""
    ids = set(result.numbers)
    lost = {id for id in ids if row.lost(id)}
    check_stored(row, result, ids - lost)
    assert result.counts == {"stored": len(ids - lost), "queued": 0, "dropped": len(lost)}
    assert {line["event"] for line in result.lines} <= {"trace_not_delivered"}
    check_log(row, result, lost)
    if row.is_misconfiguration:
        tried_once(langfuse, result)
    if row.check:
        row.check(langfuse, result)


def check_random_faults(langfuse: FaultyLangfuse, result: Result) -> None:
    """Assert that every observation is stored or reported as lost, and that only those are both, or
    stored twice, of which the exporter could not know that they were stored."""
    ids, reported = set(result.numbers), set(result.reported)
    logged = sum(line["observations"] for line in result.lines)
    named = sum(line["observations"] for line in result.lines if "trace_ids" in line)
    assert result.counts["stored"] + result.counts["dropped"] == len(ids)
    assert logged + result.suppressed == result.counts["dropped"]
    assert set(result.reported.values()) <= {1}
    assert len(reported) == named
    assert reported & langfuse.stored <= langfuse.uncertain
    assert len(ids - langfuse.stored - reported) <= logged - named + result.suppressed
    for id, found in result.observations.items():
        assert found["received"] == 1 or id in langfuse.uncertain


def check_queue(row: Row, queue: Queue, result: Result) -> None:
    """Assert the same where there is a queue: every observation is stored once, queued once, or
    reported as refused."""
    ids = set(result.numbers)
    lost = {id for id in ids if row.lost(id)}
    refused = lost if row.is_refused else set[str]()
    queued = set(queue.trace_ids)
    assert len(queued) == len(queue.messages)
    assert lost - refused <= queued
    check_stored(row, result, ids - refused - queued)
    assert result.counts == {
        "stored": len(ids - refused - queued),
        "queued": len(queued),
        "dropped": len(refused),
    }
    check_log(row, result, refused | queued)


def check_stored(row: Row, result: Result, ids: set[str]) -> None:
    """Assert that Langfuse has these traces, each from one upload, unless responses were lost."""
    for id, found in result.observations.items():
        assert f"call {result.numbers[id]} " in str(found["input"])
    if row.may_repeat:
        assert ids <= set(result.observations)
    else:
        assert set(result.observations) == ids
        assert set(result.stored_items.values()) <= {1}


def check_log(row: Row, result: Result, ids: set[str]) -> None:
    """Assert that the log names each of these traces once. A misconfiguration is logged at most
    once in the time of a run, and counted for the next line."""
    for line in result.lines:
        assert row.reason in line["reason"]
        assert line["tries"] >= 1
    assert sum(line["observations"] for line in result.lines) + result.suppressed == len(ids)
    if row.is_misconfiguration:
        assert len(result.lines) == 1
        assert set(result.reported) <= ids
    else:
        assert result.reported == dict.fromkeys(ids, 1)
        assert result.suppressed == 0
