"""Observations as messages of a Cloudflare Queue, and back.

A message holds an observation as JSON and the name of its destination, never its keys. Up to the
queue's limit it is text, over it gzipped bytes, and what is too large even so is left to be sent
directly or cut. https://developers.cloudflare.com/queues/platform/limits/
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import strict_json
from config import Destination
from exporter import Pending
from fitting import grouped
from redaction import to_json
from tracing import Observation, Trace, shortened
from vocabulary import NetworkError

# 128 KB a message and 256 KB a send, with what the queue itself adds to each.
MAX_MESSAGE, MAX_SEND, ADDED = 127_000, 255_000, 100
MOST_MESSAGES = 100
# What a message may hold unpacked.
MAX_UNPACKED = 8 * 1024 * 1024
# Of all JSON in here only metadata and parameters are nested, each in two more levels than before.
DEPTH = 110
LONGEST_CUT, SHORTEST_CUT = 200_000, 1000

Body = str | bytes


class Queue(Protocol):
    """A queue's producer."""

    async def send(self, bodies: Sequence[Body]) -> None:
        """Send these messages together. Raises `NetworkError`, and then none is sent."""
        ...


class Platform(Protocol):
    """What this module asks of the runtime."""

    @property
    def queue(self) -> Queue | None:
        """The deployment's queue, None where it has none."""
        ...

    async def gzip(self, data: bytes) -> bytes: ...

    async def gunzip(self, data: bytes, limit: int) -> bytes:
        """Raises `ValueError` for over `limit` bytes, and for what is not gzip."""
        ...


async def enqueue(
    batch: Sequence[Pending], queue: Queue, platform: Platform, *, cut: bool
) -> list[Pending]:
    """Send observations to the queue. Out: those that it took, settled; the others have a reason.

    One that is too large for a message is cut if `cut` is set, and else not sent.
    """
    packed: list[tuple[Pending, Body]] = []
    for pending in batch:
        body = await _body(pending.observation, platform, cut=cut)
        if body is None:
            _note(pending, "too large for the queue")
        else:
            packed.append((pending, body))
    taken: list[Pending] = []
    for group in grouped(packed, _size, MAX_SEND, MOST_MESSAGES):
        try:
            await queue.send([body for _, body in group])
        except NetworkError as error:
            for pending, _ in group:
                _note(pending, f"the queue did not take it: {error}")
            continue
        for pending, _ in group:
            pending.settled = True
            taken.append(pending)
    return taken


def _note(pending: Pending, reason: str) -> None:
    pending.reason = f"{pending.reason}; {reason}" if pending.reason else reason


async def unpack(
    body: Body, destinations: Mapping[str, Destination], platform: Platform
) -> Observation:
    """The observation in a message. Raises ValueError, which says what is wrong with it."""
    if isinstance(body, bytes):
        try:
            body = strict_json.text_of(await platform.gunzip(body, MAX_UNPACKED))
        except ValueError as error:
            raise ValueError(f"it cannot be unpacked: {error}") from error
    try:
        said: dict[str, Any] = strict_json.parse(body, DEPTH)
        destination = destinations[said["destination"]]
        if not all(isinstance(said[name], str | None) for name in ("input", "output")):
            raise TypeError("content that is no text")
        trace = {**said["trace"], "tags": tuple(said["trace"]["tags"])}
        return Observation(**{**said, "destination": destination, "trace": Trace(**trace)})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"not an observation for this deployment: {error!r:.100}") from error


async def _body(observation: Observation, platform: Platform, *, cut: bool) -> Body | None:
    limit = LONGEST_CUT
    while True:
        data = _pack(observation).encode("utf-8", "replace")
        if len(data) <= MAX_MESSAGE:
            return data.decode()
        packed = await platform.gzip(data)
        if len(packed) <= MAX_MESSAGE:
            return packed
        if not cut or limit < SHORTEST_CUT:
            return None
        observation = shortened(observation, limit)
        limit //= 2


def _pack(observation: Observation) -> str:
    destination, trace = observation.destination.name, vars(observation.trace)
    return to_json({**vars(observation), "destination": destination, "trace": trace})


def _size(packed: tuple[Pending, Body]) -> int:
    body = packed[1]
    return len(body.encode() if isinstance(body, str) else body) + ADDED
