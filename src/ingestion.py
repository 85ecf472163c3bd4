"""Langfuse's ingestion batches: an observation to events, and Langfuse's answer to a `Delivery`.

`POST /api/public/ingestion`, https://api.reference.langfuse.com/#tag/ingestion
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import strict_json
from fitting import cut_text
from tracing import Observation
from vocabulary import Received

REASON_LENGTH = 300
PATH = "/api/public/ingestion"


@dataclass(frozen=True)
class Delivery:
    """What became of a batch: delivered, or why not.

    `refused` is set where the server took the batch and refused an event of it.
    """

    delivered: bool
    reason: str = ""
    refused: bool = False


def kinds(observation: Observation) -> tuple[str, ...]:
    """The types of event that may carry an observation, the best first.

    Langfuse v2 refuses the newer types; a generation it takes always.
    """
    newer = ("embedding-create",) if observation.type == "embedding" else ()
    return (*newer, "generation-create")


def batch(observation: Observation, kind: str) -> bytes:
    """The body of `POST /api/public/ingestion` for one observation, as an event of this kind, and
    its trace.

    The same observation always gives the same bytes, ids included, so that a batch that is sent
    again stores nothing twice. Absent fields are left out: a null would overwrite a stored value.
    """
    told = observation.trace
    trace = {
        "id": told.id,
        "timestamp": None if told.joined else _time(observation.started),
        "name": told.name,
        "userId": told.user,
        "sessionId": told.session,
        "tags": list(told.tags),
        "release": told.release,
        "version": told.version,
        "environment": told.environment,
        "metadata": told.metadata,
    }
    generation = {
        "id": observation.id,
        "traceId": told.id,
        "parentObservationId": observation.parent_id,
        "name": observation.name,
        "startTime": _time(observation.started),
        "endTime": _time(observation.ended),
        "completionStartTime": _time(observation.completion_started),
        "model": observation.model,
        "modelParameters": observation.parameters,
        "usage": _inclusive_usage(observation.usage),
        "usageDetails": observation.usage,
        "costDetails": observation.cost,
        "level": observation.level,
        "statusMessage": observation.status_message,
        "promptName": observation.prompt_name,
        "promptVersion": observation.prompt_version,
        "version": observation.version,
        "environment": observation.environment,
        "metadata": observation.metadata,
    }
    content = _content(observation)
    events = (
        # The content of a trace that the caller made is the caller's to say.
        _event("trace-create", trace, "" if told.joined else content, observation),
        _event(kind, generation, content, observation),
    )
    return f'{{"batch":[{",".join(events)}]}}'.encode("utf-8", "replace")


def read_answer(answer: Received) -> Delivery:
    """What the answer to a batch says became of it."""
    if 300 <= answer.status < 400:
        location = answer.headers.get("location", "nowhere").partition("?")[0]
        return Delivery(False, f"redirected to {location}: is LANGFUSE_BASE_URL right?")
    if answer.status in (401, 403):
        return Delivery(False, f"HTTP {answer.status}: are the Langfuse keys right?")
    if answer.status not in (200, 201, 207):
        return Delivery(False, f"HTTP {answer.status}")
    try:
        body = strict_json.parse(answer.text)
        errors = body["errors"]
        refused = [f"{error.get('status')} {error.get('message')}" for error in errors]
    except (ValueError, TypeError, KeyError, AttributeError):
        return Delivery(False, "the answer is not Langfuse's: is LANGFUSE_BASE_URL right?")
    # A server may quote the event that it refuses, of which nothing belongs in a log.
    reason = cut_text("refused: " + "; ".join(refused), REASON_LENGTH) if refused else ""
    return Delivery(not refused, reason, refused=bool(refused))


def _content(observation: Observation) -> str:
    """Input and output, which are JSON already, as members of an object."""
    texts = (("input", observation.input), ("output", observation.output))
    return "".join(f',"{name}":{text}' for name, text in texts if text is not None)


def _event(kind: str, body: Mapping[str, Any], content: str, observation: Observation) -> str:
    present = {name: value for name, value in body.items() if value not in (None, {}, [])}
    envelope = {
        "id": f"{observation.id}-{kind}",
        "type": kind,
        "timestamp": _time(observation.ended),
    }
    return f'{_json(envelope)[:-1]},"body":{_json(present)[:-1]}{content}}}}}'


def _inclusive_usage(usage: Mapping[str, int]) -> dict[str, Any] | None:
    # Langfuse v2 knows only these counts, and only as sums of all parts.
    if not usage:
        return None
    sums = {
        side: sum(count for name, count in usage.items() if name.startswith(side))
        for side in ("input", "output")
    }
    return {**sums, "total": usage.get("total", sum(sums.values())), "unit": "TOKENS"}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
