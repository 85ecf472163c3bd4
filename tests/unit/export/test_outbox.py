"""When observations go out, together or alone, and what becomes of those that do not."""

import asyncio
import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from core.memory_budget import delivery_budget
from core.types import HttpResponse, NetworkError
from export import outbox
from export.outbox import deliver_observations, deliver_queue_messages, get_outbox
from settings.load import Destination, Settings
from tests.unit import virtual_time
from tests.unit.langfuse import DESTINATION, SETTINGS, Langfuse, observation
from tests.unit.samples import ATTEMPTS, SPAN
from tracing import Observation


@pytest.fixture(autouse=True)
def _a_new_isolate(monkeypatch):
    monkeypatch.setattr(outbox, "_outboxes", {})


@dataclass
class Queue:
    """A queue that keeps what it gets, or fails."""

    error: NetworkError | None = None
    sends: list[list[Any]] = field(default_factory=list)

    async def send(self, bodies: Sequence[Any]) -> None:
        if self.error:
            raise self.error
        self.sends.append(list(bodies))

    @property
    def bodies(self) -> list[Any]:
        return [body for bodies in self.sends for body in bodies]


def logs(capsys) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def deliver(langfuse: Langfuse, *at: float, settings: Settings = SETTINGS, **changes: Any) -> float:
    """Deliver an observation at each of these times, in seconds; out: when all were done."""

    async def one(number: int, when: float) -> None:
        await asyncio.sleep(when)
        await deliver_observations([observation(number, **changes)], settings, langfuse)

    async def run() -> float:
        began = virtual_time.now()
        await asyncio.gather(*(one(number, when) for number, when in enumerate(at or (0,), 1)))
        return virtual_time.now() - began

    return virtual_time.run(run())


def batched(flush_at: int, interval: float = 1.0, **changes: Any) -> Settings:
    return replace(SETTINGS, flush_at=flush_at, flush_interval_seconds=interval, **changes)


def sizes(langfuse: Langfuse) -> list[int]:
    return [len(set(request.ids)) for request in langfuse.requests]


def test_each_goes_out_at_once_by_default(capsys):
    langfuse = Langfuse()
    # But for the moment in which one of them asks for the version.
    assert deliver(langfuse, 0, 0, 0) < 0.1
    assert sizes(langfuse) == [1, 1, 1]
    assert logs(capsys) == []


def test_so_many_go_out_together():
    langfuse = Langfuse()
    deliver(langfuse, 0, 0.1, 0.2, 0.3, 0.4, settings=batched(2))
    assert sizes(langfuse) == [2, 2, 1]
    assert langfuse.times == [0, 0.2, 1.3]
    assert set(langfuse.stored.values()) == {1}


def test_a_request_alone_waits_no_longer_than_the_interval():
    langfuse = Langfuse()
    assert deliver(langfuse, 0, settings=batched(10, 0.25)) == 0.25
    assert langfuse.stored == {f"{1:016x}": 1}


def test_nobody_depends_on_who_took_his_observation(capsys):
    """The request that sends both hangs in its first attempt, for ever."""
    langfuse = Langfuse()

    async def play(request):
        if len(langfuse.requests) == 1:
            raise asyncio.CancelledError  # its request ended, as the platform ends one

    langfuse.play = play

    async def run() -> None:
        first = asyncio.create_task(deliver_observations([observation(1)], batched(2), langfuse))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(deliver_observations([observation(2)], batched(2), langfuse))
        await asyncio.gather(first, second, return_exceptions=True)

    virtual_time.run(run())
    assert langfuse.stored == {f"{1:016x}": 1}
    assert [set(r.ids) for r in langfuse.requests] == [{f"{1:016x}", f"{2:016x}"}, {f"{1:016x}"}]
    assert logs(capsys) == []


def test_who_flushes_late_does_not_send_what_is_stored():
    langfuse = Langfuse()

    async def play(request):
        await asyncio.sleep(1.5)  # longer than the first one's interval still has

    langfuse.play = play
    deliver(langfuse, 0, 0.5, settings=batched(2))
    assert sizes(langfuse) == [2]


