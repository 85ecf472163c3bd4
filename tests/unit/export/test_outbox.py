"""Tests of the outbox: batching, leases between requests, the memory budget and the queue."""

import asyncio
import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from core.memory_budget import delivery_budget
from core.observation import Observation
from core.types import Destination, HttpResponse, NetworkError
from export import outbox
from export.outbox import deliver_observations, deliver_queue_messages, get_outbox
from settings.load import Settings
from tests.unit import virtual_time
from tests.unit.langfuse import DESTINATION, SETTINGS, FakeLangfuse, observation
from tests.unit.samples import ATTEMPTS, SPAN


@pytest.fixture(autouse=True)
def _reset_outboxes(monkeypatch):
    monkeypatch.setattr(outbox, "_outboxes", {})


@dataclass
class FakeQueue:
    """A queue that stores the messages sent to it, or raises `error`."""

    error: NetworkError | None = None
    sent_batches: list[list[Any]] = field(default_factory=list)

    async def send(self, bodies: Sequence[Any]) -> None:
        if self.error:
            raise self.error
        self.sent_batches.append(list(bodies))

    @property
    def bodies(self) -> list[Any]:
        return [body for bodies in self.sent_batches for body in bodies]


def log_lines(capsys) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def deliver(
    langfuse: FakeLangfuse, *delays: float, settings: Settings = SETTINGS, **changes: Any
) -> float:
    """Deliver one observation after each of these delays, each by a request of its own.

    Return the duration of all deliveries in seconds.
    """

    async def deliver_one(number: int, delay: float) -> None:
        await asyncio.sleep(delay)
        await deliver_observations([observation(number, **changes)], settings, langfuse)

    async def run() -> float:
        started_at = virtual_time.now()
        await asyncio.gather(
            *(deliver_one(number, delay) for number, delay in enumerate(delays or (0,), 1))
        )
        return virtual_time.now() - started_at

    return virtual_time.run(run())


def batching_settings(flush_at: int, interval: float = 1.0, **changes: Any) -> Settings:
    return replace(SETTINGS, flush_at=flush_at, flush_interval_seconds=interval, **changes)


def batch_sizes(langfuse: FakeLangfuse) -> list[int]:
    return [len(set(request.ids)) for request in langfuse.requests]


def test_by_default_each_observation_is_uploaded_immediately(capsys):
    langfuse = FakeLangfuse()
    # Only the health check of the first one takes a moment.
    assert deliver(langfuse, 0, 0, 0) < 0.1
    assert batch_sizes(langfuse) == [1, 1, 1]
    assert log_lines(capsys) == []


def test_flush_at_observations_are_uploaded_together():
    langfuse = FakeLangfuse()
    deliver(langfuse, 0, 0.1, 0.2, 0.3, 0.4, settings=batching_settings(2))
    assert batch_sizes(langfuse) == [2, 2, 1]
    assert langfuse.times == [0, 0.2, 1.3]
    assert set(langfuse.stored.values()) == {1}


def test_a_single_observation_waits_for_the_flush_interval():
    langfuse = FakeLangfuse()
    assert deliver(langfuse, 0, settings=batching_settings(10, 0.25)) == 0.25
    assert langfuse.stored == {f"{1:016x}": 1}


def test_an_observation_is_delivered_when_the_request_that_leased_it_ends(capsys):
    """The request that uploads both observations is cancelled in its first upload."""
    langfuse = FakeLangfuse()

    async def respond(request):
        if len(langfuse.requests) == 1:
            raise asyncio.CancelledError  # as if the platform had ended the request

    langfuse.respond = respond

    async def run() -> None:
        first = asyncio.create_task(
            deliver_observations([observation(1)], batching_settings(2), langfuse)
        )
        await asyncio.sleep(0.5)
        second = asyncio.create_task(
            deliver_observations([observation(2)], batching_settings(2), langfuse)
        )
        await asyncio.gather(first, second, return_exceptions=True)

    virtual_time.run(run())
    assert langfuse.stored == {f"{1:016x}": 1}
    assert [set(r.ids) for r in langfuse.requests] == [{f"{1:016x}", f"{2:016x}"}, {f"{1:016x}"}]
    assert log_lines(capsys) == []


