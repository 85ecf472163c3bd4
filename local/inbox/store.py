"""The inbox's traces and observations, in the same form for both protocols.

A record is folded from all events or spans that have arrived for its id. They are sorted as
Langfuse sorts them: creations before updates, then by the event's own time. One that arrives again
replaces the earlier one, so that a batch sent twice has the same result as one sent once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict
from uuid import uuid4


class Trace(TypedDict):
    """One trace. Times are ISO strings as they were sent. What was not sent is None or empty."""

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
    """One observation, with some fields of its trace.

    `type` is GENERATION, EMBEDDING, SPAN, EVENT or another of Langfuse's types, in upper case.
    `usage` and `cost` have the keys by which Langfuse computes prices. `protocol` is `ingestion` or
    `otlp`. `received` counts deliveries, including repeated ones. `raw` has the events or spans as
    they arrived.
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


# The fields of an observation that come from its trace, with their names there.
FIELDS_FROM_TRACE = {
    "trace_name": "name",
    "user_id": "user_id",
    "session_id": "session_id",
    "tags": "tags",
    "release": "release",
}


@dataclass(frozen=True)
class Part:
    """The fields of one record that one event or span contains.

    `id` is the id of the event or span: a part with the same id replaces this one. `order` is the
    sort key of the parts of a record. `immutable` are further fields, which the part that arrived
    first sets for good.
    """

    id: str
    order: tuple[bool, float]
    fields: dict[str, Any]
    raw: dict[str, Any]
    protocol: str
    immutable: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Record:
    parts: dict[str, Part] = field(default_factory=dict)
    received: int = 0
    # The result of `fold`, None while it is out of date.
    folded: dict[str, Any] | None = None

    def add(self, part: Part) -> None:
        self.parts[part.id] = part
        self.received += 1
        self.folded = None

    def fold(self) -> dict[str, Any]:
        """The fields of all parts. Later parts override earlier ones; metadata and tags merge."""
        if self.folded is not None:
            return self.folded
        result: dict[str, Any] = {}
        for part in sorted(self.parts.values(), key=lambda part: part.order):
            for name, value in part.fields.items():
                earlier = result.get(name)
                if name == "metadata" and value and earlier:
                    value = earlier | value
                elif name == "tags" and value and earlier:
                    value = list(dict.fromkeys(earlier + value))
                result[name] = value
        for part in self.parts.values():  # in the order of their arrival
            result |= {n: v for n, v in part.immutable.items() if n not in result}
        self.folded = result
        return result


@dataclass
class _Group:
    """A trace with its observations. `own` is None while only observations refer to the trace.
    `number` counts traces by their first arrival; `revision` is that of the last change."""

    number: int
    revision: int = 0
    own: _Record | None = None
    observations: dict[str, _Record] = field(default_factory=dict)


