"""Langfuse's ingestion batches, the protocol of v2 and v3: observations to events, and answers.

`POST /api/public/ingestion`, https://api.reference.langfuse.com/#tag/ingestion
"""

from collections.abc import Mapping, Sequence
from typing import Any

from core import strict_json
from core.limits import MAX_INGESTION_BYTES
from core.strict_json import to_json
from core.types import HttpResponse
from export.batch import BatchItem
from export.encoding import inclusive_usage_counts, to_iso_time
from export.upload_results import (
    NOT_LANGFUSE,
    Outcome,
    UploadResult,
    loggable_result,
    result_of_status,
)
from tracing import Observation

PATH = "/api/public/ingestion"

HEADERS: Mapping[str, str] = {"content-type": "application/json"}

# "Batch sizes are limited to 3.5 MB in total." (the reference above)
MAX_BYTES = MAX_INGESTION_BYTES


def encode(observation: Observation) -> tuple[BatchItem, ...]:
    """The events of an observation: its trace's and its own.

    The same observation always gives the same events, ids included, so that one that is sent again
    is stored once. Absent fields are left out: a null would overwrite a stored value.
    """
    told = observation.trace
    trace = {
        "id": told.id,
        "timestamp": to_iso_time(told.started_at),
        "name": told.name,
        "userId": told.user,
        "sessionId": told.session,
        "tags": list(told.tags),
        "release": told.release,
        "version": told.version,
        "environment": told.environment,
        "metadata": told.metadata,
    }
    usage = inclusive_usage_counts(observation.usage)
    own = {
        "id": observation.id,
        "traceId": told.id,
        "parentObservationId": observation.parent_id,
        "name": observation.name,
        "startTime": to_iso_time(observation.started_at),
        "endTime": to_iso_time(observation.ended_at),
        "completionStartTime": to_iso_time(observation.completion_started_at),
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
        _event("trace-create", trace, () if told.is_existing else content, observation),
        _event(f"{observation.type}-create", own, content, observation, alternative),
    )


def request_body(parts: Sequence[BatchItem]) -> bytes:
    """The body of the request that carries these events."""
    texts = ['{"batch":']
    for part in parts:
        texts += ("," if len(texts) > 1 else "[", *part.json_fragments)
    return "".join((*texts, "]}")).encode("utf-8", "replace")


def read_response(answer: HttpResponse, parts: Sequence[BatchItem], now: float) -> UploadResult:
    """What the answer to these events says became of each. Never raises.

    `now` is the time in seconds since the epoch.
    """
    judged = result_of_status(answer, now)
    if judged is not None:
        return judged
    try:
        results = strict_json.parse(answer.text)
        stored = _results_by_id(results["successes"])
        errors = _results_by_id(results["errors"])
        refusals = {event: _error_result(error) for event, error in errors.items()}
    except (ValueError, TypeError, KeyError):
        return NOT_LANGFUSE
    ids = dict.fromkeys(part.id for part in parts)
    # Of an event whose id it could not read Langfuse says "unknown".
    stray = next((error for error in errors if error not in ids), None)
    blamed = {
        event: event if event in errors else stray
        for event in ids
        if event in errors or event not in stored
    }
    refused = [errors[error] for error in blamed.values() if error is not None]
    if len(refused) == len(ids) > 0 and _is_unsupported_protocol(refused, parts):
        reasons = dict.fromkeys(refusal.reason for refusal in refusals.values())
        return loggable_result(Outcome.UNSUPPORTED_PROTOCOL, "; ".join(reasons))
    unanswered = loggable_result(Outcome.RETRYABLE, "not in the answer")
    return UploadResult(
        Outcome.STORED,
        item_results={
            event: unanswered if error is None else refusals[error]
            for event, error in blamed.items()
        },
    )


def _is_unsupported_protocol(
    errors: Sequence[Mapping[str, Any]], parts: Sequence[BatchItem]
) -> bool:
    """Whether a server that refused every event takes none of them in whatever form, as v4 does."""
    if any(error["status"] != 400 for error in errors):
        return False
    said = (f"{error.get('message')} {error.get('error')}" for error in errors)
    return not any(part.alternative for part in parts) or any("not accepted" in s for s in said)


def _results_by_id(results: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(results, list):
        raise TypeError("a list was expected")
    return {result["id"]: result for result in results}


def _error_result(error: Mapping[str, Any]) -> UploadResult:
    status = error["status"]
    later = status == 429 or status >= 500
    return loggable_result(
        Outcome.RETRYABLE if later else Outcome.MALFORMED,
        f"{status} {error.get('message', '')}".strip(),
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
    alternative: BatchItem | None = None,
) -> BatchItem:
    event = {
        "id": f"{observation.id}-{kind}",
        "type": kind,
        "timestamp": to_iso_time(observation.ended_at),
        "body": {name: value for name, value in fields.items() if value not in (None, {}, [])},
    }
    return BatchItem(event["id"], (to_json(event)[:-2], *content, "}}"), alternative)
