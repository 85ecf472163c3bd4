"""Batches on their way to Langfuse, by a clock that needs no waiting."""

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
from export.exporter import Exporter, PendingObservation, backoff_seconds
from export.upload_results import Outcome
from tests.unit import virtual_time
from tests.unit.langfuse import DESTINATION, INGESTION, OTLP, SETTINGS, Langfuse, observation

OK = HttpResponse(200, {}, "{}")


def export(
    langfuse: Langfuse, count: int = 1, seconds: float = 25.0, **changes: Any
) -> tuple[list[PendingObservation], Exporter]:
    """Export so many observations, each with twice the default input."""
    exporter = Exporter(DESTINATION, replace(SETTINGS, **changes))
    batch = [PendingObservation(observation(number + 1)) for number in range(count)]

    async def run() -> None:
        await exporter.export(batch, virtual_time.now() + seconds, langfuse)

    virtual_time.run(run())
    return batch, exporter


def fates(batch: Sequence[PendingObservation]) -> set[Outcome]:
    return {pending.outcome for pending in batch}


def answers(*status: int, **headers: str) -> Any:
    """Answers with these statuses, one after the other, and then lets everything pass."""
    left = list(status)

    async def play(request):
        return HttpResponse(left.pop(0), headers, "oops") if left else None

    return play


def always(status: int, text: str = "oops", **headers: str) -> Any:
    async def play(request):
        return HttpResponse(status, headers, text)

    return play


@pytest.mark.parametrize(
    ("version", "path"), [("2.95.0", INGESTION), ("3.120.0", INGESTION), ("4.16.0", OTLP)]
)
def test_the_servers_version_chooses_the_protocol(version, path):
    langfuse = Langfuse(version)
    batch, exporter = export(langfuse, 3)
    assert fates(batch) == {Outcome.STORED}
    assert [request.path for request in langfuse.requests] == [path]
    assert langfuse.asked == 1
    assert exporter.last_result == "stored"


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
def test_a_protocol_that_is_set_is_not_asked_for(protocol):
    langfuse = Langfuse()
    batch, _ = export(langfuse, protocol=protocol)
    assert fates(batch) == {Outcome.STORED}
    assert langfuse.asked == 0
    assert langfuse.requests[0].path == {"ingestion": INGESTION, "otlp": OTLP}[protocol]


def test_the_health_page_is_asked_once():
    langfuse = Langfuse("4.16.0")

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS)
        for number in range(3):
            batch = [PendingObservation(observation(number))]
            await exporter.export(batch, virtual_time.now() + 25, langfuse)

    virtual_time.run(run())
    assert langfuse.asked == 1
    assert len(langfuse.requests) == 3


def test_a_server_that_refuses_every_event_gets_spans():
    langfuse = Langfuse("4.16.0")

    async def run() -> list[PendingObservation]:
        exporter = Exporter(DESTINATION, SETTINGS, protocol="ingestion")
        for first in (1, 3):
            batch = [
                PendingObservation(observation(first)),
                PendingObservation(observation(first + 1)),
            ]
            await exporter.export(batch, virtual_time.now() + 25, langfuse)
            assert fates(batch) == {Outcome.STORED}
        return batch

    virtual_time.run(run())
    assert [request.path for request in langfuse.requests] == [INGESTION, OTLP, OTLP]
    assert set(langfuse.stored.values()) == {1}
    assert langfuse.times == [0, 0, 0]


def test_a_server_without_spans_gets_a_batch():
    langfuse = Langfuse("2.95.0")

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS, protocol="otlp")
        batch = [PendingObservation(observation(1))]
        await exporter.export(batch, virtual_time.now() + 25, langfuse)
        assert fates(batch) == {Outcome.STORED}
        assert exporter.protocol == "ingestion"

    virtual_time.run(run())
    assert [request.path for request in langfuse.requests] == [OTLP, INGESTION]


def test_a_server_that_takes_neither_is_asked_twice():
    langfuse = Langfuse(play=always(404))
    batch, exporter = export(langfuse, 2)
    assert [request.path for request in langfuse.requests] == [INGESTION, OTLP]
    assert fates(batch) == {Outcome.MISCONFIGURED}
    assert "ingestion and otlp: HTTP 404" in batch[0].reason
    assert exporter.protocol is None


