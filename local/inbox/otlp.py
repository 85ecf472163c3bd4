"""OTLP/HTTP traces, stored as Langfuse stores them.

Like the server, it refuses a whole export for one malformed span. Version 3 stores traces and
observations in tables of their own, version 4 only observations, whose metadata it flattens.
Attributes: https://langfuse.com/integrations/native/opentelemetry and `OtelIngestionProcessor.ts`
in langfuse/langfuse, packages/shared/src/server/otel.
"""

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from local.inbox.ingestion import (
    CREATED,
    CREATED_SINCE_3,
    ENVIRONMENT,
    LEVELS,
    is_time,
    usage_details,
)
from local.inbox.protobuf import Malformed, as_json
from local.inbox.store import Part, Store

# Observation types by their lower-case names. Any other spelling silently results in a plain span.
TYPES = {name.lower(): name for name in (*CREATED.values(), *CREATED_SINCE_3.values())}

# The length of ids in bytes.
_TRACE_ID, _SPAN_ID = 16, 8


def keep(export: ExportTraceServiceRequest, major: int, store: Store) -> int:
    """Store all spans of an export, as a server of this major version does. Returns their number.

    Raises Malformed for an invalid export, of which nothing is stored.
    """
    spans = list(_spans(export))
    for span, attributes, resource, scope in spans:
        _keep_span(span, attributes, resource, scope, major, store)
    return len(spans)


Attributes = dict[str, Any]


def _spans(
    export: ExportTraceServiceRequest,
) -> Iterator[tuple[Span, Attributes, Attributes, dict[str, Any]]]:
    """Each span, checked; its attributes and those of its resource as dicts; its scope."""
    for i, group in enumerate(export.resource_spans):
        where = f"resourceSpans[{i}]"
        resource = _attributes(group.resource.attributes, f"{where}.resource")
        for j, scoped in enumerate(group.scope_spans):
            inner = f"{where}.scopeSpans[{j}]"
            scope = _scope(scoped.scope, f"{inner}.scope")
            for k, span in enumerate(scoped.spans):
                place = f"{inner}.spans[{k}]"
                _check_span(span, place)
                yield span, _attributes(span.attributes, place), resource, scope


def _scope(scope: InstrumentationScope, where: str) -> dict[str, Any]:
    found = MessageToDict(scope)
    if "attributes" in found:
        found["attributes"] = _attributes(scope.attributes, where)
    return found


def _check_span(span: Span, where: str) -> None:
    for name, id, length in (
        ("traceId", span.trace_id, _TRACE_ID),
        ("spanId", span.span_id, _SPAN_ID),
        ("parentSpanId", span.parent_span_id, _SPAN_ID),
    ):
        if name == "parentSpanId" and not id:
            continue
        if len(id) != length or not any(id):
            raise Malformed(f"{where}.{name}: expected {2 * length} hex digits, not all of them 0")
    for name, time in (
        ("startTimeUnixNano", span.start_time_unix_nano),
        ("endTimeUnixNano", span.end_time_unix_nano),
    ):
        if not time:
            raise Malformed(f"{where}.{name}: required")


def _attributes(attributes: Iterable[KeyValue], where: str) -> Attributes:
    result: Attributes = {}
    for index, item in enumerate(attributes):
        if not item.key:
            raise Malformed(f"{where}.attributes[{index}]: expected a key and a value")
        result[item.key] = _value(item.value, where)
    return result


def _value(value: AnyValue, where: str) -> Any:
    """An `AnyValue` as a Python value that JSON has too; None for an empty one."""
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_value(item, where) for item in value.array_value.values]
        case "kvlist_value":
            return _attributes(value.kvlist_value.values, where)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "double_value" if not math.isfinite(value.double_value):
            return MessageToDict(value)["doubleValue"]
        case kind:
            return getattr(value, kind)


