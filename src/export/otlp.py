"""OTLP over HTTP in JSON, the protocol of Langfuse v4: encoding of observations as spans, and
reading of the response.

https://opentelemetry.io/docs/specs/otlp/ How Langfuse reads a span:
https://langfuse.com/integrations/native/opentelemetry and `OtelIngestionProcessor.ts` in
langfuse/langfuse, packages/shared/src/server/otel.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from core import strict_json
from core.limits import MAX_METADATA_ATTRIBUTES, MAX_OTLP_BYTES
from core.observation import ERROR, ModelCall, Observation
from core.strict_json import JsonObject, JsonValue, to_json
from core.types import HttpResponse
from core.version import NAME, VERSION
from export import genai_attributes as genai
from export.batch import BatchItem
from export.encoding import inclusive_usage_counts, to_iso_time, to_milliseconds
from export.upload_results import (
    NOT_LANGFUSE,
    Outcome,
    UploadResult,
    loggable_result,
    result_of_status,
)

PATH = "/api/public/otel/v1/traces"

HEADERS: Mapping[str, str] = {
    "content-type": "application/json",
    # Without this header, Langfuse shows the spans only ten minutes later.
    "x-langfuse-ingestion-version": "4",
}

# "5MB per request": https://langfuse.com/faq/all/api-limits
MAX_BYTES = MAX_OTLP_BYTES

# Span kinds, and the status code of an error: https://opentelemetry.io/docs/specs/otel/trace/api/
_SERVER, _CLIENT, _FAILED = 2, 3, 2

_CACHE_WRITES = "input_cache_creation"

# Names of metadata that are no attributes of their own: Langfuse would ignore the first, and read
# the others, which its integrations use, as fields of the trace.
_NO_ATTRIBUTES = frozenset(("", "langfuse_user_id", "langfuse_session_id", "langfuse_tags"))

_AttributeValue: TypeAlias = str | int | tuple[str, ...]

# A text that may be a JSON value: the beginning of an object, a list or a string, or the whole of
# any other value.
_MAY_BE_JSON = re.compile(
    r'[ \t\r\n]*(?:[\[{"]|(?:true|false|null|'
    r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)[ \t\r\n]*\Z)"
)


def encode(observation: Observation) -> tuple[BatchItem, ...]:
    """Encode an observation as one span, whose attributes include those of its trace.

    The same observation always gives the same span: sent again, it replaces the stored one.
    """
    span: dict[str, object] = {
        "traceId": observation.trace.id,
        "spanId": observation.id,
        "name": observation.name,
        "kind": _SERVER if observation.type == "span" else _CLIENT,
        "startTimeUnixNano": f"{to_milliseconds(observation.started_at)}000000",
        "endTimeUnixNano": f"{to_milliseconds(observation.ended_at)}000000",
    }
    if observation.parent_id:
        span["parentSpanId"] = observation.parent_id
    if observation.level == ERROR:
        span["status"] = {"code": _FAILED, "message": observation.status_message or ""}
    attributes = [
        {"key": name, "value": _any_value(value)}
        for name, value in _attributes(observation).items()
        if value is not None and value != ()
    ]
    # As text: to make an object of each, and text of that, takes twice the time.
    metadata = "".join(f",{attribute}" for attribute in _metadata_attributes(observation))
    text = f'{to_json(span)[:-1]},"attributes":{to_json(attributes)[:-1]}{metadata}]}}'
    return (BatchItem(observation.id, (text,)),)


def request_body(items: Sequence[BatchItem]) -> bytes:
    """The body of the request that uploads these spans: an OTLP `ExportTraceServiceRequest` in
    JSON."""
    # No `service.version`: Langfuse would store it as the version of every observation.
    resource = {"attributes": [{"key": "service.name", "value": _any_value(NAME)}]}
    scope = {"name": NAME, "version": VERSION}
    spans = ",".join(item.json for item in items)
    return (
        f'{{"resourceSpans":[{{"resource":{to_json(resource)},'
        f'"scopeSpans":[{{"scope":{to_json(scope)},"spans":[{spans}]}}]}}]}}'
    ).encode("utf-8", "replace")


def read_response(response: HttpResponse, items: Sequence[BatchItem], now: float) -> UploadResult:
    """Read the response to an upload of spans. Never raises.

    Returns one outcome for all of `items` together, since OTLP does not name the spans that were
    rejected: MALFORMED where some were, STORED where none was, and another one for an error or a
    response that is not Langfuse's. `now` is the time in seconds since the epoch.
    """
    failure = result_of_status(response, now)
    if failure is not None:
        return failure
    # Langfuse returns an empty body, or an object such as its queue's record of the job.
    try:
        body = strict_json.parse(response.text) if response.text.strip() else {}
    except ValueError:
        return NOT_LANGFUSE
    if not isinstance(body, dict):
        return NOT_LANGFUSE
    partial_success = body.get("partialSuccess")
    rejected = (
        str(partial_success.get("rejectedSpans")) if isinstance(partial_success, dict) else ""
    )
    # With no rejected spans, a partial success is a warning. Otherwise it does not name the spans:
    # the exporter splits the upload to find them. OTLP forbids repeating an upload, since a server
    # might store the other spans twice, but Langfuse replaces a span that has the same id.
    if isinstance(partial_success, dict) and rejected.isdecimal() and rejected.strip("0"):
        reason = f"{rejected} spans rejected: {partial_success.get('errorMessage', '')}"
        return loggable_result(Outcome.MALFORMED, reason)
    return UploadResult(Outcome.STORED)


def _attributes(observation: Observation) -> dict[str, _AttributeValue | None]:
    """The attributes of an observation's span without its metadata, as `{name: value}`; an absent
    one is None or (). They include those of its trace, since Langfuse inherits nothing from another
    span."""
    trace, call = observation.trace, observation.model_call
    return {
        "langfuse.trace.name": trace.name,
        "user.id": trace.user,
        "session.id": trace.session,
        "langfuse.trace.tags": trace.tags,
        "langfuse.release": trace.release,
        "langfuse.version": observation.version,
        "langfuse.environment": observation.environment,
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
        "langfuse.observation.input": _content(observation.input),
        "langfuse.observation.output": _content(observation.output),
        # With these attributes, Langfuse would show a span as a call to a model.
        **(_gen_ai_attributes(observation, call) if call else {}),
        "error.type": observation.error_type,
    }


def _metadata_attributes(observation: Observation) -> list[str]:
    """The metadata of an observation and of its trace as attributes, each a JSON text."""
    trace, metadata = observation.trace, observation.metadata
    # A trace that the gateway creates has the metadata of its root span. For an existing trace,
    # Langfuse v4 lays the trace's metadata over the observation's: members that would replace a
    # value of the observation are left out.
    trace_metadata = {
        name: value
        for name, value in (trace.metadata.items() if trace.is_existing else ())
        if metadata.get(name, value) == value
    }
    return [
        *_attributes_of_names("langfuse.trace.metadata", trace_metadata),
        *_attributes_of_names("langfuse.observation.metadata", metadata),
    ]


def _attributes_of_names(prefix: str, metadata: Mapping[str, JsonValue]) -> list[str]:
    """Metadata as an attribute `<prefix>.<name>` for each name.

    Langfuse stores a text for each, and parses it as JSON when it is read. Of an attribute that
    holds all metadata, it would store one text for each value inside of an object, under a path:
    none for an empty object, and the same path for `{"a": {"b": 1}}` and `{"a.b": 1}`. So the
    attribute `prefix` has only those names that cannot be attributes of their own.
    """
    attributes: list[str] = []
    others: dict[str, str] = {}
    for name, value in metadata.items():
        text = _metadata_text(value)
        # Halves of surrogate pairs, which are not printable, are all the same in UTF-8.
        is_own = name.isprintable() and name not in _NO_ATTRIBUTES
        if is_own and len(attributes) < MAX_METADATA_ATTRIBUTES:
            attributes.append(_text_attribute(f"{prefix}.{name}", text))
        else:
            others[name] = text
    if others:
        attributes.append(_text_attribute(prefix, to_json(others)))
    return attributes


def _text_attribute(name: str, text: str) -> str:
    return f'{{"key":{to_json(name)},"value":{{"stringValue":{to_json(text)}}}}}'


def _metadata_text(value: JsonValue) -> str:
    """A metadata value as the text that Langfuse parses to the same value.

    A text is as it is, so that it can be filtered by, and any other value its JSON text. A text
    that may be JSON itself, such as "true", becomes a JSON string.
    """
    if isinstance(value, str) and not _MAY_BE_JSON.match(value):
        return value
    return to_json(value)


def _gen_ai_attributes(
    observation: Observation, call: ModelCall
) -> dict[str, _AttributeValue | None]:
    """The attributes of a model's call by the OpenTelemetry conventions for GenAI, as `{name:
    value}`; an absent one is None or (). Langfuse v4 repeats each of them in the metadata, so there
    is none for tokens that the cache neither read nor wrote."""
    usage = observation.usage
    totals = inclusive_usage_counts(usage)
    cache_writes = [count for name, count in usage.items() if name.startswith(_CACHE_WRITES)]
    return {
        genai.GEN_AI_OPERATION_NAME: genai.OPERATIONS.get(call.request_type),
        genai.GEN_AI_PROVIDER_NAME: genai.PROVIDERS.get(call.provider, call.provider),
        genai.GEN_AI_REQUEST_MODEL: call.request_model,
        genai.GEN_AI_RESPONSE_MODEL: call.response_model,
        genai.GEN_AI_RESPONSE_ID: call.response_id,
        genai.GEN_AI_RESPONSE_FINISH_REASONS: call.finish_reasons,
        genai.GEN_AI_USAGE_INPUT_TOKENS: totals.get("input"),
        genai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: usage.get("input_cached_tokens") or None,
        genai.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: sum(cache_writes) or None,
        genai.GEN_AI_USAGE_OUTPUT_TOKENS: totals.get("output"),
    }


def _content(text: str | None) -> str | None:
    """Input or output, which is a JSON text or None, as the value of an attribute. A JSON string
    becomes the text that it encodes, since Langfuse shows text as it is."""
    return str(strict_json.parse(text)) if text and text.startswith('"') else text


def _json_or_none(value: Mapping[str, object]) -> str | None:
    return to_json(value) if value else None


def _any_value(value: _AttributeValue) -> JsonObject:
    """An attribute's value in the form of OTLP's `AnyValue`, such as `{"stringValue": "a"}`."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        # OTLP allows a number in place of the usual string, which older servers read as NaN.
        return {"intValue": value}
    return {"arrayValue": {"values": [{"stringValue": item} for item in value]}}
