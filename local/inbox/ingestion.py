"""Langfuse's legacy ingestion batches: which events a server accepts, and how it stores them.

The rules are those of the server's schema (`packages/shared/src/server/ingestion/types.ts` in
langfuse/langfuse) and of `LANGFUSE.md` in the design notes, observed on 2.95 and 4.16.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

from local.inbox.store import Part, Store

MAX_ID = 800
LEVELS = ("DEBUG", "DEFAULT", "WARNING", "ERROR")
ENVIRONMENT = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")

# Event types that all versions accept, with the type of their observation.
CREATED = {
    "generation-create": "GENERATION",
    "generation-update": "GENERATION",
    "span-create": "SPAN",
    "span-update": "SPAN",
    "event-create": "EVENT",
}
# Event types that were added in version 3.
CREATED_SINCE_3 = {
    f"{name}-create": name.upper()
    for name in ("agent", "tool", "chain", "retriever", "evaluator", "embedding", "guardrail")
}
# Event types that are accepted but not stored.
IGNORED = ("score-create", "sdk-log")

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")


class Rule(NamedTuple):
    """A check of a field's value, and what the error message describes as expected."""

    holds: Callable[[Any], bool]
    expected: str


def is_time(value: Any) -> bool:
    """Whether it is an ISO date and time with `Z` or an offset, which Langfuse requires."""
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_ID and "\r" not in value


def _is_parameter(value: Any) -> bool:
    if value is None or isinstance(value, str | bool | int | float):
        return True
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, dict | list) and all(isinstance(item, str) for item in items)


def _is_count(value: Any) -> bool:
    return value is None or (_is_integer(value) and value >= 0)


def _is_usage(value: Any) -> bool:
    counts = ("input", "output", "total", "promptTokens", "completionTokens", "totalTokens")
    return isinstance(value, dict) and all(
        value.get(name) is None or _is_integer(value[name]) for name in counts
    )


