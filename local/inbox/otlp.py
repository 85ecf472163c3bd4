"""OTLP/HTTP traces in JSON, as Langfuse reads them: an export goes in, store records come out.

Pure. An export with one malformed span is refused whole, as the server does. Encoding:
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding (ids in hex, 64-bit integers as
decimal strings); attributes: https://langfuse.com/integrations/native/opentelemetry and
`OtelIngestionProcessor.ts` in langfuse/langfuse, packages/shared/src/server/otel.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from local.inbox.ingestion import (
    CREATED,
    CREATED_SINCE_3,
    ENVIRONMENT,
    LEVELS,
    is_time,
    usage_details,
)
from local.inbox.store import Part, Store

# In lower case; any other spelling silently makes a plain span.
TYPES = {name.lower(): name for name in (*CREATED.values(), *CREATED_SINCE_3.values())}

_DECIMAL = re.compile(r"-?[0-9]{1,20}")
_NANOSECONDS = re.compile(r"[0-9]{1,20}")
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")


class Malformed(Exception):
    """An export that is refused whole; the text says which part is wrong."""


def keep(export: Any, store: Store) -> int:
    """Puts every span of an `ExportTraceServiceRequest` into the store; out: how many.

    Raises Malformed before anything was kept.
    """
    spans = list(_spans(export))
    for span, resource, scope in spans:
        _keep_span(span, resource, scope, store)
    return len(spans)


Attributes = dict[str, Any]


def _spans(export: Any) -> Iterator[tuple[dict[str, Any], Attributes, dict[str, Any]]]:
    """Each span, checked, its attributes turned into a dict, with its resource's and its scope."""
    for i, group in enumerate(_list(export, "resourceSpans", "")):
        where = f"resourceSpans[{i}]"
        resource = _attributes(_object(group, "resource", where), f"{where}.resource")
        for j, scoped in enumerate(_list(group, "scopeSpans", where)):
            inner = f"{where}.scopeSpans[{j}]"
            scope = _object(scoped, "scope", inner)
            if "attributes" in scope:
                scope = scope | {"attributes": _attributes(scope, f"{inner}.scope")}
            for k, span in enumerate(_list(scoped, "spans", inner)):
                place = f"{inner}.spans[{k}]"
                _check_span(span, place)
                yield span | {"attributes": _attributes(span, place)}, resource, scope


def _list(parent: Any, name: str, where: str) -> list[Any]:
    if not isinstance(parent, dict):
        raise Malformed(f"{where or 'the export'}: expected an object")
    value = parent.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f"{where}.{name}: expected a list")
    return value


def _object(parent: Any, name: str, where: str) -> dict[str, Any]:
    if not isinstance(parent, dict):
        raise Malformed(f"{where}: expected an object")
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(f"{where}.{name}: expected an object")
    return value


def _check_span(span: Any, where: str) -> None:
    if not isinstance(span, dict):
        raise Malformed(f"{where}: expected an object")
    for name, digits in (("traceId", 32), ("spanId", 16), ("parentSpanId", 16)):
        value = span.get(name)
        if name == "parentSpanId" and value in (None, ""):
            continue
        if not _is_hex(value, digits):
            raise Malformed(f"{where}.{name}: expected {digits} hex digits, not all of them 0")
    for name in ("startTimeUnixNano", "endTimeUnixNano"):
        value = span.get(name)
        if not isinstance(value, str) or not _NANOSECONDS.fullmatch(value):
            raise Malformed(f"{where}.{name}: expected nanoseconds as a decimal string")
    if not isinstance(span.get("name"), str):
        raise Malformed(f"{where}.name: expected a string")
    _object(span, "status", where)


def _is_hex(value: Any, digits: int) -> bool:
    return (
        isinstance(value, str)
        and re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", value) is not None
        and value.strip("0") != ""
    )


def _attributes(parent: dict[str, Any], where: str) -> Attributes:
    result = {}
    for index, item in enumerate(_list(parent, "attributes", where)):
        place = f"{where}.attributes[{index}]"
        if not isinstance(item, dict) or not isinstance(item.get("key"), str):
            raise Malformed(f"{place}: expected a key and a value")
        result[item["key"]] = _value(item.get("value"), f"{place} ({item['key']})")
    return result


