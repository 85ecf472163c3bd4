"""What the inbox keeps: traces and observations in one shape, whichever protocol brought them.

A record is a fold over what arrived for its id, sorted as Langfuse sorts it: creations before
updates, then by the event's own time. A part that arrives again takes the place of the one it
repeats, so a batch that is sent twice ends as it would have ended once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict
from uuid import uuid4


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
    # What the parts say together, once somebody has asked.
    folded: dict[str, Any] | None = None

    def add(self, part: Part) -> None:
        self.parts[part.id] = part
        self.received += 1
        self.folded = None

    def fold(self) -> dict[str, Any]:
        """The fields of all parts: a later one wins, metadata and tags are joined."""
        if self.folded is not None:
            return self.folded
        result: dict[str, Any] = {}
        for part in sorted(self.parts.values(), key=lambda part: part.order):
            for name, value in part.fields.items():
                before = result.get(name)
                if name == "metadata" and value and before:
                    value = before | value
                elif name == "tags" and value and before:
                    value = list(dict.fromkeys(before + value))
                result[name] = value
        self.folded = result
        return result


@dataclass
class _Group:
    """All that is kept of one trace, itself or only what names it."""

    number: int
    revision: int = 0
    own: _Record | None = None
    observations: dict[str, _Record] = field(default_factory=dict)


class Store:
    """Records by id, the oldest dropped beyond `limit` of each kind. Not thread-safe.

    `revision` counts the changes; `epoch` is another word after each `clear`.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._traces: dict[str, _Record] = {}
        self._observations: dict[str, _Record] = {}
        # By trace, in the order in which each was first heard of.
        self._groups: dict[str, _Group] = {}
        self._heard_of = 0
        self.revision = 0
        self.epoch = uuid4().hex

    def add_trace(self, trace_id: str, part: Part) -> None:
        """Merges the part into its trace."""
        if trace_id not in self._traces and len(self._traces) >= self._limit:
            oldest = next(iter(self._traces))
            del self._traces[oldest]
            group = self._touched(oldest)
            group.own = None
            self._drop_if_empty(oldest, group)
        record = self._traces.setdefault(trace_id, _Record())
        record.add(part)
        self._touched(trace_id).own = record

    def add_observation(self, observation_id: str, part: Part) -> None:
        """Merges the part into its observation."""
        self._put(observation_id, part, replace=False)

    def replace_observation(self, observation_id: str, part: Part) -> None:
        """Puts the part in the place of all that was there: a span is one row, sent whole."""
        self._put(observation_id, part, replace=True)

    def _put(self, observation_id: str, part: Part, *, replace: bool) -> None:
        record = self._observations.get(observation_id)
        if record is None:
            if len(self._observations) >= self._limit:
                oldest = next(iter(self._observations))
                self._leave(self._observations.pop(oldest).fold()["trace_id"], oldest)
            record = _Record()
        before = record.fold()["trace_id"] if record.parts else None
        if replace:
            record.parts.clear()
        record.add(part)
        self._observations[observation_id] = record
        trace_id = record.fold()["trace_id"]
        if before not in (None, trace_id):
            self._leave(before, observation_id)
        self._touched(trace_id).observations[observation_id] = record

    def _leave(self, trace_id: str, observation_id: str) -> None:
        group = self._touched(trace_id)
        del group.observations[observation_id]
        self._drop_if_empty(trace_id, group)

    def _touched(self, trace_id: str) -> _Group:
        self.revision += 1
        group = self._groups.get(trace_id)
        if group is None:
            self._heard_of += 1
            group = self._groups[trace_id] = _Group(self._heard_of)
        group.revision = self.revision
        return group

    def _drop_if_empty(self, trace_id: str, group: _Group) -> None:
        if group.own is None and not group.observations:
            del self._groups[trace_id]

    def observations(self) -> list[Observation]:
        """All observations, in the order in which each was first heard of."""
        traces = {trace["id"]: trace for trace in self.traces(implied=False)}
        return [
            _observation(observation_id, record, traces.get(record.fold()["trace_id"]))
            for observation_id, record in self._observations.items()
        ]

    def traces(self, implied: bool) -> list[Trace]:
        """All traces as they were first heard of; with `implied` also those that only an
        observation names.

        A trace that says no time of its own began with its first observation.
        """
        return [_told(trace_id, group) for trace_id, group in self._listed(implied)]

    def changes(self, implied: bool) -> Iterator[tuple[str, int, int]]:
        """Of each trace, in the same order: its id, its number, its last change's `revision`."""
        return ((id, group.number, group.revision) for id, group in self._listed(implied))

    def _listed(self, implied: bool) -> Iterator[tuple[str, _Group]]:
        return (item for item in self._groups.items() if implied or item[1].own)

    def trace(self, trace_id: str) -> tuple[Trace, list[Observation]] | None:
        """One trace and its observations, those that were heard of first at the beginning."""
        group = self._groups.get(trace_id)
        if group is None:
            return None
        trace = _told(trace_id, group)
        own = trace if group.own else None
        return trace, [_observation(id, record, own) for id, record in group.observations.items()]

    @property
    def count(self) -> int:
        """How many observations there are."""
        return len(self._observations)

    def raw(self, trace_id: str) -> list[dict[str, Any]]:
        """The events or spans of one trace as they came, the trace's own first."""
        group = self._groups.get(trace_id)
        if group is None:
            return []
        records = [group.own] if group.own else []
        records += group.observations.values()
        parts = [part for record in records for part in record.parts.values()]
        # A span says things of its trace, too, and is there twice.
        return list({part.id: part.raw for part in parts}.values())

    def clear(self) -> None:
        """Forgets everything."""
        self._traces.clear()
        self._observations.clear()
        self._groups.clear()
        self.epoch = uuid4().hex


def _told(trace_id: str, group: _Group) -> Trace:
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
    """The observation; `trace` is its own, where one was told of."""
    fields = record.fold()
    parts = list(record.parts.values())
    # A batch says these once, of the trace; a span says them of itself, as nothing is inherited.
    if parts[-1].protocol == "ingestion" and trace:
        fields = fields | {name: trace[source] for name, source in SHOWN_WITH_OBSERVATION.items()}
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