def _is_usage_details(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return _openai_usage(value) is not None or all(map(_is_count, value.values()))


TEXT = Rule(lambda value: isinstance(value, str), "a string")
TIME = Rule(is_time, "an ISO date and time with Z or an offset")
ID = Rule(_is_id, f"a string of 1 to {MAX_ID} characters")

_TRACE = {
    "id": ID,
    "timestamp": TIME,
    "name": TEXT,
    "userId": TEXT,
    "sessionId": TEXT,
    "release": TEXT,
    "version": TEXT,
    "public": Rule(lambda value: isinstance(value, bool), "a boolean"),
    "tags": Rule(
        lambda value: isinstance(value, list) and all(isinstance(tag, str) for tag in value),
        "a list of strings",
    ),
}
_OBSERVATION = {
    "id": ID,
    "traceId": ID,
    "parentObservationId": TEXT,
    "name": TEXT,
    "startTime": TIME,
    "endTime": TIME,
    "level": Rule(lambda value: value in LEVELS, f"one of {', '.join(LEVELS)}"),
    "statusMessage": TEXT,
    "version": TEXT,
}
_GENERATION = _OBSERVATION | {
    "completionStartTime": TIME,
    "model": TEXT,
    "modelParameters": Rule(
        lambda value: isinstance(value, dict) and all(map(_is_parameter, value.values())),
        "strings, numbers, booleans, lists of strings or flat objects of strings",
    ),
    "usage": Rule(_is_usage, "an object of integers"),
    "usageDetails": Rule(_is_usage_details, "an object of integers, none below 0"),
    "costDetails": Rule(
        lambda value: (
            isinstance(value, dict)
            and all(cost is None or (_is_number(cost) and cost >= 0) for cost in value.values())
        ),
        "an object of numbers, none below 0",
    ),
    "promptName": TEXT,
    "promptVersion": Rule(_is_integer, "an integer"),
}


def problem(event: Any, major: int) -> str | None:
    """Why a server of this major version refuses the event; None where it accepts the event."""
    if not isinstance(event, dict):
        return "expected an object"
    if not _is_id(event.get("id")):
        return f"id: expected {ID.expected}"
    if not is_time(event.get("timestamp")):
        return f"timestamp: expected {TIME.expected}"
    kind, body = event.get("type"), event.get("body")
    if not isinstance(kind, str) or not _is_known(kind, major):
        return f"type: {kind!r} is not an event type"
    if not isinstance(body, dict):
        return "body: expected an object"
    if kind in IGNORED:
        return None
    rules = _TRACE if kind == "trace-create" else _OBSERVATION
    if kind.startswith("generation-") or kind in CREATED_SINCE_3:
        rules = _GENERATION
    if kind != "trace-create" and body.get("id") is None:
        return "body.id: required"
    for name, rule in rules.items():
        value = body.get(name)
        if value is not None and not rule.holds(value):
            return f"body.{name}: expected {rule.expected}"
    if bool(body.get("promptName")) != bool(body.get("promptVersion")):
        return "body: promptName and promptVersion go together"
    return None


def _is_known(kind: str, major: int) -> bool:
    is_known = kind == "trace-create" or kind in CREATED or kind in IGNORED
    return is_known or (major >= 3 and kind in CREATED_SINCE_3)


def keep(event: dict[str, Any], major: int, store: Store) -> None:
    """Store an event that is valid for a server of this major version."""
    kind, body = event["type"], event["body"]
    if kind in IGNORED:
        return
    order = (kind.endswith("-update"), datetime.fromisoformat(event["timestamp"]).timestamp())
    names = _TRACE_FIELDS if kind == "trace-create" else _OBSERVATION_FIELDS
    fields = {field: body[member] for member, field in names.items() if member in body}
    if "metadata" in fields:
        fields["metadata"] = _metadata(fields["metadata"])
    # An invalid environment is not an error: Langfuse replaces it by "default". Version 2 has no
    # environments.
    if major >= 3 and "environment" in body:
        name = body["environment"]
        is_valid = isinstance(name, str) and ENVIRONMENT.fullmatch(name)
        fields["environment"] = name if is_valid else "default"
    if kind == "trace-create":
        trace_id, immutable = body.get("id") or str(uuid4()), {}
        if major >= 3:
            # `immutableEntityKeys` and `mapTraceEventsToRecords` in IngestionService of 3.120 and
            # 4.16. Version 2 takes the time of each event that has one.
            immutable = {
                "timestamp": fields.pop("timestamp", None) or event["timestamp"],
                "environment": fields.pop("environment", "default"),
            }
        store.add_trace(trace_id, Part(event["id"], order, fields, event, "ingestion", immutable))
        return
    fields |= {
        "type": CREATED.get(kind) or CREATED_SINCE_3[kind],
        "trace_id": body.get("traceId") or body["id"],
        **_usage_and_cost(body, major),
    }
    store.add_observation(body["id"], Part(event["id"], order, fields, event, "ingestion"))


_TRACE_FIELDS = {
    "timestamp": "timestamp",
    "name": "name",
    "userId": "user_id",
    "sessionId": "session_id",
    "tags": "tags",
    "metadata": "metadata",
    "input": "input",
    "output": "output",
    "release": "release",
    "version": "version",
    "public": "public",
}
_OBSERVATION_FIELDS = {
    "parentObservationId": "parent_id",
    "name": "name",
    "startTime": "start_time",
    "endTime": "end_time",
    "completionStartTime": "completion_start_time",
    "model": "model",
    "modelParameters": "model_parameters",
    "input": "input",
    "output": "output",
    "level": "level",
    "statusMessage": "status_message",
    "metadata": "metadata",
    "promptName": "prompt_name",
    "promptVersion": "prompt_version",
    "version": "version",
}


def _metadata(value: Any) -> dict[str, Any]:
    """Metadata as an object. Any other value becomes the member "metadata" of one."""
    if value is None or isinstance(value, dict):
        return value or {}
    return {"metadata": value}


def _usage_and_cost(body: dict[str, Any], major: int) -> dict[str, Any]:
    """Usage and cost. Version 2 has only `usage`; later versions prefer `usageDetails`."""
    details = body.get("usageDetails") if major >= 3 else None
    if details is not None:
        fields: dict[str, Any] = {"usage": usage_details(details)}
    elif body.get("usage") is not None:
        fields = {"usage": _usage(body["usage"])}
    else:
        fields = {}
    if major >= 3 and "costDetails" in body:
        fields["cost"] = body["costDetails"]
    return fields


def _usage(usage: dict[str, Any]) -> dict[str, int]:
    names = {"promptTokens": "input", "completionTokens": "output", "totalTokens": "total"}
    counts = {name: usage[member] for member, name in names.items() if member in usage}
    counts = counts or {name: usage.get(name) for name in ("input", "output", "total")}
    return {name: count for name, count in counts.items() if count is not None}


def usage_details(details: dict[str, Any]) -> dict[str, int]:
    """The counts by which a server computes prices. A total is added where none was sent.

    OpenAI's usage object is split into Langfuse's counts if it has all members and no other.
    """
    normalised = _openai_usage(details)
    if normalised is not None:
        return normalised
    counts = {name: count for name, count in details.items() if count is not None}
    return counts if "total" in counts else counts | {"total": sum(counts.values())}


def _openai_usage(usage: dict[str, Any]) -> dict[str, int] | None:
    """Langfuse's counts for OpenAI's usage object. None where a count is missing or invalid, or
    where another member is present."""
    for input_name, output_name in (
        ("prompt_tokens", "completion_tokens"),
        ("input_tokens", "output_tokens"),
    ):
        counts = {input_name, output_name, "total_tokens"}
        details = {"input": f"{input_name}_details", "output": f"{output_name}_details"}
        if not counts <= usage.keys() <= counts | set(details.values()):
            continue
        parts = {name: usage.get(source) or {} for name, source in details.items()}
        if not all(_is_integer(usage[name]) for name in counts):
            return None
        if not all(isinstance(p, dict) and all(map(_is_count, p.values())) for p in parts.values()):
            return None
        result = {
            "input": usage[input_name],
            "output": usage[output_name],
            "total": usage["total_tokens"],
        }
        for side, part in parts.items():
            for name, count in part.items():
                if count is not None:
                    result[f"{side}_{name}"] = count
                    result[side] = max(result[side] - count, 0)
        return result
    return None