class Store:
    """At most `limit` traces and as many observations, of which the oldest are dropped first. Not
    thread-safe.

    `revision` counts the changes. `epoch` is a random text that changes with each `clear`.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._traces: dict[str, _Record] = {}
        self._observations: dict[str, _Record] = {}
        # By trace id, in the order of their first arrival.
        self._groups: dict[str, _Group] = {}
        self._group_count = 0
        self.revision = 0
        self.epoch = uuid4().hex

    def add_trace(self, trace_id: str, part: Part) -> None:
        """Add a part to its trace."""
        if trace_id not in self._traces and len(self._traces) >= self._limit:
            oldest = next(iter(self._traces))
            del self._traces[oldest]
            group = self._changed_group(oldest)
            group.own = None
            self._drop_if_empty(oldest, group)
        record = self._traces.setdefault(trace_id, _Record())
        record.add(part)
        self._changed_group(trace_id).own = record

    def add_observation(self, observation_id: str, part: Part) -> None:
        """Add a part to its observation."""
        self._put(observation_id, part, replace=False)

    def replace_observation(self, observation_id: str, part: Part) -> None:
        """Replace all parts of an observation by this one. A span is always sent whole."""
        self._put(observation_id, part, replace=True)

    def _put(self, observation_id: str, part: Part, *, replace: bool) -> None:
        record = self._observations.get(observation_id)
        if record is None:
            if len(self._observations) >= self._limit:
                oldest = next(iter(self._observations))
                self._remove_from_group(self._observations.pop(oldest).fold()["trace_id"], oldest)
            record = _Record()
        earlier_trace_id = record.fold()["trace_id"] if record.parts else None
        if replace:
            record.parts.clear()
        record.add(part)
        self._observations[observation_id] = record
        trace_id = record.fold()["trace_id"]
        if earlier_trace_id not in (None, trace_id):
            self._remove_from_group(earlier_trace_id, observation_id)
        self._changed_group(trace_id).observations[observation_id] = record

    def _remove_from_group(self, trace_id: str, observation_id: str) -> None:
        group = self._changed_group(trace_id)
        del group.observations[observation_id]
        self._drop_if_empty(trace_id, group)

    def _changed_group(self, trace_id: str) -> _Group:
        self.revision += 1
        group = self._groups.get(trace_id)
        if group is None:
            self._group_count += 1
            group = self._groups[trace_id] = _Group(self._group_count)
        group.revision = self.revision
        return group

    def _drop_if_empty(self, trace_id: str, group: _Group) -> None:
        if group.own is None and not group.observations:
            del self._groups[trace_id]

    def observations(self) -> list[Observation]:
        """All observations, in the order of their first arrival."""
        traces = {trace["id"]: trace for trace in self.traces(implied=False)}
        return [
            _observation(observation_id, record, traces.get(record.fold()["trace_id"]))
            for observation_id, record in self._observations.items()
        ]

    def traces(self, implied: bool) -> list[Trace]:
        """All traces, in the order of their first arrival; with `implied` also those that only
        observations refer to.

        A trace without a timestamp has the start of its first observation.
        """
        return [_trace_of_group(trace_id, group) for trace_id, group in self._listed(implied)]

    def changes(self, implied: bool) -> Iterator[tuple[str, int, int]]:
        """The id, number and last revision of each trace that `traces` returns, in its order."""
        return ((id, group.number, group.revision) for id, group in self._listed(implied))

    def _listed(self, implied: bool) -> Iterator[tuple[str, _Group]]:
        return (item for item in self._groups.items() if implied or item[1].own)

    def trace(self, trace_id: str) -> tuple[Trace, list[Observation]] | None:
        """One trace and its observations, in the order of their first arrival; None for an unknown
        trace."""
        group = self._groups.get(trace_id)
        if group is None:
            return None
        trace = _trace_of_group(trace_id, group)
        own = trace if group.own else None
        return trace, [_observation(id, record, own) for id, record in group.observations.items()]

    @property
    def count(self) -> int:
        """The number of observations."""
        return len(self._observations)

    def raw(self, trace_id: str) -> list[dict[str, Any]]:
        """The events or spans of one trace as they arrived, the trace's own first."""
        group = self._groups.get(trace_id)
        if group is None:
            return []
        records = [group.own] if group.own else []
        records += group.observations.values()
        parts = [part for record in records for part in record.parts.values()]
        # A span is a part of both its trace and its observation.
        return list({part.id: part.raw for part in parts}.values())

    def clear(self) -> None:
        """Remove all records."""
        self._traces.clear()
        self._observations.clear()
        self._groups.clear()
        self.epoch = uuid4().hex


def _trace_of_group(trace_id: str, group: _Group) -> Trace:
    trace = _trace(trace_id, group.own.fold() if group.own else {})
    if trace["timestamp"] is None:
        starts = [record.fold().get("start_time") for record in group.observations.values()]
        trace["timestamp"] = min(filter(None, starts), default=None)
    return trace


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


def _observation(observation_id: str, record: _Record, trace: Trace | None) -> Observation:
    """The observation of a record. `trace` is None where only observations refer to its trace."""
    fields = record.fold()
    parts = list(record.parts.values())
    # In a batch only the trace has these fields. A span has its own, since it inherits nothing.
    if parts[-1].protocol == "ingestion" and trace:
        fields = fields | {name: trace[source] for name, source in FIELDS_FROM_TRACE.items()}
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
