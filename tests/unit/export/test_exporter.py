"""Tests of the exporter: protocol choice, retries, halving and truncation, on a virtual clock."""

import asyncio
import gc
import json
import weakref
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from core.limits import MAX_UPLOAD_RETRIES_PER_SECOND
from core.types import HttpResponse, NetworkError
from export.exporter import Exporter, backoff_seconds
from export.pending import Lease, PendingObservation
from export.upload_results import Outcome
from tests.unit import virtual_time
from tests.unit.langfuse import (
    DESTINATION,
    INGESTION_PATH,
    OTLP_PATH,
    SETTINGS,
    FakeLangfuse,
    observation,
)

OK = HttpResponse(200, {}, "{}")


def export(
    langfuse: FakeLangfuse, count: int = 1, seconds: float = 25.0, **changes: Any
) -> tuple[list[PendingObservation], Exporter]:
    """Export `count` observations until `seconds` from now. `changes` are settings."""
    exporter = Exporter(DESTINATION, replace(SETTINGS, **changes))
    batch = [PendingObservation(observation(number + 1)) for number in range(count)]

    async def run() -> None:
        await exporter.export(batch, virtual_time.now() + seconds, langfuse)

    virtual_time.run(run())
    return batch, exporter


def outcomes(batch: Sequence[PendingObservation]) -> set[Outcome]:
    return {pending.outcome for pending in batch}


def respond_with(*status: int, **headers: str) -> Any:
    """A responder that returns these statuses one after the other, and then accepts everything."""
    remaining = list(status)

    async def respond(request):
        return HttpResponse(remaining.pop(0), headers, "oops") if remaining else None

    return respond


def always_respond_with(status: int, text: str = "oops", **headers: str) -> Any:
    async def respond(request):
        return HttpResponse(status, headers, text)

    return respond


@pytest.mark.parametrize(
    ("version", "path"),
    [("2.95.0", INGESTION_PATH), ("3.120.0", INGESTION_PATH), ("4.16.0", OTLP_PATH)],
)
def test_the_server_version_selects_the_protocol(version, path):
    langfuse = FakeLangfuse(version)
    batch, exporter = export(langfuse, 3)
    assert outcomes(batch) == {Outcome.STORED}
    assert [request.path for request in langfuse.requests] == [path]
    assert langfuse.health_check_count == 1
    assert exporter.last_result == "stored"


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
def test_a_configured_protocol_needs_no_health_check(protocol):
    langfuse = FakeLangfuse()
    batch, _ = export(langfuse, protocol=protocol)
    assert outcomes(batch) == {Outcome.STORED}
    assert langfuse.health_check_count == 0
    assert langfuse.requests[0].path == {"ingestion": INGESTION_PATH, "otlp": OTLP_PATH}[protocol]


def test_an_exporter_checks_health_once():
    langfuse = FakeLangfuse("4.16.0")

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS)
        for number in range(3):
            batch = [PendingObservation(observation(number))]
            await exporter.export(batch, virtual_time.now() + 25, langfuse)

    virtual_time.run(run())
    assert langfuse.health_check_count == 1
    assert len(langfuse.requests) == 3


def test_a_server_that_refuses_all_events_gets_otlp():
    langfuse = FakeLangfuse("4.16.0")

    async def run() -> list[PendingObservation]:
        exporter = Exporter(DESTINATION, SETTINGS, protocol="ingestion")
        for first in (1, 3):
            batch = [
                PendingObservation(observation(first)),
                PendingObservation(observation(first + 1)),
            ]
            await exporter.export(batch, virtual_time.now() + 25, langfuse)
            assert outcomes(batch) == {Outcome.STORED}
        return batch

    virtual_time.run(run())
    assert [request.path for request in langfuse.requests] == [INGESTION_PATH, OTLP_PATH, OTLP_PATH]
    assert set(langfuse.stored.values()) == {1}
    assert langfuse.times == [0, 0, 0]


def test_a_server_without_otlp_gets_ingestion():
    langfuse = FakeLangfuse("2.95.0")

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS, protocol="otlp")
        batch = [PendingObservation(observation(1))]
        await exporter.export(batch, virtual_time.now() + 25, langfuse)
        assert outcomes(batch) == {Outcome.STORED}
        assert exporter.protocol == "ingestion"

    virtual_time.run(run())
    assert [request.path for request in langfuse.requests] == [OTLP_PATH, INGESTION_PATH]


