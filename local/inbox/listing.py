"""The list of the inbox's page: summaries of the traces that match the filters.

A page requests the list again and again. To keep that cheap, a trace is summarized only once for
each change of it, and a page gets only the traces that have changed since its last request.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from local.inbox.store import Observation, Store, Trace

# From the worst to the best. The level of a trace is the worst one of its topmost observations.
LEVELS = ("ERROR", "WARNING", "DEFAULT", "DEBUG")
# The fields that a search covers.
_OF_TRACE = ("id", "name", "user_id", "session_id", "tags", "metadata", "input", "output")
_OF_OBSERVATION = ("name", "model", "status_message", "metadata", "input", "output")


class TraceFilter(NamedTuple):
    """Which traces are listed: those with this model, level and session, None for any, and with
    each word of `text` in one of their fields."""

    model: str | None = None
    level: str | None = None
    session: str | None = None
    text: str = ""


@dataclass
class _Summary:
    """A trace at one revision of the store. `shown` is its entry in the list. `text` has what a
    search covers, None before the first search."""

    revision: int
    shown: dict[str, Any]
    trace: Trace
    observations: list[Observation]
    text: str | None = None

    def matches(self, filters: TraceFilter, words: list[str]) -> bool:
        return (
            (filters.model is None or filters.model in self.shown["models"])
            and (filters.level is None or filters.level == self.shown["level"])
            and (filters.session is None or filters.session == self.shown["session"])
            and (not words or all(word in self.searchable_text() for word in words))
        )

    def searchable_text(self) -> str:
        if self.text is None:
            values: list[Any] = [self.trace[name] for name in _OF_TRACE]
            values += [observed[name] for observed in self.observations for name in _OF_OBSERVATION]
            self.text = "\n".join(_texts(values)).casefold()
        return self.text


class Listing:
    """The list of one store's traces. Like the store, it is not thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._summaries: dict[str, _Summary] = {}

    @property
    def revision(self) -> str:
        """A text that changes with each change of the list, and differs between inboxes."""
        return f"{self._store.epoch}-{self._store.revision}"

    def read(
        self, since: str | None, filters: TraceFilter, *, limit: int, implied: bool
    ) -> dict[str, Any]:
        """At most `limit` traces that match the filter, the newest first. With `since`, an earlier
        `revision`, only those that have changed since then. `implied` is that of `Store.traces`.

        Members of the result: `traces`; `total`, the number of all traces; `matching`, how many
        match; `gone`, the ids of changed traces that do not match; `models`, `levels` and
        `sessions` of the changed traces; `whole`, whether this is the whole list.
        """
        epoch, _, number = (since or "").partition("-")
        is_ours = epoch == self._store.epoch and re.fullmatch("[0-9]{1,15}", number)
        since_revision = int(number) if is_ours else None
        words = filters.text.casefold().split()
        total, changed, matching = 0, [], []
        stale, self._summaries = self._summaries, {}
        for trace_id, trace_number, revision in self._store.changes(implied):
            summary = stale.pop(trace_id, None)
            if summary is None or summary.revision != revision:
                summary = self._summarize(trace_id, trace_number, revision)
            self._summaries[trace_id] = summary
            total += 1
            if since_revision is None or revision > since_revision:
                changed.append(summary)
            if summary.matches(filters, words):
                matching.append(summary)
        matching_ids = {id(summary) for summary in matching}
        listed = [
            found for found in matching if since_revision is None or found.revision > since_revision
        ]
        return {
            "revision": self.revision,
            "whole": since_revision is None,
            "total": total,
            "matching": len(matching),
            "traces": [found.shown for found in listed[: -limit - 1 : -1]],
            "gone": [found.shown["id"] for found in changed if id(found) not in matching_ids]
            if since_revision is not None
            else [],
            "models": sorted({model for found in changed for model in found.shown["models"]}),
            "levels": sorted({found.shown["level"] for found in changed}, key=LEVELS.index),
            "sessions": sorted({s for found in changed if (s := found.shown["session"])}),
        }

    def _summarize(self, trace_id: str, number: int, revision: int) -> _Summary:
        found = self._store.trace(trace_id)
        assert found, "the store has told of this trace"
        trace, observations = found
        return _Summary(revision, _shown(number, trace, observations), trace, observations)