def test_an_observation_that_another_request_stores_is_not_uploaded_again():
    langfuse = FakeLangfuse()

    async def respond(request):
        await asyncio.sleep(1.5)  # beyond the end of the first request's flush interval

    langfuse.respond = respond
    deliver(langfuse, 0, 0.5, settings=batching_settings(2))
    assert batch_sizes(langfuse) == [2]


def test_a_batch_is_retried_as_a_whole_in_an_outage(capsys):
    langfuse = FakeLangfuse()

    async def respond(request):
        return HttpResponse(503, {}, "") if langfuse.now() < 1010 else None

    langfuse.respond = respond
    deliver(langfuse, 0, 0.5, settings=batching_settings(2))
    assert set(batch_sizes(langfuse)) == {2}
    assert len(langfuse.stored) == 2
    assert log_lines(capsys) == []


def test_no_request_uploads_before_retry_after():
    langfuse = FakeLangfuse()

    async def respond(request):
        if len(langfuse.requests) == 1:
            return HttpResponse(429, {"retry-after": "12"}, "")
        return None

    langfuse.respond = respond
    deliver(langfuse, 0, 0.1, 0.2, settings=batching_settings(3))
    assert batch_sizes(langfuse) == [3, 3]
    assert langfuse.times == [0, 12]


def test_a_batch_is_dropped_when_retry_after_is_beyond_the_deadline(capsys):
    langfuse = failing_langfuse(429, **{"retry-after": "3600"})
    deliver(langfuse, 0, 0.1, 0.2, settings=batching_settings(3))
    assert batch_sizes(langfuse) == [3]
    (line,) = log_lines(capsys)
    assert (line["reason"], line["observations"]) == ("HTTP 429", 3)


def test_a_batch_contains_one_destination_only():
    other = Destination("other", DESTINATION.base_url, "pk-lf-2", "sk-lf-2")
    langfuse = FakeLangfuse()

    async def run() -> None:
        await asyncio.gather(
            *(
                deliver_observations(
                    [observation(n, destination=DESTINATION if n % 2 else other)],
                    batching_settings(3),
                    langfuse,
                )
                for n in range(1, 7)
            )
        )

    virtual_time.run(run())
    by_key = {r.headers["authorization"]: sorted(set(r.ids)) for r in langfuse.requests}
    assert by_key == {
        f"Basic {DESTINATION.credential}": [f"{n:016x}" for n in (1, 3, 5)],
        f"Basic {other.credential}": [f"{n:016x}" for n in (2, 4, 6)],
    }


def failing_langfuse(status: int = 503, **headers: str) -> FakeLangfuse:
    async def respond(request):
        return HttpResponse(status, headers, "oops")

    return FakeLangfuse(respond=respond)


def test_a_dropped_observation_is_logged_once(capsys):
    deliver(failing_langfuse(), 0)
    (line,) = log_lines(capsys)
    assert line == {
        "event": "trace_not_delivered",
        "level": "error",
        "reason": "HTTP 503",
        "tries": 7,
        "observations": 1,
        "trace_ids": f"{1:032x}",
    }


def test_each_observation_of_a_dropped_batch_is_logged_once(capsys):
    deliver(failing_langfuse(), 0, 0.1, 0.2, settings=batching_settings(3))
    lines = log_lines(capsys)
    assert sorted(line["trace_ids"] for line in lines) == [f"{n:032x}" for n in (1, 2, 3)]


def test_a_wrong_key_is_logged_once_a_minute(capsys):
    deliver(failing_langfuse(401), 0, 10, 20, 61, 62)
    lines = log_lines(capsys)
    # The second line includes those suppressed since the first.
    assert [line["observations"] for line in lines] == [1, 2, 1]
    assert "are the Langfuse keys right?" in lines[0]["reason"]


