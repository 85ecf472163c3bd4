"""Langfuse's ingestion batches, the protocol of Langfuse v2 and v3: encoding of observations as
events, and reading of the response.

`POST /api/public/ingestion`, https://api.reference.langfuse.com/#tag/ingestion
"""

from collections.abc import Mapping, Sequence

from core import strict_json
from core.json_values import as_object
from core.limits import MAX_INGESTION_BYTES
from core.observation import Observation
from core.strict_json import JsonObject, JsonValue, to_json
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

PATH = "/api/public/ingestion"

HEADERS: Mapping[str, str] = {"content-type": "application/json"}

# "Batch sizes are limited to 3.5 MB in total." (the reference above)
MAX_BYTES = MAX_INGESTION_BYTES


def encode(observation: Observation) -> tuple[BatchItem, ...]:
    """Encode an observation as two ingestion events: one that creates or updates its trace, and one
    for the observation itself.

    The same observation always gives the same events, ids included: Langfuse stores it once, even
    when it is sent again. Absent fields are left out, since a null would overwrite a stored value.
    """
    trace = observation.trace
    trace_body = {
        "id": trace.id,
        "timestamp": to_iso_time(trace.started_at),
        "name": trace.name,
        "userId": trace.user,
        "sessionId": trace.session,
        "tags": list(trace.tags),
        "release": trace.release,
        "version": trace.version,
        "environment": trace.environment,
        "metadata": trace.metadata,
    }
    usage = inclusive_usage_counts(observation.usage)
    observation_body = {
        "id": observation.id,
        "traceId": trace.id,
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
        # Langfuse v2 refuses this type. It accepts the same body as a generation.
        alternative = _event("generation-create", observation_body, content, observation)
    return (
        # An existing trace keeps its input and output: only the observation that creates a trace
        # sets them.
        _event("trace-create", trace_body, () if trace.is_existing else content, observation),
        _event(f"{observation.type}-create", observation_body, content, observation, alternative),
    )


def request_body(items: Sequence[BatchItem]) -> bytes:
    """The body of the request that uploads these events: a JSON object with the array `batch`."""
    texts = ['{"batch":']
    for item in items:
        texts += ("," if len(texts) > 1 else "[", *item.json_fragments)
    return "".join((*texts, "]}")).encode("utf-8", "replace")


def read_response(response: HttpResponse, items: Sequence[BatchItem], now: float) -> UploadResult:
    """Read the response to an upload of these events. Never raises.

    Returns one outcome for all events where the response is an error, is not Langfuse's, or shows
    that the server supports no ingestion batches. Otherwise each event has its own: Langfuse lists
    the stored ones by id, and the others with an HTTP status, which makes them RETRYABLE (429, 5xx)
    or MALFORMED. An event that is not listed is RETRYABLE. `now` is the time in seconds since the
    epoch.
    """
    failure = result_of_status(response, now)
    if failure is not None:
        return failure
    try:
        results = as_object(strict_json.parse(response.text))
        stored = _results_by_id(results.get("successes"))
        errors = _results_by_id(results.get("errors"))
        error_results = {event: _error_result(error) for event, error in errors.items()}
    except ValueError:
        return NOT_LANGFUSE
    ids = dict.fromkeys(item.id for item in items)
    # Langfuse lists an event whose id it could not read under the id "unknown".
    unknown_id = next((error for error in errors if error not in ids), None)
    error_ids = {
        event: event if event in errors else unknown_id
        for event in ids
        if event in errors or event not in stored
    }
    own_errors = [errors[error] for error in error_ids.values() if error is not None]
    if len(own_errors) == len(ids) > 0 and _is_unsupported_protocol(own_errors, items):
        reasons = dict.fromkeys(result.reason for result in error_results.values())
        return loggable_result(Outcome.UNSUPPORTED_PROTOCOL, "; ".join(reasons))
    unlisted = loggable_result(Outcome.RETRYABLE, "not in the answer")
    return UploadResult(
        Outcome.STORED,
        item_results={
            event: unlisted if error is None else error_results[error]
            for event, error in error_ids.items()
        },
    )


def _is_unsupported_protocol(errors: Sequence[JsonObject], items: Sequence[BatchItem]) -> bool:
    """Whether a server that refused all of `items` supports no ingestion batches, which is so from
    Langfuse v4 on. `errors` are its entries for them, with `status` and `message`.

    True where all statuses are 400, and either no item has an alternative to try, or a message is
    v4's "Event type not accepted".
    """
    if any(error["status"] != 400 for error in errors):
        return False
    messages = (f"{error.get('message')} {error.get('error')}" for error in errors)
    return not any(item.alternative for item in items) or any("not accepted" in m for m in messages)


def _results_by_id(results: JsonValue) -> dict[str, JsonObject]:
    """The entries of a response's list as `{id: entry}`. Raises ValueError for anything but a list
    of objects that have a text as `id`."""
    if not isinstance(results, list):
        raise ValueError("a list was expected")
    found: dict[str, JsonObject] = {}
    for entry in map(as_object, results):
        entry_id = entry.get("id")
        if not isinstance(entry_id, str):
            raise ValueError("an id was expected")
        found[entry_id] = entry
    return found


def _error_result(error: JsonObject) -> UploadResult:
    """The result for one event from its entry in the response: RETRYABLE for status 429 and 5xx,
    else MALFORMED. Raises ValueError for an entry without a status."""
    status = error.get("status")
    if not isinstance(status, int | float):
        raise ValueError("a status was expected")
    is_retryable = status == 429 or status >= 500
    return loggable_result(
        Outcome.RETRYABLE if is_retryable else Outcome.MALFORMED,
        f"{status} {error.get('message', '')}".strip(),
    )


def _content(observation: Observation) -> tuple[str, ...]:
    """Input and output as fragments of JSON text to append to the members of an event's body:
    `,"input":`, the value's JSON text, and the same for `output`. One that is None is left out."""
    members = (("input", observation.input), ("output", observation.output))
    return tuple(
        text for name, value in members if value is not None for text in (f',"{name}":', value)
    )


def _event(
    kind: str,
    fields: Mapping[str, object],
    content: tuple[str, ...],
    observation: Observation,
    alternative: BatchItem | None = None,
) -> BatchItem:
    """The ingestion event of type `kind`, such as "trace-create", about an observation.

    Its body has those of `fields` that are not None, {} or []. `content` are further members of the
    body as text, such as ',"input":"Hi"'. `alternative` is sent where the server refuses this event
    as malformed; None where it is then lost.
    """
    event_id = f"{observation.id}-{kind}"
    event = {
        "id": event_id,
        "type": kind,
        # Langfuse v3 takes it for the start of a trace whose body has no `timestamp`.
        "timestamp": to_iso_time(observation.started_at),
        "body": {name: value for name, value in fields.items() if value not in (None, {}, [])},
    }
    return BatchItem(event_id, (to_json(event)[:-2], *content, "}}"), alternative)