def _value(value: Any, where: str) -> Any:
    """An `AnyValue` as Python has it; an empty one is None."""
    if not isinstance(value, dict) or len(value) > 1:
        raise Malformed(f"{where}: expected an object with one kind of value")
    for kind, inner in value.items():
        if kind in ("stringValue", "bytesValue") and isinstance(inner, str):
            return inner
        if kind == "boolValue" and isinstance(inner, bool):
            return inner
        if kind == "intValue" and _is_int64(inner):
            return int(inner)
        if kind == "doubleValue" and isinstance(inner, int | float) and not isinstance(inner, bool):
            return float(inner)
        if kind == "doubleValue" and inner in _NO_NUMBERS:
            return inner
        if kind == "arrayValue":
            return [_value(item, where) for item in _list(inner, "values", where)]
        if kind == "kvlistValue" and isinstance(inner, dict):
            return _attributes({"attributes": inner.get("values")}, where)
        raise Malformed(f"{where}: {kind} does not hold what it names")
    return None


def _is_int64(value: Any) -> bool:
    if isinstance(value, str):
        return _DECIMAL.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _keep_span(
    span: dict[str, Any], resource: Attributes, scope: dict[str, Any], store: Store
) -> None:
    attributes: Attributes = span["attributes"]
    trace_id, span_id = span["traceId"].lower(), span["spanId"].lower()
    start = int(span["startTimeUnixNano"])
    parent = (span.get("parentSpanId") or "").lower() or None
    trace = _trace_fields(attributes, resource)
    observation = _observation_fields(attributes, span.get("status") or {})
    fields = {
        "trace_id": trace_id,
        "parent_id": parent,
        "name": span["name"],
        "start_time": _iso(start),
        "end_time": _iso(int(span["endTimeUnixNano"])),
        "version": trace.get("version"),
        "environment": trace.get("environment"),
        "trace_name": trace.get("name"),
        "user_id": trace.get("user_id"),
        "session_id": trace.get("session_id"),
        "tags": trace.get("tags"),
        "release": trace.get("release"),
        **observation,
    }
    if parent is None:
        # What the root says is said of the trace, wherever its trace attributes say nothing else.
        said = {
            "name": span["name"],
            "input": observation["input"],
            "output": observation["output"],
        }
        metadata = trace.get("metadata", {}) | observation["metadata"]
        trace = {k: v for k, v in said.items() if v is not None} | trace | {"metadata": metadata}
    # Langfuse's own SDKs say nothing that is not read elsewhere.
    by_sdk = str(scope.get("name")).startswith("langfuse-sdk")
    unknown = {n: v for n, v in attributes.items() if not by_sdk and not _is_known(n)}
    about = {"attributes": unknown, "resourceAttributes": resource, "scope": scope}
    fields["metadata"] = observation["metadata"] | {k: v for k, v in about.items() if v}
    raw = span | {"resource": resource, "scope": scope}
    order = (False, start / 1e9)
    store.replace_observation(span_id, Part(span_id, order, fields, raw, "otlp"))
    store.add_trace(trace_id, Part(span_id, order, trace, raw, "otlp"))