def test_in_an_outage_they_stay_together(capsys):
    langfuse = Langfuse()

    async def play(request):
        return HttpResponse(503, {}, "") if langfuse.now() < 1010 else None

    langfuse.play = play
    deliver(langfuse, 0, 0.5, settings=batched(2))
    assert set(sizes(langfuse)) == {2}
    assert len(langfuse.stored) == 2
    assert logs(capsys) == []


def test_nobody_sends_what_langfuse_wants_later():
    langfuse = Langfuse()

    async def play(request):
        if len(langfuse.requests) == 1:
            return HttpResponse(429, {"retry-after": "12"}, "")
        return None

    langfuse.play = play
    deliver(langfuse, 0, 0.1, 0.2, settings=batched(3))
    assert sizes(langfuse) == [3, 3]
    assert langfuse.times == [0, 12]


def test_nobody_sends_what_langfuse_wants_too_late(capsys):
    langfuse = failing(429, **{"retry-after": "3600"})
    deliver(langfuse, 0, 0.1, 0.2, settings=batched(3))
    assert sizes(langfuse) == [3]
    (line,) = logs(capsys)
    assert (line["reason"], line["observations"]) == ("HTTP 429", 3)


def test_destinations_do_not_travel_together():
    other = Destination("other", DESTINATION.base_url, "pk-lf-2", "sk-lf-2")
    langfuse = Langfuse()

    async def run() -> None:
        await asyncio.gather(
            *(
                deliver_observations(
                    [observation(n, destination=DESTINATION if n % 2 else other)],
                    batched(3),
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


def failing(status: int = 503, **headers: str) -> Langfuse:
    async def play(request):
        return HttpResponse(status, headers, "oops")

    return Langfuse(play=play)


def test_what_is_lost_is_logged_once(capsys):
    deliver(failing(), 0)
    (line,) = logs(capsys)
    assert line == {
        "event": "trace_not_delivered",
        "reason": "HTTP 503",
        "tries": 7,
        "observations": 1,
        "trace_ids": f"{1:032x}",
    }


def test_each_of_a_batch_that_is_lost_is_logged_once(capsys):
    deliver(failing(), 0, 0.1, 0.2, settings=batched(3))
    lines = logs(capsys)
    assert sorted(line["trace_ids"] for line in lines) == [f"{n:032x}" for n in (1, 2, 3)]


def test_a_wrong_key_is_logged_once_a_minute(capsys):
    deliver(failing(401), 0, 10, 20, 61, 62)
    lines = logs(capsys)
    # The second says how many there were in the meantime.
    assert [line["observations"] for line in lines] == [1, 2, 1]
    assert "are the Langfuse keys right?" in lines[0]["reason"]


def test_what_was_not_logged_is_when_the_key_is_right_again(capsys):
    langfuse = Langfuse()

    async def play(request):
        return HttpResponse(401, {}, "") if langfuse.now() < 1005 else None

    langfuse.play = play
    deliver(langfuse, 0, 1, 2, 3, 6)
    lines = logs(capsys)
    assert [line["observations"] for line in lines] == [1, 3]
    assert lines[1]["event"] == "trace_not_delivered"


def test_no_secret_is_in_what_health_shows():
    secrets = (DESTINATION.secret_key,)
    settings = replace(SETTINGS, secrets=secrets)
    langfuse = Langfuse(play=None)

    async def play(request):
        said = json.dumps({"message": f"{DESTINATION.secret_key} is not valid"})
        return HttpResponse(401, {}, said)

    langfuse.play = play
    deliver(langfuse, 0, settings=settings)
    state = get_outbox(DESTINATION, settings).status()
    assert "[redacted] is not valid" in state["last"]
    assert state["dropped"] == 1


def test_debug_logs_what_was_stored(capsys):
    deliver(Langfuse(), settings=replace(SETTINGS, debug=True))
    (line,) = logs(capsys)
    assert (line["event"], line["observations"]) == ("trace_delivered", 1)


def test_what_waits_is_bounded(capsys):
    langfuse = failing()
    text = json.dumps("x" * (delivery_budget.limit_bytes // 3))
    deliver(langfuse, 0, 0, 0, input=text)
    lines = logs(capsys)
    assert [line["reason"] for line in lines].count("too much is waiting for Langfuse already") == 1
    assert len(lines) == 3
    assert delivery_budget.used_bytes == 0


# Requests with several observations.

OTHER = Destination("other", DESTINATION.base_url, "pk-lf-2", "sk-lf-2")


def several(*numbers: int, **changes: Any) -> list[Observation]:
    """The observations of one request, all in the first one's trace."""
    trace = observation(numbers[0]).trace
    return [replace(observation(number, **changes), trace=trace) for number in numbers]


def deliver_together(
    langfuse: Langfuse, *requests: tuple[float, list[Observation]], settings: Settings = SETTINGS
) -> float:
    """Deliver each request's observations at its time, in seconds; out: when all were done."""

    async def one(when: float, observations: list[Observation]) -> None:
        await asyncio.sleep(when)
        await deliver_observations(observations, settings, langfuse)

    async def run() -> float:
        began = virtual_time.now()
        jobs = [one(when, observations) for when, observations in requests]
        # As the platform ends a request: the others go on.
        await asyncio.gather(*map(asyncio.ensure_future, jobs), return_exceptions=True)
        return virtual_time.now() - began

    return virtual_time.run(run())


def ids(*numbers: int) -> list[str]:
    return [f"{number:016x}" for number in numbers]


def once(*numbers: int) -> dict[str, int]:
    """What Langfuse has stored, each once."""
    return dict.fromkeys(ids(*numbers), 1)


def sent(langfuse: Langfuse) -> list[list[str]]:
    """The observations in each upload."""
    return [sorted(set(request.ids)) for request in langfuse.requests]


def partly(request, status: int, *numbers: int) -> HttpResponse:
    """An ingestion answer that takes all but the events of these observations."""
    events = [event["id"] for event in json.loads(request.body)["batch"]]
    wrong = [event for event in events if event[:16] in ids(*numbers)]
    return HttpResponse(
        207,
        {},
        json.dumps(
            {
                "successes": [{"id": id, "status": 201} for id in events if id not in wrong],
                "errors": [{"id": id, "status": status, "message": "oops"} for id in wrong],
            }
        ),
    )


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_a_requests_observations_go_out_in_one_upload(version, capsys):
    langfuse = Langfuse(version)
    assert deliver_together(langfuse, (0, several(1, 2, 3))) < 0.1
    assert sent(langfuse) == [ids(1, 2, 3)]
    assert langfuse.stored == once(1, 2, 3)
    assert get_outbox(DESTINATION, SETTINGS).counts["stored"] == 3
    assert logs(capsys) == []


def test_a_request_may_have_nothing_to_tell():
    langfuse = Langfuse(queue=Queue())
    for settings in (SETTINGS, QUEUED, batched(2)):
        assert deliver_together(langfuse, (0, []), settings=settings) == 0
        virtual_time.run(deliver_observations([], settings, langfuse))
    assert (langfuse.requests, langfuse.queue.sends, langfuse.asked) == ([], [], 0)


def test_observations_are_what_fills_a_batch():
    langfuse = Langfuse()
    done = deliver_together(
        langfuse, (0, several(1, 2, 3)), (0.5, several(4, 5)), settings=batched(5)
    )
    assert sent(langfuse) == [ids(1, 2, 3, 4, 5)]
    assert langfuse.stored == once(1, 2, 3, 4, 5)
    assert done == 1.0
    outbox._outboxes.clear()
    more = Langfuse()
    assert deliver_together(more, (0, several(1, 2, 3)), settings=batched(2)) < 0.1
    assert sent(more) == [ids(1, 2, 3)]


def test_several_alone_wait_no_longer_than_the_interval():
    langfuse = Langfuse()
    assert deliver_together(langfuse, (0, several(1, 2, 3)), settings=batched(10, 0.25)) == 0.25
    assert sent(langfuse) == [ids(1, 2, 3)]


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_one_that_is_malformed_costs_the_request_no_other(version, capsys):
    async def play(request):
        return HttpResponse(400, {}, "oops") if ids(2)[0] in request.ids else None

    langfuse = Langfuse(version, play=play)
    deliver_together(langfuse, (0, several(1, 2, 3)))
    assert langfuse.stored == once(1, 3)
    (line,) = logs(capsys)
    assert (line["event"], line["observations"]) == ("trace_not_delivered", 1)


def test_what_somebody_else_settles_of_several_is_not_sent_again(capsys):
    """The second request takes the first one's three, gets two of them stored, and ends."""
    langfuse = Langfuse()

    async def play(request):
        if len(langfuse.requests) == 1:
            langfuse.stored.update(once(1, 3, 4))
            return partly(request, 500, 2)
        if len(langfuse.requests) == 2:
            raise asyncio.CancelledError
        return None

    langfuse.play = play
    first, second = (0, several(1, 2, 3)), (0.5, several(4))
    deliver_together(langfuse, first, second, settings=batched(4))
    assert sent(langfuse) == [ids(1, 2, 3, 4), ids(2), ids(2)]
    assert langfuse.stored == once(1, 2, 3, 4)
    assert delivery_budget.used_bytes == 0
    assert logs(capsys) == []


def test_several_wait_for_whoever_took_them_as_long_as_that_one_goes_on():
    langfuse = Langfuse()

    async def play(request):
        await asyncio.sleep(3)  # longer than the first one's interval still has

    langfuse.play = play
    first, second = (0, several(1, 2, 3)), (0.5, several(4))
    assert deliver_together(langfuse, first, second, settings=batched(4)) < 5.5
    assert sent(langfuse) == [ids(1, 2, 3, 4)]


def test_what_is_lost_of_a_request_is_one_line_with_its_trace_once(capsys):
    deliver_together(failing(), (0, several(1, 2, 3)))
    (line,) = logs(capsys)
    assert (line["observations"], line["trace_ids"]) == (3, f"{1:032x}")
    assert get_outbox(DESTINATION, SETTINGS).counts["dropped"] == 3


def test_of_several_those_that_fit_into_memory_are_delivered(capsys):
    text = json.dumps("x" * (delivery_budget.limit_bytes // 3))
    langfuse = Langfuse()
    deliver_together(langfuse, (0, several(1, 2, 3, input=text)))
    assert langfuse.stored == once(1, 2)
    (line,) = logs(capsys)
    assert line["event"] == "trace_not_delivered"
    assert line["reason"] == "too much is waiting for Langfuse already"
    assert line["observations"] == 1
    assert delivery_budget.used_bytes == 0


def test_every_one_of_several_counts_in_memory():
    text = json.dumps("x" * (delivery_budget.limit_bytes // 4))
    used: list[int] = []

    async def play(request):
        used.append(delivery_budget.used_bytes)

    deliver_together(Langfuse(play=play), (0, several(1, 2, 3, input=text)))
    assert used
    assert min(used) > 3 * len(text)


def test_what_is_given_up_is_let_go_before_the_others_are_stored():
    text = json.dumps("x" * (delivery_budget.limit_bytes // 3))
    langfuse = Langfuse()
    alive: list[bool] = []

    async def run() -> None:
        observations = several(1, 2, 3, input=text)
        dropped = weakref.ref(observations[2])

        async def play(request):
            alive.append(dropped() is not None)

        langfuse.play = play
        job = deliver_observations([*observations], SETTINGS, langfuse)
        del observations
        await job

    virtual_time.run(run())
    assert set(alive) == {False}


def of(destination: Destination, *numbers: int) -> list[Observation]:
    return several(*numbers, destination=destination)


def test_destinations_never_mix_whatever_becomes_of_a_request(capsys):
    """Two projects, each with requests of three observations, in turn: the one that delivers the
    second project's first ends early, there is an outage, and one observation is malformed."""
    langfuse = Langfuse()

    async def play(request):
        if ids(11)[0] in request.ids:
            raise asyncio.CancelledError
        if langfuse.times[-1] < 4:
            return HttpResponse(503, {}, "")
        return HttpResponse(400, {}, "") if ids(8)[0] in request.ids else None

    langfuse.play = play
    requests = [
        (n / 10, of(OTHER if n % 2 else DESTINATION, 3 * n + 1, 3 * n + 2, 3 * n + 3))
        for n in range(6)
    ]
    deliver_together(langfuse, *requests, settings=batched(6))
    whose = {o.id: o.destination.credential for _, request in requests for o in request}
    keys = {id: set[str]() for id in whose}
    for request in langfuse.requests:
        for id in request.ids:
            keys[id].add(request.headers["authorization"])
    assert keys == {id: {f"Basic {key}"} for id, key in whose.items()}
    # What the request that ended had to deliver itself is lost, and no other's.
    assert langfuse.stored == {id: 1 for id in whose if id not in ids(8, 10, 11, 12)}
    (line,) = logs(capsys)
    assert (line["event"], line["observations"]) == ("trace_not_delivered", 1)
    assert delivery_budget.used_bytes == 0


def test_observations_with_two_destinations_are_nobodys(capsys):
    langfuse = Langfuse()
    mixed = [*of(DESTINATION, 1), *of(OTHER, 2)]
    with pytest.raises(ValueError, match="unpack"):
        virtual_time.run(deliver_observations(mixed, SETTINGS, langfuse))
    assert langfuse.requests == []


# The queue.


def test_what_is_late_goes_to_the_queue(capsys):
    langfuse = failing()
    langfuse.queue = Queue()
    deliver(langfuse, 0)
    (line,) = logs(capsys)
    assert (line["event"], line["reason"]) == ("trace_queued", "HTTP 503")
    (body,) = langfuse.queue.bodies
    assert json.loads(body)["destination"] == "default"
    assert DESTINATION.secret_key not in body


class SlowQueue(Queue):
    async def send(self, bodies: Sequence[Any]) -> None:
        await asyncio.sleep(2.5)
        await super().send(bodies)


def test_what_one_hands_over_no_other_sends(capsys):
    """While the queue takes its time, the first request looks after its own observation."""

    async def play(request):
        return HttpResponse(429, {"retry-after": "60"}, "")

    langfuse = Langfuse(play=play, queue=SlowQueue())
    deliver(langfuse, 0, 0.9, settings=batched(2, upload_timeout_seconds=0.5))
    assert sizes(langfuse) == [2]
    assert len(langfuse.queue.bodies) == 2
    assert [line["observations"] for line in logs(capsys)] == [2]


@pytest.mark.parametrize("status", [401, 404])
def test_what_a_new_key_or_url_may_save_goes_to_the_queue(status):
    langfuse = failing(status)
    langfuse.queue = Queue()
    deliver(langfuse, 0)
    assert len(langfuse.queue.bodies) == 1


def test_what_langfuse_refuses_does_not(capsys):
    langfuse = failing(400)
    langfuse.queue = Queue()
    deliver(langfuse, 0)
    assert langfuse.queue.bodies == []
    (line,) = logs(capsys)
    assert line["event"] == "trace_not_delivered"


def test_what_the_queue_does_not_take_is_logged(capsys):
    langfuse = failing()
    langfuse.queue = Queue(NetworkError("queue overloaded"))
    deliver(langfuse, 0)
    (line,) = logs(capsys)
    assert line["event"] == "trace_not_delivered"
    assert line["reason"] == "HTTP 503; the queue did not take it: queue overloaded"


QUEUED = replace(SETTINGS, delivery="queue")


def test_everything_may_go_by_the_queue(capsys):
    langfuse = Langfuse(queue=Queue())
    deliver(langfuse, 0, 0, settings=QUEUED)
    assert len(langfuse.queue.bodies) == 2
    assert langfuse.requests == []
    assert logs(capsys) == []


def test_without_the_queue_it_goes_directly():
    langfuse = Langfuse(queue=Queue(NetworkError("down")))
    deliver(langfuse, 0, settings=QUEUED)
    assert len(langfuse.stored) == 1


def random_text(length: int) -> str:
    """A text that hardly packs."""
    from random import Random

    return "".join(Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


def test_what_is_large_is_packed():
    langfuse = Langfuse(queue=Queue())
    deliver(langfuse, 0, settings=QUEUED, input=json.dumps("word " * 100_000))
    (body,) = langfuse.queue.bodies
    assert isinstance(body, bytes)
    assert len(body) < 10_000


def test_what_is_too_large_packed_goes_directly():
    langfuse = Langfuse(queue=Queue())
    deliver(langfuse, 0, settings=QUEUED, input=json.dumps(random_text(400_000)))
    assert langfuse.queue.bodies == []
    assert len(langfuse.stored) == 1


def test_and_is_cut_last():
    langfuse = failing()
    langfuse.queue = Queue()
    deliver(langfuse, 0, settings=QUEUED, input=json.dumps(random_text(400_000)))
    (body,) = langfuse.queue.bodies
    assert len(body) <= 128_000


def test_what_the_queue_takes_of_a_request_is_not_sent_directly():
    langfuse = Langfuse(queue=Queue())
    first, second, third = several(1, 2, 3)
    large = replace(second, input=json.dumps(random_text(400_000)))
    deliver_together(langfuse, (0, [first, large, third]), settings=QUEUED)
    assert [json.loads(body)["id"] for body in langfuse.queue.bodies] == ids(1, 3)
    assert sent(langfuse) == [ids(2)]
    assert langfuse.stored == once(2)
    assert len(langfuse.queue.sends) == 1


def test_several_that_are_late_go_to_the_queue_together(capsys):
    langfuse = failing()
    langfuse.queue = Queue()
    deliver_together(langfuse, (0, several(1, 2, 3)))
    assert [[json.loads(body)["id"] for body in bodies] for bodies in langfuse.queue.sends] == [
        ids(1, 2, 3)
    ]
    (line,) = logs(capsys)
    assert (line["event"], line["observations"]) == ("trace_queued", 3)


def test_of_several_what_does_not_fit_into_memory_goes_to_the_queue(capsys):
    langfuse = Langfuse(queue=Queue())
    text = json.dumps("x" * (delivery_budget.limit_bytes // 3))
    deliver_together(langfuse, (0, several(1, 2, 3, input=text)))
    assert langfuse.stored == once(1, 2)
    assert len(langfuse.queue.bodies) == 1
    (line,) = logs(capsys)
    assert (line["event"], line["observations"]) == ("trace_queued", 1)


@dataclass
class Message:
    """A message as the queue brings it, and what became of it."""

    body: Any
    attempts: int = 1
    outcome: Any = None

    def ack(self) -> None:
        assert self.outcome is None
        self.outcome = "ack"

    def retry(self, seconds: int) -> None:
        assert self.outcome is None
        self.outcome = seconds


def queued(*numbers: int, **changes: Any) -> list[Message]:
    """Messages as a delivery in another isolate makes them."""
    langfuse = Langfuse(queue=Queue())
    outbox._outboxes.clear()

    async def run() -> None:
        for number in numbers:
            await deliver_observations([observation(number, **changes)], QUEUED, langfuse)

    virtual_time.run(run())
    outbox._outboxes.clear()
    return [Message(body) for body in langfuse.queue.bodies]


def consume(langfuse: Langfuse, messages: Sequence[Message], settings: Settings = SETTINGS) -> None:
    virtual_time.run(deliver_queue_messages(messages, settings, langfuse))


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_messages_are_delivered_together(version, capsys):
    langfuse = Langfuse(version)
    messages = queued(*range(1, 101))
    consume(langfuse, messages)
    assert sizes(langfuse) == [100]
    assert [message.outcome for message in messages] == ["ack"] * 100
    assert logs(capsys) == []


def test_a_message_gives_the_same_observation():
    direct, queued_ = Langfuse(), Langfuse()
    odd = {"metadata": {"deep": json.loads("[" * 95 + "]" * 95)}, "input": '"\\ud83d ✓"'}
    deliver(direct, 0, **odd)
    consume(queued_, queued(1, **odd))
    assert direct.requests[0].body == queued_.requests[0].body


@pytest.mark.parametrize("version", ["3.120.0", "4.16.0"])
def test_messages_give_the_same_span_and_attempts(version):
    tree = [replace(found, destination=DESTINATION) for found in (SPAN, *ATTEMPTS)]
    direct, sender, consumer = Langfuse(version), Langfuse(queue=Queue()), Langfuse(version)
    deliver_together(direct, (0, tree))
    outbox._outboxes.clear()
    deliver_together(sender, (0, tree), settings=QUEUED)
    outbox._outboxes.clear()
    consume(consumer, [Message(body) for body in sender.queue.bodies])
    assert [request.body for request in consumer.requests] == [direct.requests[0].body]


def test_a_message_may_lack_when_its_trace_began():
    (message,) = queued(1)
    said = json.loads(message.body)
    del said["trace"]["started"]
    message.body = json.dumps(said)
    langfuse = Langfuse()
    consume(langfuse, [message])
    assert (message.outcome, langfuse.stored) == ("ack", once(1))


def test_a_message_comes_again_later(capsys):
    messages = queued(1, 2)
    messages[1].attempts = 4
    consume(failing(), messages)
    assert [message.outcome for message in messages] == [10, 80]
    (line,) = logs(capsys)
    assert (line["event"], line["observations"]) == ("trace_delayed", 2)


def test_a_message_waits_as_long_as_langfuse_says():
    async def play(request):
        return HttpResponse(429, {"retry-after": "120"}, "")

    (message,) = queued(1)
    consume(Langfuse(play=play), [message])
    assert message.outcome == 120


def test_a_message_does_not_wait_beyond_an_hour():
    async def play(request):
        return HttpResponse(429, {"retry-after": "999999999"}, "")

    first, last = queued(1, 2)
    last.attempts = 20
    consume(Langfuse(play=play), [first, last])
    assert (first.outcome, last.outcome) == (3600, 3600)


def test_a_message_that_makes_no_sense_fails_no_other(capsys):
    good, *odd = queued(*range(1, 6))
    for message, (name, value) in zip(
        odd, [("started", "x"), ("metadata", None), ("input", 5), ("usage", [1])], strict=True
    ):
        message.body = json.dumps({**json.loads(message.body), name: value})
    langfuse = Langfuse()
    consume(langfuse, [*odd, good])
    assert good.outcome == "ack"
    assert f"{1:016x}" in langfuse.stored
    assert all(message.outcome for message in odd)


def test_a_refused_message_does_not_come_again(capsys):
    async def play(request):
        return HttpResponse(400, {}, "") if f"{2:016x}" in request.ids else None

    messages = queued(1, 2, 3)
    consume(Langfuse(play=play), messages)
    assert [message.outcome for message in messages] == ["ack"] * 3
    (line,) = logs(capsys)
    assert (line["event"], line["observations"]) == ("trace_not_delivered", 1)


@pytest.mark.parametrize(
    "body",
    ["", "nonsense", "[]", "{}", '{"destination": "default"}', b"not gzip", '{"destination": []}'],
)
def test_a_message_that_says_nothing_ends_with_the_dead_letters(body, capsys):
    (good,) = queued(1)
    bad = Message(body)
    langfuse = Langfuse()
    consume(langfuse, [bad, good])
    assert (bad.outcome, good.outcome) == (10, "ack")
    (line,) = logs(capsys)
    assert line["event"] == "message_not_read"


def test_a_message_for_a_project_that_is_gone_waits(capsys):
    (message,) = queued(1, destination=replace(DESTINATION, name="gone"))
    consume(Langfuse(), [message])
    assert message.outcome == 10
    assert "gone" in logs(capsys)[0]["reason"]


def test_large_messages_are_delivered_in_turn():
    langfuse = Langfuse()
    messages = queued(*range(1, 11), input=json.dumps("word " * 300_000))
    consume(langfuse, messages)
    assert [message.outcome for message in messages] == ["ack"] * 10
    assert len(langfuse.requests) > 1


def test_while_langfuse_is_down_only_the_first_of_them_are_tried():
    langfuse = failing()
    messages = queued(*range(1, 41), input=json.dumps("word " * 300_000))
    consume(langfuse, messages)
    assert {message.outcome for message in messages} == {10}
    assert len(langfuse.requests) <= 30