def test_suppressed_log_lines_are_summed_up_when_the_key_works_again(capsys):
    langfuse = FakeLangfuse()

    async def respond(request):
        return HttpResponse(401, {}, "") if langfuse.now() < 1005 else None

    langfuse.respond = respond
    deliver(langfuse, 0, 1, 2, 3, 6)
    lines = log_lines(capsys)
    assert [line["observations"] for line in lines] == [1, 3]
    assert lines[1]["event"] == "trace_not_delivered"


def test_the_status_contains_no_secret():
    secrets = (DESTINATION.secret_key,)
    settings = replace(SETTINGS, secrets=secrets)
    langfuse = FakeLangfuse(respond=None)

    async def respond(request):
        error_body = json.dumps({"message": f"{DESTINATION.secret_key} is not valid"})
        return HttpResponse(401, {}, error_body)

    langfuse.respond = respond
    deliver(langfuse, 0, settings=settings)
    status = get_outbox(DESTINATION, settings).status()
    assert "[redacted] is not valid" in str(status["last"])
    assert status["dropped"] == 1


def test_debug_logs_each_delivery(capsys):
    deliver(FakeLangfuse(), settings=replace(SETTINGS, debug=True))
    (line,) = log_lines(capsys)
    assert (line["event"], line["observations"]) == ("trace_delivered", 1)


