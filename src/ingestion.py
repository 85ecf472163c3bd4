"""Langfuse's ingestion batches, the protocol of v2 and v3: observations to events, and answers.

`POST /api/public/ingestion`, https://api.reference.langfuse.com/#tag/ingestion
"""

from collections.abc import Mapping, Sequence
from typing import Any

import strict_json
from redaction import to_json
from tracing import Observation
from vocabulary import Fate, Part, Received, Verdict
from wire import FOREIGN, inclusive_usage, iso_time, read_status, verdict

PATH = "/api/public/ingestion"
HEADERS: Mapping[str, str] = {"content-type": "application/json"}
# "Batch sizes are limited to 3.5 MB in total." (the reference above)
MAX_BYTES = 3_500_000


def parts(observation: Observation) -> tuple[Part, ...]:
    """The events of an observation: its trace's and its own.

    The same observation always gives the same events, ids included, so that one that is sent again
    is stored once. Absent fields are left out: a null would overwrite a stored value.
    """
    told = observation.trace
    trace = {
        "id": told.id,
        "timestamp": iso_time(told.started),
        "name": told.name,
        "userId": told.user,
        "sessionId": told.session,
        "tags": list(told.tags),
        "release": told.release,
        "version": told.version,
        "environment": told.environment,
        "metadata": told.metadata,
    }
    usage = inclusive_usage(observation.usage)
    own = {
        "id": observation.id,
        "traceId": told.id,
        "parentObservationId": observation.parent_id,
        "name": observation.name,
        "startTime": iso_time(observation.started),
        "endTime": iso_time(observation.ended),
        "completionStartTime": iso_time(observation.completion_started),
        "model": observation.model,
        "modelParameters": observation.parameters,
        "usage": {**usage, "unit": "TOKENS"} if usage else None,
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
    alternative = None
    if observation.type == "embedding":
        # Langfuse v2 refuses this type, but takes any observation as a generation.
        alternative = _event("generation-create", own, content, observation)
    return (
        # The content of a trace that another observation makes is that one's to say.
        _event("trace-create", trace, () if told.joined else content, observation),
        _event(f"{observation.type}-create", own, content, observation, alternative),
    )


def body(parts: Sequence[Part]) -> bytes:
    """The body of the request that carries these events."""
    texts = ['{"batch":']
    for part in parts:
        texts += ("," if len(texts) > 1 else "[", *part.texts)
    return "".join((*texts, "]}")).encode("utf-8", "replace")


def read_answer(answer: Received, parts: Sequence[Part], now: float) -> Verdict:
    """What the answer to these events says became of each. Never raises.

    `now` is the time in seconds since the epoch.
    """
    judged = read_status(answer, now)
    if judged is not None:
        return judged
    try:
        results = strict_json.parse(answer.text)
        stored = _by_id(results["successes"])
        errors = _by_id(results["errors"])
        refusals = {event: _refusal(error) for event, error in errors.items()}
    except (ValueError, TypeError, KeyError):
        return FOREIGN
    ids = dict.fromkeys(part.id for part in parts)
    # Of an event whose id it could not read Langfuse says "unknown".
    stray = next((error for error in errors if error not in ids), None)
    blamed = {
        event: event if event in errors else stray
        for event in ids
        if event in errors or event not in stored
    }
    refused = [errors[error] for error in blamed.values() if error is not None]
    if len(refused) == len(ids) > 0 and _not_spoken(refused, parts):
        reasons = dict.fromkeys(refusal.reason for refusal in refusals.values())
        return verdict(Fate.NOT_SPOKEN, "; ".join(reasons))
    unanswered = verdict(Fate.LATER, "not in the answer")
    return Verdict(
        Fate.STORED,
        parts={
            event: unanswered if error is None else refusals[error]
            for event, error in blamed.items()
        },
    )


def _not_spoken(errors: Sequence[Mapping[str, Any]], parts: Sequence[Part]) -> bool:
    """Whether a server that refused every event takes none of them in whatever form, as v4 does."""
    if any(error["status"] != 400 for error in errors):
        return False
    said = (f"{error.get('message')} {error.get('error')}" for error in errors)
    return not any(part.alternative for part in parts) or any("not accepted" in s for s in said)


def _by_id(results: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(results, list):
        raise TypeError("a list was expected")
    return {result["id"]: result for result in results}


def _refusal(error: Mapping[str, Any]) -> Verdict:
    status = error["status"]
    later = status == 429 or status >= 500
    return verdict(
        Fate.LATER if later else Fate.MALFORMED, f"{status} {error.get('message', '')}".strip()
    )


def _content(observation: Observation) -> tuple[str, ...]:
    """Input and output, which are JSON already, as members of an object."""
    named = (("input", observation.input), ("output", observation.output))
    return tuple(
        text for name, value in named if value is not None for text in (f',"{name}":', value)
    )


def _event(
    kind: str,
    fields: Mapping[str, Any],
    content: tuple[str, ...],
    observation: Observation,
    alternative: Part | None = None,
) -> Part:
    event = {
        "id": f"{observation.id}-{kind}",
        "type": kind,
        "timestamp": iso_time(observation.ended),
        "body": {name: value for name, value in fields.items() if value not in (None, {}, [])},
    }
    return Part(event["id"], (to_json(event)[:-2], *content, "}}"), alternative)