@pytest.mark.parametrize(("protocol", "version"), [("ingestion", "4.16.0"), ("otlp", "2.95.0")])
def test_a_protocol_that_is_set_is_not_changed(protocol, version):
    langfuse = Langfuse(version)
    batch, _ = export(langfuse, protocol=protocol)
    assert len(langfuse.requests) == 1
    assert fates(batch) == {Outcome.MISCONFIGURED}
    assert protocol in batch[0].reason


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_is_well_later_gets_the_same_bytes(protocol, status):
    langfuse = Langfuse(play=answers(status, status, status))
    batch, _ = export(langfuse, 2, protocol=protocol)
    assert fates(batch) == {Outcome.STORED}
    assert {request.body for request in langfuse.requests} == {langfuse.requests[0].body}
    assert langfuse.times == [0, 0.5, 1.5, 3.5]
    assert batch[0].upload_count == 4


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
def test_an_answer_that_is_lost_doubles_nothing(protocol):
    langfuse = Langfuse()
    lost = [True]

    async def play(request):
        content = json.loads(request.body)
        if lost.pop() if lost else False:
            langfuse.take(request, content.get("batch") or [])
            raise NetworkError("connection lost")

    langfuse.play = play
    batch, _ = export(langfuse, protocol=protocol)
    assert fates(batch) == {Outcome.STORED}
    first, second = langfuse.requests
    assert first.body == second.body


def test_an_outage_uses_the_time_there_is():
    langfuse = Langfuse(play=always(503))
    batch, exporter = export(langfuse)
    assert fates(batch) == {Outcome.RETRYABLE}
    assert not batch[0].is_settled
    # The last attempt has its whole timeout, and is not made twice.
    assert langfuse.times == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 20]
    assert exporter.last_result == batch[0].reason == "HTTP 503"


def test_a_server_that_hangs_is_left_in_time():
    langfuse = Langfuse()

    async def play(request):
        await langfuse.sleep(60)

    langfuse.play = play
    ended = []

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS, protocol="ingestion")
        batch = [PendingObservation(observation(1))]
        began = virtual_time.now()
        await exporter.export(batch, began + 25, langfuse)
        ended.append(virtual_time.now() - began)
        assert "timed out" in batch[0].reason

    virtual_time.run(run())
    assert langfuse.times == [0, 5.5, 11.5, 18.5]
    assert ended == [23.5]


