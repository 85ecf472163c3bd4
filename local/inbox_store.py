"""What the inbox keeps: traces and observations in one shape, whichever protocol brought them.

A record is a fold over what arrived for its id, sorted as Langfuse sorts it: creations before
updates, then by the event's own time. A part that arrives again takes the place of the one it
repeats, so a batch that is sent twice ends as it would have ended once.
"""

from dataclasses import dataclass, field
from typing import Any, TypedDict


class Trace(TypedDict):
    """One trace. Times are ISO strings as they were sent; what nobody sent is None or empty."""

    id: str
    timestamp: str | None
    name: str | None
    user_id: str | None
    session_id: str | None
    tags: list[str]
    metadata: dict[str, Any]
    input: Any
    output: Any
    release: str | None
    version: str | None
    environment: str
    public: bool


class Observation(TypedDict):
    """One observation, with the fields of its trace that a test wants beside it.

    `type` is GENERATION, EMBEDDING, SPAN, EVENT or another of Langfuse's, in upper case;
    `usage` and `cost` are what Langfuse would price by; `protocol` is `ingestion` or `otlp`;
    `received` counts deliveries, repeated ones too; `raw` is each event or span as it came.
    """

    id: str
    trace_id: str
    parent_id: str | None
    type: str
    name: str | None
    start_time: str | None
    end_time: str | None
    completion_start_time: str | None
    model: str | None
    model_parameters: dict[str, Any]
    input: Any
    output: Any
    usage: dict[str, int]
    cost: dict[str, float]
    level: str
    status_message: str | None
    metadata: dict[str, Any]
    prompt_name: str | None
    prompt_version: int | None
    version: str | None
    environment: str
    trace_name: str | None
    user_id: str | None
    session_id: str | None
    tags: list[str]
    release: str | None
    protocol: str
    received: int
    raw: list[dict[str, Any]]


# Fields of a trace that are shown with each of its observations, by their names there.
SHOWN_WITH_OBSERVATION = {
    "trace_name": "name",
    "user_id": "user_id",
    "session_id": "session_id",
    "tags": "tags",
    "release": "release",
}


@dataclass(frozen=True)
class Part:
    """What one event or one span says of one record: only the fields that it names.

    `id` is the event's or the span's: a part with the same id replaces this one. `order` sorts
    the parts of a record.
    """

    id: str
    order: tuple[bool, float]
    fields: dict[str, Any]
    raw: dict[str, Any]
    protocol: str


@dataclass
class _Record:
    parts: dict[str, Part] = field(default_factory=dict)
    received: int = 0

    def add(self, part: Part) -> None:
        self.parts[part.id] = part
        self.received += 1

    def fold(self) -> dict[str, Any]:
        """The fields of all parts: a later one wins, metadata and tags are joined."""
        result: dict[str, Any] = {}
        for part in sorted(self.parts.values(), key=lambda part: part.order):
            for name, value in part.fields.items():
                before = result.get(name)
                if name == "metadata" and value and before:
                    value = before | value
                elif name == "tags" and value and before:
                    value = list(dict.fromkeys(before + value))
                result[name] = value
        return result


