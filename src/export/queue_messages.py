"""Observations as messages of a Cloudflare Queue, and back.

A message is the JSON text of an object by the schema of `export.message_schema`. Up to the queue's
limit it is text; a larger one is gzipped. What is too large even then is truncated, or not sent to
the queue at all. https://developers.cloudflare.com/queues/platform/limits/
"""

from collections.abc import AsyncIterator, Mapping, Sequence

from core import strict_json
from core.limits import (
    MAX_MESSAGE_JSON_DEPTH,
    MAX_QUEUE_MESSAGE_BYTES,
    MAX_QUEUE_SEND_BYTES,
    MAX_QUEUE_SEND_MESSAGES,
    MAX_QUEUED_FIELD_BYTES,
    MAX_UNPACKED_MESSAGE_BYTES,
    MIN_QUEUED_FIELD_BYTES,
    QUEUE_MESSAGE_OVERHEAD_BYTES,
)
from core.observation import Observation
from core.platform import IsolatePlatform, MessageBody, TraceQueue
from core.strict_json import decode_utf8, to_json
from core.types import Destination, NetworkError
from export.batch import group_by_size
from export.message_schema import from_message, to_message
from redaction.truncation import truncate_observation


async def send_to_queue(
    observations: Sequence[Observation],
    queue: TraceQueue,
    platform: IsolatePlatform,
    *,
    truncate: bool,
) -> AsyncIterator[tuple[int, str]]:
    """Send observations to the queue, as one message each. Yields the index of each observation
    and why the queue did not accept it, "" where it did, as soon as this is known.

    An observation that is too large for a message has its input and output truncated if `truncate`
    is set, and is not sent otherwise.
    """
    packed: list[tuple[int, MessageBody]] = []
    for index, observation in enumerate(observations):
        body = await _message_body(observation, platform, truncate=truncate)
        if body is None:
            yield index, "too large for the queue"
        else:
            packed.append((index, body))
    for group in group_by_size(
        packed, _message_bytes, MAX_QUEUE_SEND_BYTES, MAX_QUEUE_SEND_MESSAGES
    ):
        failure = ""
        try:
            await queue.send([body for _, body in group])
        except NetworkError as error:
            failure = f"the queue did not take it: {error}"
        for index, _ in group:
            yield index, failure


async def read_message(
    body: MessageBody, destinations: Mapping[str, Destination], platform: IsolatePlatform
) -> Observation:
    """Return the observation in a message, whose body is JSON text or the same gzipped.

    `destinations` are the deployment's Langfuse projects by name. Raises ValueError with a
    description where the body is not an observation in a readable version, or names none of these.
    """
    if isinstance(body, bytes):
        try:
            body = decode_utf8(await platform.gunzip(body, MAX_UNPACKED_MESSAGE_BYTES))
        except ValueError as error:
            raise ValueError(f"it cannot be unpacked: {error}") from error
    try:
        return from_message(strict_json.parse(body, MAX_MESSAGE_JSON_DEPTH), destinations)
    except ValueError as error:
        raise ValueError(f"not an observation for this deployment: {error!s:.100}") from error


async def _message_body(
    observation: Observation, platform: IsolatePlatform, *, truncate: bool
) -> MessageBody | None:
    """Return the body of an observation's message: JSON text, or gzipped where the text is larger
    than a message may be.

    An observation that is too large even then has its input and output truncated, in steps, if
    `truncate` is set. None where it is not set, or where the shortest step does not fit.
    """
    limit = MAX_QUEUED_FIELD_BYTES
    while True:
        data = to_json(to_message(observation)).encode("utf-8", "replace")
        if len(data) <= MAX_QUEUE_MESSAGE_BYTES:
            return data.decode()
        packed = await platform.gzip(data)
        if len(packed) <= MAX_QUEUE_MESSAGE_BYTES:
            return packed
        if not truncate or limit < MIN_QUEUED_FIELD_BYTES:
            return None
        observation = truncate_observation(observation, limit)
        limit //= 2


def _message_bytes(packed: tuple[int, MessageBody]) -> int:
    """The size in bytes with which a message counts for the queue's limits: that of its body, and
    the queue's overhead."""
    body = packed[1]
    return len(body.encode() if isinstance(body, str) else body) + QUEUE_MESSAGE_OVERHEAD_BYTES