def test_full_jitter_spreads_the_retries():
    assert [backoff_seconds(retry, 1.0) for retry in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert backoff_seconds(3, 0.25) == 1.0
    assert backoff_seconds(100, 0.0) == 0.0


def test_a_crowd_leaves_the_isolate_time_for_its_clients():
    langfuse = Langfuse(play=always(503))
    langfuse.random = Random(1).random  # type: ignore[method-assign]
    exporter = Exporter(DESTINATION, replace(SETTINGS, protocol="ingestion"))

    async def run() -> None:
        batches = [[PendingObservation(observation(number))] for number in range(400)]
        until = virtual_time.now() + 25
        await asyncio.gather(*(exporter.export(batch, until, langfuse) for batch in batches))

    virtual_time.run(run())
    # But for the first attempt of each, and the last.
    between = [time for time in langfuse.times if 0 < time < 20]
    assert 10 * MAX_UPLOAD_RETRIES_PER_SECOND < len(between) < 25 * MAX_UPLOAD_RETRIES_PER_SECOND
    assert exporter.active_exports == 0


def test_the_posts_of_one_batch_are_counted():
    """Without jitter's waits there would be thousands, of which the platform allows 50."""
    langfuse = Langfuse(play=always(503), jitter=0.0)
    batch, _ = export(langfuse)
    assert len(langfuse.requests) == 30
    assert fates(batch) == {Outcome.RETRYABLE}


@pytest.mark.parametrize(("said", "times"), [("7", [0, 7]), ("0", [0, 0.5]), ("soon", [0, 0.5])])
def test_retry_after_is_heeded(said, times):
    langfuse = Langfuse(play=answers(429, **{"retry-after": said}))
    batch, _ = export(langfuse)
    assert fates(batch) == {Outcome.STORED}
    assert langfuse.times == times


def test_a_retry_after_of_nothing_does_not_use_up_the_posts():
    langfuse = Langfuse()

    async def play(request):
        busy = langfuse.now() < langfuse.requests[0].time + 10
        return HttpResponse(429, {"retry-after": "0"}, "") if busy else None

    langfuse.play = play
    batch, _ = export(langfuse)
    assert fates(batch) == {Outcome.STORED}


def test_a_retry_after_beyond_the_time_there_is_ends_it():
    langfuse = Langfuse(play=always(429, **{"retry-after": "21"}))
    batch, _ = export(langfuse)
    assert len(langfuse.requests) == 1
    assert (batch[0].outcome, batch[0].retry_after) == (Outcome.RETRYABLE, 21.0)


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
@pytest.mark.parametrize(
    ("status", "text"),
    [(401, "no"), (403, "no"), (302, ""), (200, "<html>Welcome</html>"), (200, "[]")],
)
def test_a_wrong_key_or_url_is_not_tried_again(protocol, status, text):
    langfuse = Langfuse(play=always(status, text))
    batch, _ = export(langfuse, 2, protocol=protocol)
    assert len(langfuse.requests) == 1
    assert fates(batch) == {Outcome.MISCONFIGURED}
    assert batch[0].reason


def test_only_what_was_not_stored_is_sent_again():
    langfuse = Langfuse()
    left = [503, 429]

    async def play(request):
        if not left:
            return None
        events = json.loads(request.body)["batch"]
        bad = next(event["id"] for event in events if event["body"]["id"] == f"{2:016x}")
        errors = [{"id": bad, "status": left.pop(0), "message": "busy"}]
        successes = [{"id": e["id"], "status": 201} for e in events if e["id"] != bad]
        return HttpResponse(207, {}, json.dumps({"successes": successes, "errors": errors}))

    langfuse.play = play
    batch, _ = export(langfuse, 3)
    assert fates(batch) == {Outcome.STORED}
    counts = [len(json.loads(request.body)["batch"]) for request in langfuse.requests]
    assert counts == [6, 1, 1]
    assert [pending.upload_count for pending in batch] == [1, 3, 1]


def test_an_observation_that_cannot_be_written_costs_no_other():
    langfuse = Langfuse()

    async def run() -> None:
        odd: Any = "yesterday"
        batch = [
            PendingObservation(observation(1, started_at=odd)),
            PendingObservation(observation(2)),
        ]
        await Exporter(DESTINATION, SETTINGS).export(batch, virtual_time.now() + 25, langfuse)
        assert [pending.outcome for pending in batch] == [Outcome.MALFORMED, Outcome.STORED]
        assert batch[0].reason.startswith("it cannot be written: TypeError")

    virtual_time.run(run())


def test_without_time_nobody_asks_for_the_version():
    langfuse = Langfuse("4.16.0")
    export(langfuse, seconds=1.5)
    assert langfuse.asked == 0


def test_one_refused_event_costs_no_other():
    async def play(request):
        events = json.loads(request.body)["batch"]
        bad = next(event["id"] for event in events if event["body"]["id"] == f"{2:016x}")
        errors = [{"id": bad, "status": 400, "message": "Invalid request data"}]
        successes = [{"id": e["id"], "status": 201} for e in events if e["id"] != bad]
        return HttpResponse(207, {}, json.dumps({"successes": successes, "errors": errors}))

    langfuse = Langfuse(play=play)
    batch, _ = export(langfuse, 3)
    assert [pending.outcome for pending in batch] == [
        Outcome.STORED,
        Outcome.MALFORMED,
        Outcome.STORED,
    ]
    assert batch[1].reason == "400 Invalid request data"
    assert len(langfuse.requests) == 1


def test_an_old_server_gets_an_embedding_as_a_generation():
    async def play(request):
        events = json.loads(request.body)["batch"]
        errors = [
            {"id": event["id"], "status": 400, "message": "Invalid request data"}
            for event in events
            if event["type"] == "embedding-create"
        ]
        successes = [{"id": e["id"], "status": 201} for e in events][: len(events) - len(errors)]
        return HttpResponse(207, {}, json.dumps({"successes": successes, "errors": errors}))

    langfuse = Langfuse("2.95.0", play=play)

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
def test_a_bad_one_is_found_by_halving(protocol, bad):
    langfuse = Langfuse()

    async def play(request):
        if f"{bad:016x}" in request.ids:
            return HttpResponse(400, {}, "malformed")
        return None

    langfuse.play = play
    batch, _ = export(langfuse, 8, protocol=protocol)
    assert [p.outcome is Outcome.STORED for p in batch] == [n != bad for n in range(1, 9)]
    assert batch[bad - 1].outcome is Outcome.MALFORMED
    assert "HTTP 400" in batch[bad - 1].reason
    assert set(langfuse.stored.values()) == {1}
    assert set(langfuse.times) == {0}


@pytest.mark.parametrize("protocol", ["ingestion", "otlp"])
def test_what_is_too_large_is_halved_and_then_cut(protocol):
    langfuse = Langfuse()

    async def play(request):
        if len(request.body) > 100_000:
            return HttpResponse(413, {}, "too large")
        return None

    langfuse.play = play

    async def run() -> None:
        long = json.dumps(["long " * 60_000])
        exporter = Exporter(DESTINATION, replace(SETTINGS, protocol=protocol))
        batch = [PendingObservation(observation(1)), PendingObservation(observation(2, input=long))]
        await exporter.export(batch, virtual_time.now() + 25, langfuse)
        assert fates(batch) == {Outcome.STORED}
        assert batch[0].observation.input == '"hi"'
        assert "[cut: " in (batch[1].observation.input or "")

    virtual_time.run(run())
    assert set(langfuse.stored) == {f"{1:016x}", f"{2:016x}"}


def test_what_cannot_be_cut_is_refused():
    langfuse = Langfuse(play=always(413))
    batch, _ = export(langfuse, 2)
    assert fates(batch) == {Outcome.TOO_LARGE}
    assert len(langfuse.requests) == 5


def test_a_batch_is_no_larger_than_the_protocol_takes():
    langfuse = Langfuse()

    async def run() -> None:
        long = json.dumps("x" * 700_000)
        exporter = Exporter(DESTINATION, SETTINGS)
        batch = [PendingObservation(observation(n, input=long)) for n in range(1, 6)]
        await exporter.export(batch, virtual_time.now() + 25, langfuse)
        assert fates(batch) == {Outcome.STORED}

    virtual_time.run(run())
    assert max(len(request.body) for request in langfuse.requests) <= 3_500_000
    assert len(langfuse.requests) == 3


def test_what_another_holder_took_is_let_go():
    langfuse = Langfuse()
    pending = PendingObservation(observation(1))

    async def play(request):
        pending.lease_owner = object()  # type: ignore[assignment]
        return HttpResponse(503, {}, "oops")

    langfuse.play = play

    async def run() -> list[PendingObservation]:
        exporter = Exporter(DESTINATION, SETTINGS)
        return await exporter.export([pending], virtual_time.now() + 25, langfuse)

    assert virtual_time.run(run()) == []
    assert len(langfuse.requests) == 1
    assert not pending.is_settled


def test_a_success_counts_whoever_holds_it():
    """The one that had it before had success all the same, and nothing is left to send."""
    langfuse = Langfuse()
    pending = PendingObservation(observation(1))
    held = []

    async def play(request):
        await langfuse.sleep(1)

    langfuse.play = play

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS, protocol="ingestion")

        async def take(after: float) -> None:
            await langfuse.sleep(after)
            held.append(await exporter.export([pending], virtual_time.now() + 25, langfuse))

        await asyncio.gather(take(0), take(0.5))

    virtual_time.run(run())
    assert pending.outcome is Outcome.STORED
    assert held == [[], [pending]]