def _keep_span(
    span: Span,
    attributes: Attributes,
    resource: Attributes,
    scope: dict[str, Any],
    major: int,
    store: Store,
) -> None:
    trace_id, span_id = span.trace_id.hex(), span.span_id.hex()
    parent = span.parent_span_id.hex() or None
    trace = _trace_fields(attributes, resource, major)
    observation = _observation_fields(attributes, span.status, major)
    fields = {
        "trace_id": trace_id,
        "parent_id": parent,
        "name": span.name,
        "start_time": _iso(span.start_time_unix_nano),
        "end_time": _iso(span.end_time_unix_nano),
        "version": trace.get("version"),
        "environment": trace.get("environment"),
        "trace_name": trace.get("name"),
        "user_id": trace.get("user_id"),
        "session_id": trace.get("session_id"),
        "tags": trace.get("tags"),
        "release": trace.get("release"),
        **observation,
    }
    immutable = {}
    if major < 4:
        immutable = {
            "timestamp": fields["start_time"],
            "environment": trace.pop("environment", "default"),
        }
        if parent is None or trace:
            # A value that the span does not have becomes null, also in an app's trace.
            trace = {"release": None, "version": None} | trace
    if parent is None:
        # The root span's fields are also the trace's, where no trace attribute sets them.
        root_fields = {
            "name": span.name,
            "input": observation["input"],
            "output": observation["output"],
        }
        metadata = trace.get("metadata", {}) | observation["metadata"]
        trace = (
            {k: v for k, v in root_fields.items() if v is not None} | trace | {"metadata": metadata}
        )
    # The attributes of Langfuse's own SDKs are all read above.
    by_sdk = str(scope.get("name")).startswith("langfuse-sdk")
    unknown = {n: v for n, v in attributes.items() if not by_sdk and not _is_known(n)}
    additional = {"attributes": unknown, "resourceAttributes": resource, "scope": scope}
    additional = {name: values for name, values in additional.items() if values}
    fields["metadata"] = (
        observation["metadata"] | additional
        if major < 4
        else _flat(additional) | observation["metadata"] | trace.get("metadata", {})
    )
    raw = as_json(span) | {"attributes": attributes, "resource": resource, "scope": scope}
    order = (False, span.start_time_unix_nano / 1e9)
    store.replace_observation(span_id, Part(span_id, order, fields, raw, "otlp"))
    store.add_trace(trace_id, Part(span_id, order, trace, raw, "otlp", immutable))