def _shown(number: int, trace: Trace, observations: list[Observation]) -> dict[str, Any]:
    """A trace's entry in the list. `time` is in milliseconds since the epoch; `latency` and `first`
    are in milliseconds. `first` is the time to the first token of the main observation, or of the
    request above it."""
    models = [observed for observed in observations if observed["model"]]
    main = main_observation(observations)
    starts = [start for observed in observations if (start := _time(observed["start_time"]))]
    ends = [end for observed in observations if (end := _time(observed["end_time"]))]
    # The topmost observations decide the level: a span above several attempts has their result.
    ids = {observed["id"] for observed in observations}
    tops = [observed for observed in observations if observed["parent_id"] not in ids]
    levels = {observed["level"] for observed in tops or observations}
    above = next((o for o in observations if main and o["id"] == main["parent_id"]), None)
    first = _first_token(above) if above else None
    if first is None and main:
        first = _first_token(main)
    return {
        "id": trace["id"],
        "number": number,
        "time": _time(trace["timestamp"]),
        "name": _as_text(trace["name"]) or (main and _as_text(main["name"])) or trace["id"],
        "model": main and _as_text(main["model"]),
        "models": sorted({str(observed["model"]) for observed in models}),
        "provider": main and provider(main),
        "user": _as_text(trace["user_id"]) or (main and _as_text(main["user_id"])),
        "session": _as_text(trace["session_id"]) or (main and _as_text(main["session_id"])),
        "tokens": sum(_tokens(observed["usage"]) for observed in observations),
        "latency": max(ends) - min(starts) if starts and ends else None,
        "first": first,
        "level": next((level for level in LEVELS if level in levels), "DEFAULT"),
        "steps": len(observations),
    }


def main_observation(observations: list[Observation]) -> Observation | None:
    """The observation that represents its trace; None where there are none. In this order it is one
    with a model, one that did not fail, a generation, and the one that started last."""

    def rank(observed: Observation) -> tuple[bool, bool, bool, int]:
        is_success, is_generation = observed["level"] != "ERROR", observed["type"] == "GENERATION"
        return bool(observed["model"]), is_success, is_generation, _time(observed["start_time"])

    return max(observations, key=rank, default=None)


def provider(observation: Observation) -> str | None:
    """The provider that was called: from the gateway's metadata, or from another tracer's attribute
    by OpenTelemetry's conventions. None where neither is set."""
    metadata = observation["metadata"]
    name, attributes = "gen_ai.provider.name", metadata.get("attributes")
    nested = attributes.get(name) if isinstance(attributes, dict) else None
    found = metadata.get("provider") or metadata.get(f"attributes.{name}") or nested
    return found if isinstance(found, str) else None


def _first_token(observation: Observation) -> float | None:
    """The time to an observation's first token, in milliseconds. A request with several attempts
    has it only in its metadata. None where it is unknown."""
    start, first = observation["start_time"], observation["completion_start_time"]
    if start and first:
        return _time(first) - _time(start)
    recorded = observation["metadata"].get("time_to_first_token_ms")
    is_number = isinstance(recorded, int | float) and not isinstance(recorded, bool)
    return recorded if is_number else None


def _as_text(value: Any) -> str | None:
    """A name as a text, since an attribute of a span may have another type; None for no name."""
    return str(value) if value else None


def _tokens(usage: dict[str, int]) -> int:
    return usage["total"] if "total" in usage else sum(usage.values())


def _time(iso: str | None) -> int:
    """Milliseconds since the epoch, 0 for None. All times in the store are valid."""
    return round(1000 * datetime.fromisoformat(iso).timestamp()) if iso else 0


def _texts(values: list[Any]) -> Iterator[str]:
    """All texts and numbers in JSON values, at any depth. Empties the list `values`."""
    remaining = values
    while remaining:
        value = remaining.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            remaining.extend(value.values())
        elif isinstance(value, list):
            remaining.extend(value)
        elif isinstance(value, int | float):
            yield str(value)