def test_a_long_timeout_leaves_time_to_retry():
    langfuse = Langfuse(play=answers(503, 503))
    batch, _ = export(langfuse, upload_timeout_seconds=25.0)
    assert fates(batch) == {Outcome.STORED}


def test_while_one_asks_for_the_version_the_others_wait():
    langfuse = Langfuse("4.16.0")
    unhurried = langfuse.http

    async def http(method, url, headers, body, timeout):
        if method == "GET":
            await langfuse.sleep(1)
        return await unhurried(method, url, headers, body, timeout)

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
    assert langfuse.asked == 1
    assert [request.path for request in langfuse.requests] == [OTLP] * 4


@pytest.mark.parametrize(
    "health", [NetworkError("no"), HttpResponse(503, {}, ""), HttpResponse(429, {}, "")]
)
def test_a_server_that_is_not_well_is_asked_again(health):
    langfuse = Langfuse("4.16.0")
    well = langfuse.http
    sick = [health]

    async def http(method, url, headers, body, timeout):
        if method == "GET" and sick:
            answer = sick.pop()
            if isinstance(answer, Exception):
                raise answer
            return answer
        return await well(method, url, headers, body, timeout)

    langfuse.http = http  # type: ignore[method-assign]

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS)
        deadline = virtual_time.now() + 25
        assert await exporter.select_protocol(deadline, langfuse) == "ingestion"
        # But not by everybody at once.
        assert await exporter.select_protocol(deadline, langfuse) == "ingestion"
        assert langfuse.asked == 0
        await langfuse.sleep(10)
        assert await exporter.select_protocol(deadline, langfuse) == "otlp"

    virtual_time.run(run())


@pytest.mark.parametrize(
    "text", ["", "<html>", "[]", "{}", '{"version": 4}', '{"version": "new"}', '{"version": null}']
)
def test_a_health_page_without_a_version_is_an_old_servers(text):
    langfuse = Langfuse()

    async def http(method, url, headers, body, timeout):
        return HttpResponse(200, {}, text)

    langfuse.http = http  # type: ignore[method-assign]

    async def run() -> None:
        exporter = Exporter(DESTINATION, SETTINGS)
        assert await exporter.select_protocol(virtual_time.now() + 25, langfuse) == "ingestion"
        assert exporter.protocol == "ingestion"

    virtual_time.run(run())


@pytest.mark.parametrize("status", [200, 400, 503])
def test_what_was_exported_is_in_memory_no_longer_than_who_asked_for_it(status):
    gc.disable()  # which would find circles, but late
    try:
        langfuse = Langfuse(play=None if status == 200 else always(status))
        batch, _ = export(langfuse, 2)
        observed = [weakref.ref(pending.observation) for pending in batch]
        del batch
        assert [known() for known in observed] == [None, None]
    finally:
        gc.enable()
