"""Faults of a Langfuse server, for many calls at once through the real workerd: at least one of
each kind. tests/unit/export/test_faults.py has all of them, in virtual time and with more calls.

Every call's trace is stored once or reported as lost.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from .faults import (
    Fault,
    FaultyLangfuse,
    Handler,
    Result,
    World,
    accept,
    close,
    down_for,
    first,
    items,
    kind_of,
    refuse_events,
    respond,
    retry_at,
    store_then,
    trace_id,
    where,
)

HTML = "<!DOCTYPE html><html><body>Welcome</body></html>"


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
    """A fault, and what must become of the traces that meet it.

    `fault` makes the fault for one run. `lost` selects the traces that Langfuse never takes;
    `reason` is part of each line that reports them. With `may_repeat` Langfuse may have stored a
    trace whose upload failed, and may get it again. `is_misconfiguration` marks a fault that is
    logged once a minute and otherwise only counted. `padding` lengthens each call's prompt, in
    characters. `check` examines the rest.
    """

    protocol: str
    name: str
    fault: Callable[[FaultyLangfuse], Fault]
    lost: Callable[[str], bool] = none
    reason: str = ""
    may_repeat: bool = False
    is_misconfiguration: bool = False
    calls: int = 20
    padding: int = 0
    is_long: bool = True
    check: Check | None = None


def always(fault: Fault) -> Callable[[FaultyLangfuse], Fault]:
    return lambda langfuse: fault


def waited(seconds: float) -> Check:
    """The same bytes were sent again, and not before this many seconds."""

    def check(langfuse: FaultyLangfuse, result: Result) -> None:
        repeated = [times for times in langfuse.arrivals.values() if len(times) > 1]
        assert repeated
        assert min(times[1] - times[0] for times in repeated) >= seconds

    return check


def tried_once(langfuse: FaultyLangfuse, result: Result) -> None:
    assert {len(times) for times in langfuse.arrivals.values()} == {1}


def redirect_was_not_followed(langfuse: FaultyLangfuse, result: Result) -> None:
    assert "/login" not in langfuse.other_paths
    tried_once(langfuse, result)


def content_was_truncated(langfuse: FaultyLangfuse, result: Result) -> None:
    for found in result.observations.values():
        assert "cut to" in str(found["metadata"]["notes"])


def malformed(id: str, attempt: int) -> Mapping[str, Any] | None:
    if not some(id):
        return None
    # Langfuse's status is 400, but a batch that has nothing else would then be taken for one that
    # the server does not support.
    return {"status": 422, "message": "Invalid request data", "error": "bad"}


def busy(id: str, attempt: int) -> Mapping[str, Any] | None:
    return {"status": 503, "message": "busy"} if some(id) and attempt == 1 else None


def reject_spans(langfuse: FaultyLangfuse) -> Fault:
    """Some spans are rejected, the others of an export are stored."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        export = json.loads(await request.read())
        valid = [span for span in items(await request.read()) if not some(trace_id(span))]
        scope = export["resourceSpans"][0]["scopeSpans"][0]
        rejected = len(scope["spans"]) - len(valid)
        scope["spans"] = valid
        await langfuse.store(request, export)
        partial = {"rejectedSpans": str(rejected), "errorMessage": "too odd"}
        return web.json_response({"partialSuccess": partial} if rejected else {})

    return fault


ROWS = [
    Row("otlp", "no fault", always(accept), is_long=False, check=tried_once),
    Row("ingestion", "connection closed once", always(first(1, close))),
    Row(
        "otlp",
        "stored, then connection closed once",
        always(first(1, store_then(close))),
        may_repeat=True,
        is_long=False,
    ),
    Row("ingestion", "502 twice", always(first(2, respond(502))), is_long=False),
    Row("otlp", "down for 5 s", down_for(5)),
    Row(
        "ingestion",
        "503 for 2 s",
        always(first(1, respond(503, retry_after="2"))),
        check=waited(2),
    ),
    Row("otlp", "429 until a date", always(first(1, retry_at(2))), check=waited(1)),
    Row(
        "ingestion",
        "429 for an hour",
        always(respond(429, retry_after="3600")),
        every,
        "HTTP 429",
        check=tried_once,
    ),
    Row("ingestion", "some events 503 once", refuse_events(busy), is_long=False),
    Row(
        "ingestion",
        "some events 422",
        refuse_events(malformed),
        some,
        "422 Invalid request data",
    ),
    Row(
        "otlp",
        "some spans are rejected",
        reject_spans,
        some,
        "spans rejected: too odd",
        may_repeat=True,
    ),
    Row(
        "otlp",
        "400 for a batch with a malformed one",
        always(
            where(
                lambda request, ids: any(map(some, ids)),
                respond(400, '{"message": "Invalid OTel span"}'),
            )
        ),
        some,
        "Invalid OTel span",
        is_long=False,
    ),
    Row(
        "ingestion",
        "413 for long ones",
        always(where(lambda request, _: (request.content_length or 0) > 8_000, respond(413))),
        # With more of them in a batch, the limit of uploads leaves some to their own requests.
        calls=4,
        padding=12_000,
        is_long=False,
        check=content_was_truncated,
    ),
    Row(
        "otlp",
        "401",
        always(respond(401, '{"message": "Invalid credentials"}')),
        every,
        "are the Langfuse keys right? Invalid credentials",
        is_misconfiguration=True,
        check=tried_once,
    ),
    Row(
        "ingestion",
        "302",
        always(respond(302, location="/login?next=/")),
        every,
        "redirected to /login:",
        is_misconfiguration=True,
        check=redirect_was_not_followed,
    ),
    Row(
        "otlp",
        "HTML",
        always(respond(200, HTML, "text/html")),
        every,
        "the answer is not Langfuse's",
        is_misconfiguration=True,
        check=tried_once,
    ),
]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            id=f"{row.protocol}-{row.name}",
            marks=[pytest.mark.long] if row.is_long else [],
        )
        for row in ROWS
    ],
)
def test_every_trace_is_stored_once_or_reported_as_lost(fault_world: World, row: Row):
    langfuse = fault_world.servers[row.protocol]
    langfuse.reset()
    langfuse.fault = row.fault(langfuse)
    result = fault_world.run(
        row.protocol, row.calls, padding=row.padding, is_logged=not row.is_misconfiguration
    )
    check_balance(row, result)
    if row.check:
        row.check(langfuse, result)
    if any(map(row.lost, result.numbers)):
        assert any(row.reason in line for line in fault_world.gateway.logs)


def check_balance(row: Row, result: Result) -> None:
    ids = set(result.numbers)
    lost = {id for id in ids if row.lost(id)}
    for id, found in result.observations.items():
        number = result.numbers[id]
        assert f"call {number} " in str(found["input"])
        assert kind_of(number) == "embedding" or f"reply {number}" in str(found)
    assert (result.stored, result.dropped) == (len(ids - lost), len(lost))
    if row.may_repeat:
        assert ids - lost <= set(result.observations)
    else:
        assert set(result.observations) == ids - lost
        assert {found["received"] for found in result.observations.values()} <= {1}
    named = [line for line in result.lines if "trace_ids" in line]
    for line in named:
        assert row.reason in line["reason"]
        assert line["tries"] >= 1
    if not row.is_misconfiguration:
        assert result.reported == dict.fromkeys(lost, 1)
        assert sum(line["observations"] for line in named) == len(lost)