def test_observations_over_the_memory_budget_are_dropped(capsys):
    langfuse = failing_langfuse()
    text = json.dumps("x" * (delivery_budget.limit_bytes // 3))
    deliver(langfuse, 0, 0, 0, input=text)
    lines = log_lines(capsys)
    assert [line["reason"] for line in lines].count("too much is waiting for Langfuse already") == 1
    assert len(lines) == 3
    assert delivery_budget.used_bytes == 0


# Requests with several observations.

OTHER_DESTINATION = Destination("other", DESTINATION.base_url, "pk-lf-2", "sk-lf-2")


def observations_of_request(*numbers: int, **changes: Any) -> list[Observation]:
    """The observations of one request, all in the trace of the first."""
    trace = observation(numbers[0]).trace
    return [replace(observation(number, **changes), trace=trace) for number in numbers]


def deliver_requests(
    langfuse: FakeLangfuse,
    *requests: tuple[float, list[Observation]],
    settings: Settings = SETTINGS,
) -> float:
    """Deliver the observations of each request after its delay.

    Return the duration of all deliveries in seconds.
    """

    async def deliver_one(delay: float, observations: list[Observation]) -> None:
        await asyncio.sleep(delay)
        await deliver_observations(observations, settings, langfuse)

    async def run() -> float:
        started_at = virtual_time.now()
        jobs = [deliver_one(delay, observations) for delay, observations in requests]
        # A request that is cancelled, as by the platform, does not end the others.
        await asyncio.gather(*map(asyncio.ensure_future, jobs), return_exceptions=True)
        return virtual_time.now() - started_at

    return virtual_time.run(run())


def ids(*numbers: int) -> list[str]:
    return [f"{number:016x}" for number in numbers]


def stored_once(*numbers: int) -> dict[str, int]:
    """The value of `FakeLangfuse.stored` when each of these observations is stored once."""
    return dict.fromkeys(ids(*numbers), 1)


def uploaded_ids(langfuse: FakeLangfuse) -> list[list[str]]:
    """The ids of the observations in each upload."""
    return [sorted(set(request.ids)) for request in langfuse.requests]


def partial_response(request, status: int, *numbers: int) -> HttpResponse:
    """An ingestion response with errors for the events of these observations only."""
    events = [event["id"] for event in json.loads(request.body)["batch"]]
    refused = [event for event in events if event[:16] in ids(*numbers)]
    return HttpResponse(
        207,
        {},
        json.dumps(
            {
                "successes": [{"id": id, "status": 201} for id in events if id not in refused],
                "errors": [{"id": id, "status": status, "message": "oops"} for id in refused],
            }
        ),
    )


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_the_observations_of_a_request_are_one_upload(version, capsys):
    langfuse = FakeLangfuse(version)
    assert deliver_requests(langfuse, (0, observations_of_request(1, 2, 3))) < 0.1
    assert uploaded_ids(langfuse) == [ids(1, 2, 3)]
    assert langfuse.stored == stored_once(1, 2, 3)
    assert get_outbox(DESTINATION, SETTINGS).counts["stored"] == 3
    assert log_lines(capsys) == []


def test_a_request_without_observations_sends_nothing():
    langfuse = FakeLangfuse(queue=FakeQueue())
    for settings in (SETTINGS, QUEUE_SETTINGS, batching_settings(2)):
        assert deliver_requests(langfuse, (0, []), settings=settings) == 0
        virtual_time.run(deliver_observations([], settings, langfuse))
    assert (langfuse.requests, langfuse.queue.sent_batches, langfuse.health_check_count) == (
        [],
        [],
        0,
    )


def test_flush_at_counts_observations():
    langfuse = FakeLangfuse()
    duration = deliver_requests(
        langfuse,
        (0, observations_of_request(1, 2, 3)),
        (0.5, observations_of_request(4, 5)),
        settings=batching_settings(5),
    )
    assert uploaded_ids(langfuse) == [ids(1, 2, 3, 4, 5)]
    assert langfuse.stored == stored_once(1, 2, 3, 4, 5)
    assert duration == 1.0
    outbox._outboxes.clear()
    second_langfuse = FakeLangfuse()
    assert (
        deliver_requests(
            second_langfuse, (0, observations_of_request(1, 2, 3)), settings=batching_settings(2)
        )
        < 0.1
    )
    assert uploaded_ids(second_langfuse) == [ids(1, 2, 3)]


def test_the_observations_of_a_single_request_wait_for_the_flush_interval():
    langfuse = FakeLangfuse()
    assert (
        deliver_requests(
            langfuse, (0, observations_of_request(1, 2, 3)), settings=batching_settings(10, 0.25)
        )
        == 0.25
    )
    assert uploaded_ids(langfuse) == [ids(1, 2, 3)]


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_a_malformed_observation_does_not_affect_others_of_its_request(version, capsys):
    async def respond(request):
        return HttpResponse(400, {}, "oops") if ids(2)[0] in request.ids else None

    langfuse = FakeLangfuse(version, respond=respond)
    deliver_requests(langfuse, (0, observations_of_request(1, 2, 3)))
    assert langfuse.stored == stored_once(1, 3)
    (line,) = log_lines(capsys)
    assert (line["event"], line["observations"]) == ("trace_not_delivered", 1)


def test_observations_that_another_request_stored_are_not_uploaded_again(capsys):
    """The second request leases all four observations, gets three of them stored, and is ended."""
    langfuse = FakeLangfuse()

    async def respond(request):
        if len(langfuse.requests) == 1:
            langfuse.stored.update(stored_once(1, 3, 4))
            return partial_response(request, 500, 2)
        if len(langfuse.requests) == 2:
            raise asyncio.CancelledError
        return None

    langfuse.respond = respond
    first, second = (0, observations_of_request(1, 2, 3)), (0.5, observations_of_request(4))
    deliver_requests(langfuse, first, second, settings=batching_settings(4))
    assert uploaded_ids(langfuse) == [ids(1, 2, 3, 4), ids(2), ids(2)]
    assert langfuse.stored == stored_once(1, 2, 3, 4)
    assert delivery_budget.used_bytes == 0
    assert log_lines(capsys) == []


def test_a_request_waits_for_the_request_that_leased_its_observations():
    langfuse = FakeLangfuse()

    async def respond(request):
        await asyncio.sleep(3)  # beyond the end of the first request's flush interval

    langfuse.respond = respond
    first, second = (0, observations_of_request(1, 2, 3)), (0.5, observations_of_request(4))
    assert deliver_requests(langfuse, first, second, settings=batching_settings(4)) < 5.5
    assert uploaded_ids(langfuse) == [ids(1, 2, 3, 4)]


def test_dropped_observations_of_a_request_are_one_log_line(capsys):
    deliver_requests(failing_langfuse(), (0, observations_of_request(1, 2, 3)))
    (line,) = log_lines(capsys)
    assert (line["observations"], line["trace_ids"]) == (3, f"{1:032x}")
    assert get_outbox(DESTINATION, SETTINGS).counts["dropped"] == 3


def test_the_observations_that_fit_into_the_memory_budget_are_delivered(capsys):
    text = json.dumps("x" * (delivery_budget.limit_bytes // 3))
    langfuse = FakeLangfuse()
    deliver_requests(langfuse, (0, observations_of_request(1, 2, 3, input=text)))
    assert langfuse.stored == stored_once(1, 2)
    (line,) = log_lines(capsys)
    assert line["event"] == "trace_not_delivered"
    assert line["reason"] == "too much is waiting for Langfuse already"
    assert line["observations"] == 1
    assert delivery_budget.used_bytes == 0


def test_each_observation_of_a_request_counts_in_the_memory_budget():
    text = json.dumps("x" * (delivery_budget.limit_bytes // 4))
    used: list[int] = []

    async def respond(request):
        used.append(delivery_budget.used_bytes)

    deliver_requests(
        FakeLangfuse(respond=respond), (0, observations_of_request(1, 2, 3, input=text))
    )
    assert used
    assert min(used) > 3 * len(text)


def test_a_dropped_observation_is_released_before_the_others_are_uploaded():
    text = json.dumps("x" * (delivery_budget.limit_bytes // 3))
    langfuse = FakeLangfuse()
    is_alive: list[bool] = []

    async def run() -> None:
        observations = observations_of_request(1, 2, 3, input=text)
        dropped = weakref.ref(observations[2])

        async def respond(request):
            is_alive.append(dropped() is not None)

        langfuse.respond = respond
        job = deliver_observations([*observations], SETTINGS, langfuse)
        del observations
        await job

    virtual_time.run(run())
    assert set(is_alive) == {False}


def observations_for(destination: Destination, *numbers: int) -> list[Observation]:
    return observations_of_request(*numbers, destination=destination)


def test_destinations_are_never_mixed_when_uploads_fail(capsys):
    """Requests of three observations each alternate between two projects.

    The request that uploads the second project's first batch is ended, the server has an outage,
    and one observation is malformed.
    """
    langfuse = FakeLangfuse()

    async def respond(request):
        if ids(11)[0] in request.ids:
            raise asyncio.CancelledError
        if langfuse.times[-1] < 4:
            return HttpResponse(503, {}, "")
        return HttpResponse(400, {}, "") if ids(8)[0] in request.ids else None

    langfuse.respond = respond
    requests = [
        (
            n / 10,
            observations_for(
                OTHER_DESTINATION if n % 2 else DESTINATION, 3 * n + 1, 3 * n + 2, 3 * n + 3
            ),
        )
        for n in range(6)
    ]
    deliver_requests(langfuse, *requests, settings=batching_settings(6))
    credentials = {o.id: o.destination.credential for _, request in requests for o in request}
    used_headers = {id: set[str]() for id in credentials}
    for request in langfuse.requests:
        for id in request.ids:
            used_headers[id].add(request.headers["authorization"])
    assert used_headers == {id: {f"Basic {key}"} for id, key in credentials.items()}
    # The request that was ended loses its own observations (10, 11, 12) only; 8 is malformed.
    assert langfuse.stored == {id: 1 for id in credentials if id not in ids(8, 10, 11, 12)}
    (line,) = log_lines(capsys)
    assert (line["event"], line["observations"]) == ("trace_not_delivered", 1)
    assert delivery_budget.used_bytes == 0


def test_observations_of_two_destinations_raise_an_error(capsys):
    langfuse = FakeLangfuse()
    mixed = [*observations_for(DESTINATION, 1), *observations_for(OTHER_DESTINATION, 2)]
    with pytest.raises(ValueError, match="unpack"):
        virtual_time.run(deliver_observations(mixed, SETTINGS, langfuse))
    assert langfuse.requests == []


# The queue.


def test_an_observation_that_is_not_delivered_in_time_is_queued(capsys):
    langfuse = failing_langfuse()
    langfuse.queue = FakeQueue()
    deliver(langfuse, 0)
    (line,) = log_lines(capsys)
    assert (line["event"], line["reason"]) == ("trace_queued", "HTTP 503")
    (body,) = langfuse.queue.bodies
    assert json.loads(body)["destination"] == "default"
    assert DESTINATION.secret_key not in body


class SlowFakeQueue(FakeQueue):
    async def send(self, bodies: Sequence[Any]) -> None:
        await asyncio.sleep(2.5)
        await super().send(bodies)


def test_an_observation_that_is_being_queued_is_not_uploaded_by_its_own_request(capsys):
    """The first request waits while the second one hands both observations to a slow queue."""

    async def respond(request):
        return HttpResponse(429, {"retry-after": "60"}, "")

    langfuse = FakeLangfuse(respond=respond, queue=SlowFakeQueue())
    deliver(langfuse, 0, 0.9, settings=batching_settings(2, upload_timeout_seconds=0.5))
    assert batch_sizes(langfuse) == [2]
    assert len(langfuse.queue.bodies) == 2
    assert [line["observations"] for line in log_lines(capsys)] == [2]


@pytest.mark.parametrize("status", [401, 404])
def test_a_misconfigured_observation_is_queued(status):
    langfuse = failing_langfuse(status)
    langfuse.queue = FakeQueue()
    deliver(langfuse, 0)
    assert len(langfuse.queue.bodies) == 1


def test_a_malformed_observation_is_not_queued(capsys):
    langfuse = failing_langfuse(400)
    langfuse.queue = FakeQueue()
    deliver(langfuse, 0)
    assert langfuse.queue.bodies == []
    (line,) = log_lines(capsys)
    assert line["event"] == "trace_not_delivered"


def test_an_observation_that_the_queue_refuses_is_dropped_and_logged(capsys):
    langfuse = failing_langfuse()
    langfuse.queue = FakeQueue(NetworkError("queue overloaded"))
    deliver(langfuse, 0)
    (line,) = log_lines(capsys)
    assert line["event"] == "trace_not_delivered"
    assert line["reason"] == "HTTP 503; the queue did not take it: queue overloaded"


QUEUE_SETTINGS = replace(SETTINGS, delivery="queue")


def test_queue_delivery_uploads_nothing_directly(capsys):
    langfuse = FakeLangfuse(queue=FakeQueue())
    deliver(langfuse, 0, 0, settings=QUEUE_SETTINGS)
    assert len(langfuse.queue.bodies) == 2
    assert langfuse.requests == []
    assert log_lines(capsys) == []


def test_queue_delivery_uploads_directly_when_the_queue_fails():
    langfuse = FakeLangfuse(queue=FakeQueue(NetworkError("down")))
    deliver(langfuse, 0, settings=QUEUE_SETTINGS)
    assert len(langfuse.stored) == 1


def random_text(length: int) -> str:
    """A text that hardly compresses."""
    from random import Random

    return "".join(Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


def test_a_large_message_is_compressed():
    langfuse = FakeLangfuse(queue=FakeQueue())
    deliver(langfuse, 0, settings=QUEUE_SETTINGS, input=json.dumps("word " * 100_000))
    (body,) = langfuse.queue.bodies
    assert isinstance(body, bytes)
    assert len(body) < 10_000


def test_an_observation_too_large_for_the_queue_is_uploaded_directly():
    langfuse = FakeLangfuse(queue=FakeQueue())
    deliver(langfuse, 0, settings=QUEUE_SETTINGS, input=json.dumps(random_text(400_000)))
    assert langfuse.queue.bodies == []
    assert len(langfuse.stored) == 1


def test_an_observation_too_large_for_the_queue_is_truncated_when_the_upload_fails():
    langfuse = failing_langfuse()
    langfuse.queue = FakeQueue()
    deliver(langfuse, 0, settings=QUEUE_SETTINGS, input=json.dumps(random_text(400_000)))
    (body,) = langfuse.queue.bodies
    assert len(body) <= 128_000


def test_the_observations_that_the_queue_accepts_are_not_uploaded_directly():
    langfuse = FakeLangfuse(queue=FakeQueue())
    first, second, third = observations_of_request(1, 2, 3)
    large = replace(second, input=json.dumps(random_text(400_000)))
    deliver_requests(langfuse, (0, [first, large, third]), settings=QUEUE_SETTINGS)
    assert [json.loads(body)["id"] for body in langfuse.queue.bodies] == ids(1, 3)
    assert uploaded_ids(langfuse) == [ids(2)]
    assert langfuse.stored == stored_once(2)
    assert len(langfuse.queue.sent_batches) == 1


def test_late_observations_of_a_request_are_queued_together(capsys):
    langfuse = failing_langfuse()
    langfuse.queue = FakeQueue()
    deliver_requests(langfuse, (0, observations_of_request(1, 2, 3)))
    assert [
        [json.loads(body)["id"] for body in bodies] for bodies in langfuse.queue.sent_batches
    ] == [ids(1, 2, 3)]
    (line,) = log_lines(capsys)
    assert (line["event"], line["observations"]) == ("trace_queued", 3)


def test_observations_over_the_memory_budget_are_queued(capsys):
    langfuse = FakeLangfuse(queue=FakeQueue())
    text = json.dumps("x" * (delivery_budget.limit_bytes // 3))
    deliver_requests(langfuse, (0, observations_of_request(1, 2, 3, input=text)))
    assert langfuse.stored == stored_once(1, 2)
    assert len(langfuse.queue.bodies) == 1
    (line,) = log_lines(capsys)
    assert (line["event"], line["observations"]) == ("trace_queued", 1)


@dataclass
class FakeMessage:
    """A `QueueMessage`. `outcome` is "ack", or the seconds until the retry."""

    body: Any
    attempts: int = 1
    outcome: Any = None

    def ack(self) -> None:
        assert self.outcome is None
        self.outcome = "ack"

    def retry(self, seconds: int) -> None:
        assert self.outcome is None
        self.outcome = seconds


def queued_messages(*numbers: int, **changes: Any) -> list[FakeMessage]:
    """The messages that another isolate sent to the queue for these observations."""
    langfuse = FakeLangfuse(queue=FakeQueue())
    outbox._outboxes.clear()

    async def run() -> None:
        for number in numbers:
            await deliver_observations([observation(number, **changes)], QUEUE_SETTINGS, langfuse)

    virtual_time.run(run())
    outbox._outboxes.clear()
    return [FakeMessage(body) for body in langfuse.queue.bodies]


def consume(
    langfuse: FakeLangfuse, messages: Sequence[FakeMessage], settings: Settings = SETTINGS
) -> None:
    virtual_time.run(deliver_queue_messages(messages, settings, langfuse))


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_queue_messages_are_delivered_in_one_batch(version, capsys):
    langfuse = FakeLangfuse(version)
    messages = queued_messages(*range(1, 101))
    consume(langfuse, messages)
    assert batch_sizes(langfuse) == [100]
    assert [message.outcome for message in messages] == ["ack"] * 100
    assert log_lines(capsys) == []


def test_a_queue_message_results_in_the_same_upload():
    direct, from_queue = FakeLangfuse(), FakeLangfuse()
    unusual_fields = {"metadata": {"deep": json.loads("[" * 95 + "]" * 95)}, "input": '"\\ud83d ✓"'}
    deliver(direct, 0, **unusual_fields)
    consume(from_queue, queued_messages(1, **unusual_fields))
    assert direct.requests[0].body == from_queue.requests[0].body


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_queue_messages_of_a_span_and_attempts_result_in_the_same_upload(version):
    observations = [replace(sample, destination=DESTINATION) for sample in (SPAN, *ATTEMPTS)]
    direct, sender, consumer = (
        FakeLangfuse(version),
        FakeLangfuse(queue=FakeQueue()),
        FakeLangfuse(version),
    )
    deliver_requests(direct, (0, observations))
    outbox._outboxes.clear()
    deliver_requests(sender, (0, observations), settings=QUEUE_SETTINGS)
    outbox._outboxes.clear()
    consume(consumer, [FakeMessage(body) for body in sender.queue.bodies])
    assert [request.body for request in consumer.requests] == [direct.requests[0].body]


def test_a_queue_message_without_the_start_of_its_trace_is_delivered():
    (message,) = queued_messages(1)
    content = json.loads(message.body)
    del content["trace"]["started"]
    message.body = json.dumps(content)
    langfuse = FakeLangfuse()
    consume(langfuse, [message])
    assert (message.outcome, langfuse.stored) == ("ack", stored_once(1))


def test_an_undelivered_queue_message_is_retried_with_a_doubled_delay(capsys):
    messages = queued_messages(1, 2)
    messages[1].attempts = 4
    consume(failing_langfuse(), messages)
    assert [message.outcome for message in messages] == [10, 80]
    (line,) = log_lines(capsys)
    assert (line["event"], line["observations"]) == ("trace_delayed", 2)


def test_a_queue_message_is_retried_after_retry_after():
    async def respond(request):
        return HttpResponse(429, {"retry-after": "120"}, "")

    (message,) = queued_messages(1)
    consume(FakeLangfuse(respond=respond), [message])
    assert message.outcome == 120


def test_a_queue_message_is_retried_after_an_hour_at_most():
    async def respond(request):
        return HttpResponse(429, {"retry-after": "999999999"}, "")

    first, last = queued_messages(1, 2)
    last.attempts = 20
    consume(FakeLangfuse(respond=respond), [first, last])
    assert (first.outcome, last.outcome) == (3600, 3600)


def test_a_queue_message_with_invalid_fields_does_not_affect_others(capsys):
    good, *invalid = queued_messages(*range(1, 6))
    for message, (name, value) in zip(
        invalid, [("started", "x"), ("metadata", None), ("input", 5), ("usage", [1])], strict=True
    ):
        message.body = json.dumps({**json.loads(message.body), name: value})
    langfuse = FakeLangfuse()
    consume(langfuse, [*invalid, good])
    assert good.outcome == "ack"
    assert f"{1:016x}" in langfuse.stored
    assert all(message.outcome for message in invalid)


def test_a_queue_message_that_langfuse_refuses_is_acknowledged(capsys):
    async def respond(request):
        return HttpResponse(400, {}, "") if f"{2:016x}" in request.ids else None

    messages = queued_messages(1, 2, 3)
    consume(FakeLangfuse(respond=respond), messages)
    assert [message.outcome for message in messages] == ["ack"] * 3
    (line,) = log_lines(capsys)
    assert (line["event"], line["observations"]) == ("trace_not_delivered", 1)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"destination": "default"}',
        '{"destination": []}',
        '{"schema": 2, "destination": "default"}',
        b"not gzip",
    ],
)
def test_an_unreadable_queue_message_is_retried_and_logged(body, capsys):
    (good,) = queued_messages(1)
    bad = FakeMessage(body)
    langfuse = FakeLangfuse()
    consume(langfuse, [bad, good])
    assert (bad.outcome, good.outcome) == (10, "ack")
    (line,) = log_lines(capsys)
    assert line["event"] == "message_not_read"


def test_a_queue_message_for_an_unknown_project_is_retried(capsys):
    (message,) = queued_messages(1, destination=replace(DESTINATION, name="gone"))
    consume(FakeLangfuse(), [message])
    assert message.outcome == 10
    assert "gone" in log_lines(capsys)[0]["reason"]


def test_large_queue_messages_are_delivered_in_several_batches():
    langfuse = FakeLangfuse()
    messages = queued_messages(*range(1, 11), input=json.dumps("word " * 300_000))
    consume(langfuse, messages)
    assert [message.outcome for message in messages] == ["ack"] * 10
    assert len(langfuse.requests) > 1


def test_an_outage_ends_the_delivery_of_queue_messages_after_the_first_batch():
    langfuse = failing_langfuse()
    messages = queued_messages(*range(1, 41), input=json.dumps("word " * 300_000))
    consume(langfuse, messages)
    assert {message.outcome for message in messages} == {10}
    assert len(langfuse.requests) <= 30
