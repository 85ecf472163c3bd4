"""What the inbox's page lists: a summary of each trace, filtered, and only what has changed.

The list of a page that asks again and again is cheap: a trace is summed up once for each change
of it, and what the page has already seen is not sent again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from local.inbox.store import Observation, Store, Trace

# The worst first: a trace is as bad as the worst that stands at its top.
LEVELS = ("ERROR", "WARNING", "DEFAULT", "DEBUG")
# What a search looks through.
_OF_TRACE = ("id", "name", "user_id", "session_id", "tags", "metadata", "input", "output")
_OF_OBSERVATION = ("name", "model", "status_message", "metadata", "input", "output")


class Wanted(NamedTuple):
    """Which traces are listed: of a model, a level, a session, and with each word of a text
    somewhere in them. None, and an empty text, is any."""

    model: str | None = None
    level: str | None = None
    session: str | None = None
    text: str = ""


@dataclass
class _Summary:
    revision: int
    shown: dict[str, Any]
    trace: Trace
    observations: list[Observation]
    text: str | None = None

    def fits(self, wanted: Wanted, words: list[str]) -> bool:
        return (
            (wanted.model is None or wanted.model in self.shown["models"])
            and (wanted.level is None or wanted.level == self.shown["level"])
            and (wanted.session is None or wanted.session == self.shown["session"])
            and (not words or all(word in self.searched() for word in words))
        )

    def searched(self) -> str:
        if self.text is None:
            values: list[Any] = [self.trace[name] for name in _OF_TRACE]
            values += [observed[name] for observed in self.observations for name in _OF_OBSERVATION]
            self.text = "\n".join(_texts(values)).casefold()
        return self.text


class Listing:
    """The list of one store. Not thread-safe, as the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._summaries: dict[str, _Summary] = {}

    @property
    def revision(self) -> str:
        """A word that changes whenever the list does, and from one inbox to the next."""
        return f"{self._store.epoch}-{self._store.revision}"

    def read(
        self, since: str | None, wanted: Wanted, *, limit: int, implied: bool
    ) -> dict[str, Any]:
        """The newest `limit` traces that are wanted, the newest first; with `since`, a `revision`
        of before, only those that have changed. `implied` as in the store.

        Beside them: how many there are and how many of them are wanted; the ids of those that
        have changed and are not wanted (`gone`); every model, level and session of what
        has changed; and whether this is the whole list.
        """
        epoch, _, number = (since or "").partition("-")
        is_ours = epoch == self._store.epoch and re.fullmatch("[0-9]{1,15}", number)
        known = int(number) if is_ours else None
        words = wanted.text.casefold().split()
        total, changed, fitting = 0, [], []
        stale, self._summaries = self._summaries, {}
        for trace_id, place, revision in self._store.changes(implied):
            summary = stale.pop(trace_id, None)
            if summary is None or summary.revision != revision:
                summary = self._sum_up(trace_id, place, revision)
            self._summaries[trace_id] = summary
            total += 1
            if known is None or revision > known:
                changed.append(summary)
            if summary.fits(wanted, words):
                fitting.append(summary)
        kept = {id(summary) for summary in fitting}
        listed = [found for found in fitting if known is None or found.revision > known]
        return {
            "revision": self.revision,
            "whole": known is None,
            "total": total,
            "matching": len(fitting),
            "traces": [found.shown for found in listed[: -limit - 1 : -1]],
            "gone": [found.shown["id"] for found in changed if id(found) not in kept]
            if known is not None
            else [],
            "models": sorted({model for found in changed for model in found.shown["models"]}),
            "levels": sorted({found.shown["level"] for found in changed}, key=LEVELS.index),
            "sessions": sorted({s for found in changed if (s := found.shown["session"])}),
        }

    def _sum_up(self, trace_id: str, number: int, revision: int) -> _Summary:
        found = self._store.trace(trace_id)
        assert found, "the store has told of this trace"
        trace, observations = found
        return _Summary(revision, _shown(number, trace, observations), trace, observations)


def _shown(number: int, trace: Trace, observations: list[Observation]) -> dict[str, Any]:
    """A trace as the list shows it: times in ms, the first token's since its generation began."""
    models = [observed for observed in observations if observed["model"]]
    main = main_observation(observations)
    starts = [start for observed in observations if (start := _time(observed["start_time"]))]
    ends = [end for observed in observations if (end := _time(observed["end_time"]))]
    # And how it all ended, the span above them says.
    ids = {observed["id"] for observed in observations}
    tops = [observed for observed in observations if observed["parent_id"] not in ids]
    levels = {observed["level"] for observed in tops or observations}
    first = None
    if main and main["start_time"] and main["completion_start_time"]:
        first = _time(main["completion_start_time"]) - _time(main["start_time"])
    return {
        "id": trace["id"],
        "number": number,
        "time": _time(trace["timestamp"]),
        "name": _word(trace["name"]) or (main and _word(main["name"])) or trace["id"],
        "model": main and _word(main["model"]),
        "models": sorted({str(observed["model"]) for observed in models}),
        "provider": main and provider(main),
        "user": _word(trace["user_id"]) or (main and _word(main["user_id"])),
        "session": _word(trace["session_id"]) or (main and _word(main["session_id"])),
        "tokens": sum(_tokens(observed["usage"]) for observed in observations),
        "latency": max(ends) - min(starts) if starts and ends else None,
        "first": first,
        "level": next((level for level in LEVELS if level in levels), "DEFAULT"),
        "steps": len(observations),
    }


def main_observation(observations: list[Observation]) -> Observation | None:
    """The one that a trace is about: the last generation, of several attempts one that came to
    something; without any generation what comes nearest to it."""

    def rank(observed: Observation) -> tuple[bool, bool, bool, int]:
        is_well, is_generation = observed["level"] != "ERROR", observed["type"] == "GENERATION"
        return bool(observed["model"]), is_well, is_generation, _time(observed["start_time"])

    return max(observations, key=rank, default=None)


def provider(observation: Observation) -> str | None:
    """Who answered, as the gateway says it, or a tracer by OpenTelemetry's conventions."""
    metadata = observation["metadata"]
    attributes = metadata.get("attributes")
    further = attributes.get("gen_ai.provider.name") if isinstance(attributes, dict) else None
    found = metadata.get("provider") or further
    return found if isinstance(found, str) else None


def _word(value: Any) -> str | None:
    """A name as a text, which an attribute of a span need not be."""
    return str(value) if value else None


def _tokens(usage: dict[str, int]) -> int:
    return usage["total"] if "total" in usage else sum(usage.values())


def _time(iso: str | None) -> int:
    """Milliseconds since the epoch, 0 for none; what was no time has been refused."""
    return round(1000 * datetime.fromisoformat(iso).timestamp()) if iso else 0


def _texts(values: list[Any]) -> Iterator[str]:
    """Every text and number in JSON values, however deep they stand."""
    waiting = values
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, int | float):
            yield str(value)