def test_a_server_that_supports_no_protocol_is_misconfigured():
    langfuse = FakeLangfuse(respond=always_respond_with(404))
    batch, exporter = export(langfuse, 2)
    assert [request.path for request in langfuse.requests] == [INGESTION_PATH, OTLP_PATH]
    assert outcomes(batch) == {Outcome.MISCONFIGURED}
    assert "ingestion and otlp: HTTP 404" in batch[0].reason
    assert exporter.protocol is None


@pytest.mark.parametrize(("protocol", "version"), [("ingestion", "4.16.0"), ("otlp", "2.95.0")])
def test_a_configured_protocol_is_not_changed(protocol, version):
    langfuse = FakeLangfuse(version)
    batch, _ = export(langfuse, protocol=protocol)
    assert len(langfuse.requests) == 1
    assert outcomes(batch) == {Outcome.MISCONFIGURED}
    assert protocol in batch[0].reason


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_retry_sends_the_same_bytes(protocol, status):
    langfuse = FakeLangfuse(respond=respond_with(status, status, status))
    batch, _ = export(langfuse, 2, protocol=protocol)
    assert outcomes(batch) == {Outcome.STORED}
    assert {request.body for request in langfuse.requests} == {langfuse.requests[0].body}
    assert langfuse.times == [0, 0.5, 1.5, 3.5]
    assert batch[0].upload_count == 4


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
def test_a_retry_after_a_lost_response_sends_the_same_bytes(protocol):
    langfuse = FakeLangfuse()
    responses_to_lose = [True]

    async def respond(request):
        content = json.loads(request.body)
        if responses_to_lose.pop() if responses_to_lose else False:
            langfuse.accept(request, content.get("batch") or [])
            raise NetworkError("connection lost")

    langfuse.respond = respond
    batch, _ = export(langfuse, protocol=protocol)
    assert outcomes(batch) == {Outcome.STORED}
    first, second = langfuse.requests
    assert first.body == second.body


def test_retries_go_on_until_the_deadline():
    langfuse = FakeLangfuse(respond=always_respond_with(503))
    batch, exporter = export(langfuse)
    assert outcomes(batch) == {Outcome.RETRYABLE}
    assert not batch[0].is_settled
    # The last attempt starts early enough for its whole timeout and is not repeated.
    assert langfuse.times == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 20]
    assert exporter.last_result == batch[0].reason == "HTTP 503"


def test_a_server_that_hangs_does_not_delay_the_end_of_an_export():
    langfuse = FakeLangfuse()

    async def respond(request):
        await langfuse.sleep(60)

    langfuse.respond = respond
    durations = []

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS, protocol="ingestion")
        batch = [PendingObservation(observation(1))]
        started_at = virtual_time.now()
        await exporter.export(batch, started_at + 25, langfuse)
        durations.append(virtual_time.now() - started_at)
        assert "timed out" in batch[0].reason

    virtual_time.run(run())
    assert langfuse.times == [0, 5.5, 11.5, 18.5]
    assert durations == [23.5]


