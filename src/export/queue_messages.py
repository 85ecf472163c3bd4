"""Observations as messages of a Cloudflare Queue, and back.

A message is an observation as JSON, with the name of its destination but never with its keys. Up to
the queue's limit it is text; a larger one is gzipped. What is too large even then is truncated, or
not sent to the queue at all. https://developers.cloudflare.com/queues/platform/limits/
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
from core.observation import ModelCall, Observation, Trace
from core.platform import IsolatePlatform, MessageBody, TraceQueue
from core.strict_json import decode_utf8, to_json
from core.types import Destination, NetworkError
from export.batch import group_by_size
from export.exporter import PendingObservation
from redaction.truncation import truncate_observation

# Fields whose names differ from the names in a message. A queue may hold messages of an older
# version for days, so the names in a message must not change.
_OBSERVATION_MEMBERS = {
    "started_at": "started",
    "ended_at": "ended",
    "completion_started_at": "completion_started",
}

_TRACE_MEMBERS = {"is_existing": "joined", "started_at": "started"}


async def send_to_queue(
    batch: Sequence[PendingObservation],
    queue: TraceQueue,
    platform: IsolatePlatform,
    *,
    truncate: bool,
) -> list[PendingObservation]:
    """Send observations to the queue, as one message each. Returns those that the queue accepted,
    which are settled; the others have the failure in their `reason`.

    An observation that is too large for a message has its input and output truncated if `truncate`
    is set, and is not sent otherwise.
    """
    packed: list[tuple[PendingObservation, MessageBody]] = []
    for pending in batch:
        body = await _message_body(pending.observation, platform, truncate=truncate)
        if body is None:
            _add_reason(pending, "too large for the queue")
        else:
            packed.append((pending, body))
    accepted: list[PendingObservation] = []
    for group in group_by_size(
        packed, _message_bytes, MAX_QUEUE_SEND_BYTES, MAX_QUEUE_SEND_MESSAGES
    ):
        try:
            await queue.send([body for _, body in group])
        except NetworkError as error:
            for pending, _ in group:
                _add_reason(pending, f"the queue did not take it: {error}")
            continue
        for pending, _ in group:
            pending.is_settled = True
            accepted.append(pending)
    return accepted


def _add_reason(pending: PendingObservation, reason: str) -> None:
    pending.reason = f"{pending.reason}; {reason}" if pending.reason else reason


async def read_message(
    body: MessageBody, destinations: Mapping[str, Destination], platform: IsolatePlatform
) -> Observation:
    """Return the observation in a message, whose body is JSON text or the same gzipped.

    `destinations` are the deployment's Langfuse projects by name. Raises ValueError with a
    description where the body is not an observation, or where it names none of these.
    """
    if isinstance(body, bytes):
        try:
            body = decode_utf8(await platform.gunzip(body, MAX_UNPACKED_MESSAGE_BYTES))
        except ValueError as error:
            raise ValueError(f"it cannot be unpacked: {error}") from error
    try:
        message: dict[str, Any] = strict_json.parse(body, MAX_MESSAGE_JSON_DEPTH)
        if not all(isinstance(message[name], str | None) for name in ("input", "output")):
            raise TypeError("content that is no text")
        trace = _from_members(message["trace"], _TRACE_MEMBERS)
        observation = _from_members(message, _OBSERVATION_MEMBERS)
        observation["trace"] = Trace(**{**trace, "tags": tuple(trace["tags"])})
        observation["destination"] = destinations[observation["destination"]]
        if call := observation.get("model_call"):  # messages of version 0.1.0 have none
            reasons = tuple(call["finish_reasons"])
            observation["model_call"] = ModelCall(**{**call, "finish_reasons": reasons})
        return Observation(**observation)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"not an observation for this deployment: {error!r:.100}") from error


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
        data = _to_message_json(observation).encode("utf-8", "replace")
        if len(data) <= MAX_QUEUE_MESSAGE_BYTES:
            return data.decode()
        packed = await platform.gzip(data)
        if len(packed) <= MAX_QUEUE_MESSAGE_BYTES:
            return packed
        if not truncate or limit < MIN_QUEUED_FIELD_BYTES:
            return None
        observation = truncate_observation(observation, limit)
        limit //= 2


def _to_message_json(observation: Observation) -> str:
    message = _to_members(observation, _OBSERVATION_MEMBERS)
    message["destination"] = observation.destination.name
    message["trace"] = _to_members(observation.trace, _TRACE_MEMBERS)
    if observation.model_call:
        message["model_call"] = vars(observation.model_call)
    return to_json(message)


def _to_members(value: Observation | Trace, names: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a dataclass as the JSON object `{member name: value}`. `names` maps a field's
    name to that of its member, where they differ."""
    return {names.get(name, name): content for name, content in vars(value).items()}


def _from_members(members: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The members of a JSON object as the arguments `{field name: value}` of a dataclass. `names`
    maps a field's name to that of its member, where they differ."""
    fields = {member: name for name, member in names.items()}
    return {fields.get(name, name): value for name, value in members.items()}


def _message_bytes(packed: tuple[PendingObservation, MessageBody]) -> int:
    """The size in bytes with which a message counts for the queue's limits: that of its body, and
    the queue's overhead."""
    body = packed[1]
    return len(body.encode() if isinstance(body, str) else body) + QUEUE_MESSAGE_OVERHEAD_BYTES