def _iso(nanoseconds: int) -> str:
    """The time in the milliseconds that Langfuse keeps."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    date = datetime.fromtimestamp(seconds, UTC)
    return f"{date:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


_TRACE_METADATA = "langfuse.trace.metadata"
_METADATA = "langfuse.observation.metadata"
_ENVIRONMENTS = ("langfuse.environment", "deployment.environment.name", "deployment.environment")


def _trace_fields(attributes: Attributes, resource: Attributes) -> dict[str, Any]:
    """What the span says of its trace, without what it leaves out."""
    environment = next(
        (
            source[name]
            for name in _ENVIRONMENTS
            for source in (attributes, resource)
            if source.get(name)
        ),
        None,
    )
    known = isinstance(environment, str) and ENVIRONMENT.fullmatch(environment)
    tags = _said(attributes, "tags", "langfuse.trace.tags", "langfuse.tags")
    fields = {
        "name": attributes.get("langfuse.trace.name"),
        "user_id": _said(attributes, "user_id", "langfuse.user.id", "user.id"),
        "session_id": _said(attributes, "session_id", "langfuse.session.id", "session.id"),
        "tags": _tags(tags),
        "public": attributes.get("langfuse.trace.public"),
        "metadata": _metadata(_TRACE_METADATA, attributes),
        "input": _json(attributes.get("langfuse.trace.input")),
        "output": _json(attributes.get("langfuse.trace.output")),
        "release": attributes.get("langfuse.release", resource.get("langfuse.release")),
        "version": attributes.get("langfuse.version", resource.get("service.version")),
        "environment": environment if known else None,
    }
    return {name: value for name, value in fields.items() if value not in (None, {})}


def _said(attributes: Attributes, in_metadata: str, *names: str) -> Any:
    """The first of these attributes; some integrations say it in the metadata."""
    below = (f"{name}.langfuse_{in_metadata}" for name in (_METADATA, _TRACE_METADATA))
    return next((attributes[name] for name in (*names, *below) if attributes.get(name)), None)


def _tags(value: Any) -> list[str] | None:
    """Tags from a list, a list in JSON, or a text with commas."""
    listed = _json(value) if isinstance(value, str) and value.strip().startswith("[") else value
    if isinstance(listed, str):
        return [tag.strip() for tag in listed.split(",")]
    return [str(tag) for tag in listed] if isinstance(listed, list) else None


def _observation_fields(attributes: Attributes, status: dict[str, Any]) -> dict[str, Any]:
    def own(name: str) -> Any:
        return attributes.get(f"langfuse.observation.{name}")

    model = (
        own("model.name")
        or attributes.get("gen_ai.response.model")
        or attributes.get("gen_ai.request.model")
    )
    kind = own("type")
    level = own("level")
    failed = status.get("code") in (2, "STATUS_CODE_ERROR")
    version = own("prompt.version")
    # The SDKs send it as JSON, in quotes.
    started = _json(own("completion_start_time"))
    return {
        # Without a type a model makes a generation.
        "type": TYPES.get(str(kind), "SPAN") if kind or not model else "GENERATION",
        "completion_start_time": started if is_time(started) else None,
        "model": model,
        "model_parameters": {
            name: value
            if isinstance(value, str | int | float) and not isinstance(value, bool)
            # The server makes a text of every other.
            else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            for name, value in _json_object(own("model.parameters")).items()
        },
        "input": _json(own("input")),
        "output": _json(own("output")),
        "usage": _usage(attributes),
        "cost": _json_object(own("cost_details")),
        "level": level if level in LEVELS else ("ERROR" if failed else "DEFAULT"),
        "status_message": own("status_message") or status.get("message"),
        "metadata": _metadata(_METADATA, attributes),
        "prompt_name": own("prompt.name"),
        "prompt_version": int(version) if re.fullmatch("[0-9]{1,9}", str(version)) else None,
    }


def _usage(attributes: Attributes) -> dict[str, int]:
    """The stated details; without them the GenAI counts, of which cached input is a part."""
    details = _json_object(attributes.get("langfuse.observation.usage_details"))
    if not details:
        counts = {
            ours: attributes[f"gen_ai.usage.{theirs}"]
            for theirs, ours in (
                ("input_tokens", "input"),
                ("output_tokens", "output"),
                ("cache_read.input_tokens", "input_cached_tokens"),
                ("cache_creation.input_tokens", "input_cache_creation"),
            )
            if isinstance(attributes.get(f"gen_ai.usage.{theirs}"), int)
        }
        cached = counts.get("input_cached_tokens", 0) + counts.get("input_cache_creation", 0)
        details = counts | ({"input": counts["input"] - cached} if "input" in counts else {})
    if not details:
        return {}
    try:
        usage = usage_details(details)
    except TypeError:  # with something that is no count there is no total
        return {}
    return usage if all(isinstance(count, int) for count in usage.values()) else {}


def _metadata(name: str, attributes: Attributes) -> dict[str, Any]:
    """The object in the attribute of that name, and every attribute below the name."""
    below = {
        key.removeprefix(f"{name}."): _structure(value)
        for key, value in attributes.items()
        if key.startswith(f"{name}.")
    }
    return _json_object(attributes.get(name)) | below


def _structure(value: Any) -> Any:
    """An object or a list that was sent as JSON, as the page shows it; other values as they are."""
    return _json(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


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
