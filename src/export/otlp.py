"""OTLP over HTTP in JSON, the protocol of Langfuse v4: observations to spans, and answers.

https://opentelemetry.io/docs/specs/otlp/ · what Langfuse makes of a span:
https://langfuse.com/integrations/native/opentelemetry and `OtelIngestionProcessor.ts` in
langfuse/langfuse, packages/shared/src/server/otel.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from core import strict_json
from core.limits import MAX_OTLP_BYTES
from core.strict_json import to_json
from core.types import HttpResponse
from core.version import NAME, VERSION
from export.batch import BatchItem
from export.encoding import inclusive_usage_counts, to_iso_time, to_milliseconds
from export.upload_results import (
    NOT_LANGFUSE,
    Outcome,
    UploadResult,
    loggable_result,
    result_of_status,
)
from tracing import ERROR, Observation

PATH = "/api/public/otel/v1/traces"

HEADERS: Mapping[str, str] = {
    "content-type": "application/json",
    # Without it what was sent is seen ten minutes later.
    "x-langfuse-ingestion-version": "4",
}

# "5MB per request": https://langfuse.com/faq/all/api-limits
MAX_BYTES = MAX_OTLP_BYTES

# https://opentelemetry.io/docs/specs/otel/trace/api/ kinds and statuses
_SERVER, _CLIENT, _FAILED = 2, 3, 2

# The OpenTelemetry conventions' words for what the metadata says:
# https://github.com/open-telemetry/semantic-conventions-genai
_OPERATIONS = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
}

_PROVIDERS = {"google": "gcp.gemini", "mistral-ai": "mistral_ai", "x-ai": "x_ai"}


def encode(observation: Observation) -> tuple[BatchItem, ...]:
    """The span of an observation, which also says all that is told of its trace.

    The same observation always gives the same span: one that is sent again replaces itself.
    """
    present = {
        name: value for name, value in _attributes(observation).items() if value not in (None, ())
    }
    span = {
        "traceId": observation.trace.id,
        "spanId": observation.id,
        "name": observation.name,
        "kind": _SERVER if observation.type == "span" else _CLIENT,
        "startTimeUnixNano": f"{to_milliseconds(observation.started_at)}000000",
        "endTimeUnixNano": f"{to_milliseconds(observation.ended_at)}000000",
        "attributes": [{"key": name, "value": _any_value(present[name])} for name in present],
    }
    if observation.parent_id:
        span["parentSpanId"] = observation.parent_id
    if observation.level == ERROR:
        span["status"] = {"code": _FAILED, "message": observation.status_message or ""}
    return (BatchItem(observation.id, (to_json(span),)),)


def request_body(parts: Sequence[BatchItem]) -> bytes:
    """The body of the request that carries these spans."""
    # Without `service.version`: Langfuse would take it for the version of every observation.
    resource = {"attributes": [{"key": "service.name", "value": _any_value(NAME)}]}
    scope = {"name": NAME, "version": VERSION}
    spans = ",".join(part.json for part in parts)
    return (
        f'{{"resourceSpans":[{{"resource":{to_json(resource)},'
        f'"scopeSpans":[{{"scope":{to_json(scope)},"spans":[{spans}]}}]}}]}}'
    ).encode("utf-8", "replace")


def read_response(answer: HttpResponse, parts: Sequence[BatchItem], now: float) -> UploadResult:
    """What the answer to these spans says became of all of them. Never raises.

    `now` is the time in seconds since the epoch.
    """
    judged = result_of_status(answer, now)
    if judged is not None:
        return judged
    # Langfuse answers with anything from nothing to its queue's record of the job.
    try:
        result = strict_json.parse(answer.text) if answer.text.strip() else {}
    except ValueError:
        return NOT_LANGFUSE
    if not isinstance(result, dict):
        return NOT_LANGFUSE
    partial = result.get("partialSuccess")
    rejected = str(partial.get("rejectedSpans")) if isinstance(partial, dict) else ""
    # With none rejected it is a warning. Else it is not said which, and OTLP forbids to repeat the
    # export, lest the server has the others twice; Langfuse puts them in their own place again.
    if isinstance(partial, dict) and rejected.isdecimal() and rejected.strip("0"):
        reason = f"{rejected} spans rejected: {partial.get('errorMessage', '')}"
        return loggable_result(Outcome.MALFORMED, reason)
    return UploadResult(Outcome.STORED)


def _attributes(observation: Observation) -> dict[str, Any]:
    """Every attribute, also the absent ones. Nothing is inherited from another span."""
    told, metadata = observation.trace, observation.metadata
    return {
        "langfuse.trace.name": told.name,
        "user.id": told.user,
        "session.id": told.session,
        "langfuse.trace.tags": told.tags,
        "langfuse.release": told.release,
        "langfuse.version": observation.version,
        "langfuse.environment": observation.environment,
        # A trace that is not joined has the metadata of its root. That of a joined one Langfuse v4
        # lays over the observation's, where it may not hide what the gateway knows.
        "langfuse.trace.metadata": _json_or_none(
            {n: v for n, v in told.metadata.items() if metadata.get(n, v) == v}
            if told.is_existing
            else {}
        ),
        "langfuse.observation.type": observation.type,
        "langfuse.observation.level": observation.level,
        "langfuse.observation.status_message": observation.status_message,
        "langfuse.observation.completion_start_time": to_iso_time(
            observation.completion_started_at
        ),
        "langfuse.observation.model.name": observation.model,
        "langfuse.observation.model.parameters": _json_or_none(observation.parameters),
        "langfuse.observation.usage_details": _json_or_none(observation.usage),
        "langfuse.observation.cost_details": _json_or_none(observation.cost),
        "langfuse.observation.prompt.name": observation.prompt_name,
        "langfuse.observation.prompt.version": observation.prompt_version,
        # As one text, in which every value keeps its type, and no name is taken for a path.
        "langfuse.observation.metadata": _json_or_none(metadata),
        "langfuse.observation.input": _content(observation.input),
        "langfuse.observation.output": _content(observation.output),
        # By these a span would be taken for a call of a model.
        **({} if observation.type == "span" else _gen_ai_attributes(observation)),
    }


def _gen_ai_attributes(observation: Observation) -> dict[str, Any]:
    """A call of a model in the words of the OpenTelemetry conventions."""
    metadata = observation.metadata
    usage = inclusive_usage_counts(observation.usage)
    answered = observation.level != ERROR
    return {
        "gen_ai.operation.name": _OPERATIONS.get(str(metadata.get("request_type"))),
        "gen_ai.provider.name": _provider(metadata),
        "gen_ai.request.model": _text(metadata.get("requested_model")) or observation.model,
        "gen_ai.response.model": observation.model if answered else None,
        "gen_ai.usage.input_tokens": usage.get("input"),
        "gen_ai.usage.output_tokens": usage.get("output"),
    }


def _content(text: str | None) -> str | None:
    """A JSON text; of a string itself, which Langfuse takes as it is, the string."""
    return strict_json.parse(text) if text and text.startswith('"') else text


def _provider(metadata: Mapping[str, Any]) -> str | None:
    slug = _text(metadata.get("provider"))
    return _PROVIDERS.get(slug, slug) if slug else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _json_or_none(value: Mapping[str, Any]) -> str | None:
    return to_json(value) if value else None


def _any_value(value: str | int | tuple[str, ...]) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        # A number, which is as valid as the usual text: that one older servers read as NaN.
        return {"intValue": value}
    return {"arrayValue": {"values": [{"stringValue": item} for item in value]}}