def test_the_backoff_doubles_up_to_a_maximum_and_has_full_jitter():
    assert [backoff_seconds(retry, 1.0) for retry in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert backoff_seconds(3, 0.25) == 1.0
    assert backoff_seconds(100, 0.0) == 0.0


def test_the_retry_rate_of_concurrent_exports_is_limited():
    langfuse = FakeLangfuse(respond=always_respond_with(503))
    langfuse.random = Random(1).random  # type: ignore[method-assign]
    exporter = Exporter(DESTINATION, replace(SETTINGS, protocol="ingestion"))

    async def run() -> None:
        batches = [[PendingObservation(observation(number))] for number in range(400)]
        deadline = virtual_time.now() + 25
        await asyncio.gather(*(exporter.export(batch, deadline, langfuse) for batch in batches))

    virtual_time.run(run())
    # All requests but the first and the last attempt of each export.
    retry_times = [time for time in langfuse.times if 0 < time < 20]
    assert (
        10 * MAX_UPLOAD_RETRIES_PER_SECOND < len(retry_times) < 25 * MAX_UPLOAD_RETRIES_PER_SECOND
    )
    assert exporter.active_exports == 0


def test_the_uploads_of_one_export_are_limited():
    """Without pauses there would be thousands of uploads; the platform allows 50 subrequests."""
    langfuse = FakeLangfuse(respond=always_respond_with(503), jitter=0.0)
    batch, _ = export(langfuse)
    assert len(langfuse.requests) == 30
    assert outcomes(batch) == {Outcome.RETRYABLE}


@pytest.mark.parametrize(
    ("retry_after", "times"), [("7", [0, 7]), ("0", [0, 0.5]), ("soon", [0, 0.5])]
)
def test_a_retry_waits_for_retry_after(retry_after, times):
    langfuse = FakeLangfuse(respond=respond_with(429, **{"retry-after": retry_after}))
    batch, _ = export(langfuse)
    assert outcomes(batch) == {Outcome.STORED}
    assert langfuse.times == times


def test_a_retry_after_of_zero_does_not_use_up_the_uploads():
    langfuse = FakeLangfuse()

    async def respond(request):
        is_busy = langfuse.now() < langfuse.requests[0].time + 10
        return HttpResponse(429, {"retry-after": "0"}, "") if is_busy else None

    langfuse.respond = respond
    batch, _ = export(langfuse)
    assert outcomes(batch) == {Outcome.STORED}


def test_a_retry_after_beyond_the_deadline_ends_the_export():
    langfuse = FakeLangfuse(respond=always_respond_with(429, **{"retry-after": "21"}))
    batch, _ = export(langfuse)
    assert len(langfuse.requests) == 1
    assert (batch[0].outcome, batch[0].retry_after) == (Outcome.RETRYABLE, 21.0)


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
@pytest.mark.parametrize(
    ("status", "text"),
    [(401, "no"), (403, "no"), (302, ""), (200, "<html>Welcome</html>"), (200, "[]")],
)
def test_a_wrong_key_or_url_is_not_retried(protocol, status, text):
    langfuse = FakeLangfuse(respond=always_respond_with(status, text))
    batch, _ = export(langfuse, 2, protocol=protocol)
    assert len(langfuse.requests) == 1
    assert outcomes(batch) == {Outcome.MISCONFIGURED}
    assert batch[0].reason


def test_a_retry_sends_only_the_events_that_were_not_stored():
    langfuse = FakeLangfuse()
    statuses = [503, 429]

    async def respond(request):
        if not statuses:
            return None
        events = json.loads(request.body)["batch"]
        refused_id = next(event["id"] for event in events if event["body"]["id"] == f"{2:016x}")
        errors = [{"id": refused_id, "status": statuses.pop(0), "message": "busy"}]
        successes = [{"id": e["id"], "status": 201} for e in events if e["id"] != refused_id]
        return HttpResponse(207, {}, json.dumps({"successes": successes, "errors": errors}))

    langfuse.respond = respond
    batch, _ = export(langfuse, 3)
    assert outcomes(batch) == {Outcome.STORED}
    counts = [len(json.loads(request.body)["batch"]) for request in langfuse.requests]
    assert counts == [6, 1, 1]
    assert [pending.upload_count for pending in batch] == [1, 3, 1]


def test_an_observation_that_cannot_be_encoded_does_not_affect_others():
    langfuse = FakeLangfuse()

    async def run() -> None:
        invalid_time: Any = "yesterday"
        batch = [
            PendingObservation(observation(1, started_at=invalid_time)),
            PendingObservation(observation(2)),
        ]
        await Exporter(DESTINATION, SETTINGS).export(batch, virtual_time.now() + 25, langfuse)
        assert [pending.outcome for pending in batch] == [Outcome.MALFORMED, Outcome.STORED]
        assert batch[0].reason.startswith("it cannot be written: TypeError")

    virtual_time.run(run())


def test_a_short_deadline_leaves_out_the_health_check():
    langfuse = FakeLangfuse("4.16.0")
    export(langfuse, seconds=1.5)
    assert langfuse.health_check_count == 0


def test_a_refused_event_does_not_affect_others():
    async def respond(request):
        events = json.loads(request.body)["batch"]
        refused_id = next(event["id"] for event in events if event["body"]["id"] == f"{2:016x}")
        errors = [{"id": refused_id, "status": 400, "message": "Invalid request data"}]
        successes = [{"id": e["id"], "status": 201} for e in events if e["id"] != refused_id]
        return HttpResponse(207, {}, json.dumps({"successes": successes, "errors": errors}))

    langfuse = FakeLangfuse(respond=respond)
    batch, _ = export(langfuse, 3)
    assert [pending.outcome for pending in batch] == [
        Outcome.STORED,
        Outcome.MALFORMED,
        Outcome.STORED,
    ]
    assert batch[1].reason == "400 Invalid request data"
    assert len(langfuse.requests) == 1


def test_a_refused_embedding_is_sent_as_a_generation():
    async def respond(request):
        events = json.loads(request.body)["batch"]
        errors = [
            {"id": event["id"], "status": 400, "message": "Invalid request data"}
            for event in events
            if event["type"] == "embedding-create"
        ]
        successes = [{"id": e["id"], "status": 201} for e in events][: len(events) - len(errors)]
        return HttpResponse(207, {}, json.dumps({"successes": successes, "errors": errors}))

    langfuse = FakeLangfuse("2.95.0", respond=respond)

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS)
        pending = PendingObservation(observation(1, type="embedding"))
        await exporter.export([pending], virtual_time.now() + 25, langfuse)
        assert pending.outcome is Outcome.STORED

    virtual_time.run(run())
    types = [[e["type"] for e in json.loads(r.body)["batch"]] for r in langfuse.requests]
    assert types == [["trace-create", "embedding-create"], ["generation-create"]]


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
@pytest.mark.parametrize("bad", [1, 5, 8])
def test_a_refused_batch_is_halved_until_the_malformed_observation_is_found(protocol, bad):
    langfuse = FakeLangfuse()

    async def respond(request):
        if f"{bad:016x}" in request.ids:
            return HttpResponse(400, {}, "malformed")
        return None

    langfuse.respond = respond
    batch, _ = export(langfuse, 8, protocol=protocol)
    assert [p.outcome is Outcome.STORED for p in batch] == [n != bad for n in range(1, 9)]
    assert batch[bad - 1].outcome is Outcome.MALFORMED
    assert "HTTP 400" in batch[bad - 1].reason
    assert set(langfuse.stored.values()) == {1}
    assert set(langfuse.times) == {0}


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
def test_a_batch_that_is_too_large_is_halved_and_then_truncated(protocol):
    langfuse = FakeLangfuse()

    async def respond(request):
        if len(request.body) > 100_000:
            return HttpResponse(413, {}, "too large")
        return None

    langfuse.respond = respond

    async def run() -> None:
        long_input = json.dumps(["long " * 60_000])
        exporter = Exporter(DESTINATION, replace(SETTINGS, protocol=protocol))
        batch = [
            PendingObservation(observation(1)),
            PendingObservation(observation(2, input=long_input)),
        ]
        await exporter.export(batch, virtual_time.now() + 25, langfuse)
        assert outcomes(batch) == {Outcome.STORED}
        assert batch[0].observation.input == '"hi"'
        assert "[cut: " in (batch[1].observation.input or "")

    virtual_time.run(run())
    assert set(langfuse.stored) == {f"{1:016x}", f"{2:016x}"}