def _iso(nanoseconds: int) -> str:
    """The time in ISO 8601 with milliseconds, the precision of Langfuse."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    date = datetime.fromtimestamp(seconds, UTC)
    return f"{date:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


_TRACE_METADATA = "langfuse.trace.metadata"
_METADATA = "langfuse.observation.metadata"
_ENVIRONMENTS = ("langfuse.environment", "deployment.environment.name", "deployment.environment")


def _trace_fields(attributes: Attributes, resource: Attributes, major: int) -> dict[str, Any]:
    """The fields of its trace that a span contains."""
    environment = next(
        (
            source[name]
            for name in _ENVIRONMENTS
            for source in (attributes, resource)
            if source.get(name)
        ),
        None,
    )
    is_valid = isinstance(environment, str) and ENVIRONMENT.fullmatch(environment)
    tags = _first_attribute(attributes, "tags", "langfuse.trace.tags", "langfuse.tags")
    fields = {
        "name": attributes.get("langfuse.trace.name"),
        "user_id": _first_attribute(attributes, "user_id", "langfuse.user.id", "user.id"),
        "session_id": _first_attribute(
            attributes, "session_id", "langfuse.session.id", "session.id"
        ),
        "tags": _tags(tags),
        "public": attributes.get("langfuse.trace.public"),
        "metadata": _metadata(_TRACE_METADATA, attributes, major),
        "input": _json(attributes.get("langfuse.trace.input")),
        "output": _json(attributes.get("langfuse.trace.output")),
        "release": attributes.get("langfuse.release", resource.get("langfuse.release")),
        "version": attributes.get("langfuse.version", resource.get("service.version")),
        "environment": environment if is_valid else None,
    }
    return {name: value for name, value in fields.items() if value not in (None, {})}


def _first_attribute(attributes: Attributes, in_metadata: str, *names: str) -> Any:
    """The value of the first of these attributes, or of the one in the metadata that some
    integrations use."""
    others = (f"{name}.langfuse_{in_metadata}" for name in (_METADATA, _TRACE_METADATA))
    return next((attributes[name] for name in (*names, *others) if attributes.get(name)), None)


def _tags(value: Any) -> list[str] | None:
    """The tags of a list, of a list in JSON, or of a text separated by commas; None for others."""
    listed = _json(value) if isinstance(value, str) and value.strip().startswith("[") else value
    if isinstance(listed, str):
        return [tag.strip() for tag in listed.split(",")]
    return [str(tag) for tag in listed] if isinstance(listed, list) else None


def _observation_fields(attributes: Attributes, status: Status, major: int) -> dict[str, Any]:
    def own(name: str) -> Any:
        return attributes.get(f"langfuse.observation.{name}")

    model = (
        own("model.name")
        or attributes.get("gen_ai.response.model")
        or attributes.get("gen_ai.request.model")
    )
    kind = own("type")
    level = own("level")
    failed = status.code == Status.STATUS_CODE_ERROR
    version = own("prompt.version")
    # The SDKs send it as a JSON string.
    started = _json(own("completion_start_time"))
    return {
        # A span with a model but without a type is a generation.
        "type": TYPES.get(str(kind), "SPAN") if kind or not model else "GENERATION",
        "completion_start_time": started if is_time(started) else None,
        "model": model,
        "model_parameters": {
            name: value
            if isinstance(value, str | int | float) and not isinstance(value, bool)
            # The server converts any other value to text.
            else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            for name, value in _json_object(own("model.parameters")).items()
        },
        "input": _json(own("input")),
        "output": _json(own("output")),
        "usage": _usage(attributes),
        "cost": _json_object(own("cost_details")),
        "level": level if level in LEVELS else ("ERROR" if failed else "DEFAULT"),
        "status_message": own("status_message") or status.message or None,
        "metadata": _metadata(_METADATA, attributes, major),
        "prompt_name": own("prompt.name"),
        "prompt_version": int(version) if re.fullmatch("[0-9]{1,9}", str(version)) else None,
    }


def _usage(attributes: Attributes) -> dict[str, int]:
    """The usage details, or else the counts by the GenAI conventions. Those count cached tokens as
    input, which is subtracted."""
    details = _json_object(attributes.get("langfuse.observation.usage_details"))
    if not details:
        counts = {
            name: attributes[f"gen_ai.usage.{attribute}"]
            for attribute, name in (
                ("input_tokens", "input"),
                ("output_tokens", "output"),
                ("cache_read.input_tokens", "input_cached_tokens"),
                ("cache_creation.input_tokens", "input_cache_creation"),
            )
            if isinstance(attributes.get(f"gen_ai.usage.{attribute}"), int)
        }
        cached = counts.get("input_cached_tokens", 0) + counts.get("input_cache_creation", 0)
        details = counts | ({"input": counts["input"] - cached} if "input" in counts else {})
    if not details:
        return {}
    try:
        usage = usage_details(details)
    except TypeError:  # something is not a number, so that there is no total
        return {}
    return usage if all(isinstance(count, int) for count in usage.values()) else {}


def _metadata(name: str, attributes: Attributes, major: int) -> dict[str, Any]:
    """The object in the attribute of this name, with each attribute `name.KEY` as a member.

    The server stores each value as a text, which is parsed as JSON when it is read:
    `parseMetadataCHRecordToDomain` in langfuse/langfuse.
    """
    members = _json_object(attributes.get(name)) | {
        key.removeprefix(f"{name}."): value
        for key, value in attributes.items()
        if key.startswith(f"{name}.") and key != f"{name}."
    }
    members = members if major < 4 else _flat(members)
    return {key: _json(value) for key, value in members.items()}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values inside of an object by their paths, as version 4 stores them: the first one of
    equal paths, no empty object, and "" for null. `flattenJsonToPathArrays` in langfuse/langfuse.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}.{name}" if prefix else name
        leaf = {path: "" if value is None else value}
        inner = _flat(value, path) if isinstance(value, dict) else leaf
        found |= {path: value for path, value in inner.items() if path not in found}
    return found


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _json_object(value: Any) -> dict[str, Any]:
    parsed = _json(value)
    return parsed if isinstance(parsed, dict) else {}


def _is_known(name: str) -> bool:
    return name.startswith("langfuse.") or name in ("user.id", "session.id")