class Store:
    """Records by id, the oldest dropped beyond `limit` of each kind. Not thread-safe."""

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._traces: dict[str, _Record] = {}
        self._observations: dict[str, _Record] = {}

    def add_trace(self, trace_id: str, part: Part) -> None:
        """Merges the part into its trace."""
        self._record(self._traces, trace_id).add(part)

    def add_observation(self, observation_id: str, part: Part) -> None:
        """Merges the part into its observation."""
        self._record(self._observations, observation_id).add(part)

    def replace_observation(self, observation_id: str, part: Part) -> None:
        """Puts the part in the place of all that was there: a span is one row, sent whole."""
        record = self._record(self._observations, observation_id)
        record.parts.clear()
        record.add(part)

    def _record(self, records: dict[str, _Record], record_id: str) -> _Record:
        if record_id not in records and len(records) >= self._limit:
            del records[next(iter(records))]
        return records.setdefault(record_id, _Record())

    def observations(self) -> list[Observation]:
        """All observations, in the order in which each was first heard of."""
        traces = {trace["id"]: trace for trace in self.traces(implied=False)}
        return [
            _observation(observation_id, record, traces)
            for observation_id, record in self._observations.items()
        ]

    def traces(self, implied: bool) -> list[Trace]:
        """All traces; with `implied` also those that only an observation names.

        A trace that says no time of its own began with its first observation.
        """
        found = {trace_id: _trace(trace_id, r.fold()) for trace_id, r in self._traces.items()}
        began: dict[str, str] = {}
        for record in self._observations.values():
            fields = record.fold()
            trace_id, start = fields["trace_id"], fields.get("start_time")
            if implied and trace_id not in found:
                found[trace_id] = _trace(trace_id, {})
            if start is not None:
                began[trace_id] = min(start, began.get(trace_id, start))
        for trace_id, trace in found.items():
            trace["timestamp"] = trace["timestamp"] or began.get(trace_id)
        return list(found.values())

    @property
    def count(self) -> int:
        """How many observations there are."""
        return len(self._observations)

    def raw(self, trace_id: str) -> list[dict[str, Any]]:
        """The events or spans of one trace as they came, the trace's own first."""
        own = self._traces.get(trace_id)
        records = [own] if own else []
        records += [r for r in self._observations.values() if r.fold()["trace_id"] == trace_id]
        parts = [part for record in records for part in record.parts.values()]
        # A span says things of its trace, too, and is there twice.
        return list({part.id: part.raw for part in parts}.values())

    def clear(self) -> None:
        """Forgets everything."""
        self._traces.clear()
        self._observations.clear()


def _trace(trace_id: str, fields: dict[str, Any]) -> Trace:
    return {
        "id": trace_id,
        "timestamp": fields.get("timestamp"),
        "name": fields.get("name"),
        "user_id": fields.get("user_id"),
        "session_id": fields.get("session_id"),
        "tags": fields.get("tags") or [],
        "metadata": fields.get("metadata") or {},
        "input": fields.get("input"),
        "output": fields.get("output"),
        "release": fields.get("release"),
        "version": fields.get("version"),
        "environment": fields.get("environment") or "default",
        "public": bool(fields.get("public")),
    }


def _observation(observation_id: str, record: _Record, traces: dict[str, Trace]) -> Observation:
    fields = record.fold()
    parts = list(record.parts.values())
    trace = traces.get(fields["trace_id"])
    # A batch says these once, of the trace; a span says them of itself, as nothing is inherited.
    if parts[-1].protocol == "ingestion" and trace:
        fields |= {name: trace[source] for name, source in SHOWN_WITH_OBSERVATION.items()}
    return {
        "id": observation_id,
        "trace_id": fields["trace_id"],
        "parent_id": fields.get("parent_id"),
        "type": fields["type"],
        "name": fields.get("name"),
        "start_time": fields.get("start_time"),
        "end_time": fields.get("end_time"),
        "completion_start_time": fields.get("completion_start_time"),
        "model": fields.get("model"),
        "model_parameters": fields.get("model_parameters") or {},
        "input": fields.get("input"),
        "output": fields.get("output"),
        "usage": fields.get("usage") or {},
        "cost": fields.get("cost") or {},
        "level": fields.get("level") or "DEFAULT",
        "status_message": fields.get("status_message"),
        "metadata": fields.get("metadata") or {},
        "prompt_name": fields.get("prompt_name"),
        "prompt_version": fields.get("prompt_version"),
        "version": fields.get("version"),
        "environment": fields.get("environment") or "default",
        "trace_name": fields.get("trace_name"),
        "user_id": fields.get("user_id"),
        "session_id": fields.get("session_id"),
        "tags": fields.get("tags") or [],
        "release": fields.get("release"),
        "protocol": parts[-1].protocol,
        "received": record.received,
        "raw": [part.raw for part in parts],
    }