def test_an_observation_that_cannot_be_truncated_is_too_large():
    langfuse = FakeLangfuse(respond=always_respond_with(413))
    batch, _ = export(langfuse, 2)
    assert outcomes(batch) == {Outcome.TOO_LARGE}
    assert len(langfuse.requests) == 5


def test_an_upload_is_not_larger_than_the_protocol_allows():
    langfuse = FakeLangfuse()

    async def run() -> None:
        long_input = json.dumps("x" * 700_000)
        exporter = Exporter(DESTINATION, SETTINGS)
        batch = [PendingObservation(observation(n, input=long_input)) for n in range(1, 6)]
        await exporter.export(batch, virtual_time.now() + 25, langfuse)
        assert outcomes(batch) == {Outcome.STORED}

    virtual_time.run(run())
    assert max(len(request.body) for request in langfuse.requests) <= 3_500_000
    assert len(langfuse.requests) == 3


def test_an_observation_that_another_export_has_leased_is_not_retried():
    langfuse = FakeLangfuse()
    pending = PendingObservation(observation(1))

    async def respond(request):
        pending.take_over(Lease())
        return HttpResponse(503, {}, "oops")

    langfuse.respond = respond

    async def run() -> list[PendingObservation]:
        exporter = Exporter(DESTINATION, SETTINGS)
        return await exporter.export([pending], virtual_time.now() + 25, langfuse)

    assert virtual_time.run(run()) == []
    assert len(langfuse.requests) == 1
    assert not pending.is_settled


def test_an_upload_settles_an_observation_that_another_export_has_leased():
    """The first export succeeds after the second has acquired the lease."""
    langfuse = FakeLangfuse()
    pending = PendingObservation(observation(1))
    results = []

    async def respond(request):
        await langfuse.sleep(1)

    langfuse.respond = respond

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS, protocol="ingestion")

        async def export_after(delay: float) -> None:
            await langfuse.sleep(delay)
            results.append(await exporter.export([pending], virtual_time.now() + 25, langfuse))

        await asyncio.gather(export_after(0), export_after(0.5))

    virtual_time.run(run())
    assert pending.outcome is Outcome.STORED
    assert results == [[], [pending]]


def test_a_long_upload_timeout_leaves_time_for_retries():
    langfuse = FakeLangfuse(respond=respond_with(503, 503))
    batch, _ = export(langfuse, upload_timeout_seconds=25.0)
    assert outcomes(batch) == {Outcome.STORED}


def test_concurrent_exports_wait_for_one_health_check():
    langfuse = FakeLangfuse("4.16.0")
    original_http = langfuse.http

    async def http(method, url, headers, body, timeout):
        if method == "GET":
            await langfuse.sleep(1)
        return await original_http(method, url, headers, body, timeout)

    langfuse.http = http  # type: ignore[method-assign]

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS)
        await asyncio.gather(
            *(
                exporter.export(
                    [PendingObservation(observation(n))], virtual_time.now() + 25, langfuse
                )
                for n in range(1, 5)
            )
        )

    virtual_time.run(run())
    assert langfuse.health_check_count == 1
    assert [request.path for request in langfuse.requests] == [OTLP_PATH] * 4


@pytest.mark.parametrize(
    "health", [NetworkError("no"), HttpResponse(503, {}, ""), HttpResponse(429, {}, "")]
)
def test_a_failed_health_check_is_repeated_after_an_interval(health):
    langfuse = FakeLangfuse("4.16.0")
    original_http = langfuse.http
    failures = [health]

    async def http(method, url, headers, body, timeout):
        if method == "GET" and failures:
            failure = failures.pop()
            if isinstance(failure, Exception):
                raise failure
            return failure
        return await original_http(method, url, headers, body, timeout)

    langfuse.http = http  # type: ignore[method-assign]

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS)
        deadline = virtual_time.now() + 25
        assert await exporter.select_protocol(deadline, langfuse) == "ingestion"
        # A second request does not check again before the interval has passed.
        assert await exporter.select_protocol(deadline, langfuse) == "ingestion"
        assert langfuse.health_check_count == 0
        await langfuse.sleep(10)
        assert await exporter.select_protocol(deadline, langfuse) == "otlp"

    virtual_time.run(run())


@pytest.mark.parametrize(
    "text", ["", "<html>", "[]", "{}", '{"version": 4}', '{"version": "new"}', '{"version": null}']
)
def test_a_health_response_without_a_version_selects_ingestion(text):
    langfuse = FakeLangfuse()

    async def http(method, url, headers, body, timeout):
        return HttpResponse(200, {}, text)

    langfuse.http = http  # type: ignore[method-assign]

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS)
        assert await exporter.select_protocol(virtual_time.now() + 25, langfuse) == "ingestion"
        assert exporter.protocol == "ingestion"

    virtual_time.run(run())


@pytest.mark.parametrize("status", [200, 400, 503])
def test_an_export_leaves_no_reference_cycle_around_its_observations(status):
    gc.disable()  # it would collect cycles, but only later
    try:
        langfuse = FakeLangfuse(respond=None if status == 200 else always_respond_with(status))
        batch, _ = export(langfuse, 2)
        references = [weakref.ref(pending.observation) for pending in batch]
        del batch
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()
