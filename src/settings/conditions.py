"""The queries of a conditional config, on a request's metadata and its body's parameters.

https://portkey.ai/docs/product/ai-gateway/conditional-routing
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.limits import MAX_QUERY_DEPTH, MAX_QUERY_MEMBERS, REGEX_WINDOW_CHARS
from core.safe_regex import compile_patterns

SOURCES = ("metadata", "params", "url")


def check_query(query: Any, depth: int = MAX_QUERY_DEPTH) -> Mapping[str, Any]:
    """A query that `matches` can read. Raises ValueError."""
    if not isinstance(query, dict) or not query or len(query) > MAX_QUERY_MEMBERS or depth == 0:
        raise ValueError("must have a query in each condition, nested in few levels")
    for name, wanted in query.items():
        if name in ("$and", "$or"):
            if not isinstance(wanted, list) or not wanted or len(wanted) > MAX_QUERY_MEMBERS:
                raise ValueError(f"must have a list of queries under {name}")
            for each in wanted:
                check_query(each, depth - 1)
            continue
        source, dot, rest = name.partition(".")
        if source not in SOURCES or not dot or not rest:
            raise ValueError("may ask for metadata.…, params.… and url.pathname")
        for operation, value in (wanted if isinstance(wanted, dict) else {"$eq": wanted}).items():
            if operation not in _OPERATORS:
                raise ValueError(f"may use {', '.join(_OPERATORS)}")
            if operation in ("$in", "$nin") and not isinstance(value, list):
                raise ValueError(f"must have a list under {operation}")
            if operation == "$regex":
                compile_patterns([value])
    return query


def query_matches(query: Mapping[str, Any], values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a checked query is true of `facts`, which are its sources by their names."""
    for name, wanted in query.items():
        if name in ("$and", "$or"):
            found = (query_matches(each, values) for each in wanted)
            if not (all(found) if name == "$and" else any(found)):
                return False
            continue
        source, *path = name.split(".")
        value: Any = values.get(source, {})
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        operations = wanted if isinstance(wanted, dict) else {"$eq": wanted}
        if not all(_OPERATORS[operation](value, other) for operation, other in operations.items()):
            return False
    return True


def _numeric(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A comparison that is false of values that have no order among them, such as a missing one."""

    def check(value: Any, other: Any) -> bool:
        try:
            return compare(float(value), float(other))
        except (TypeError, ValueError, OverflowError):
            return False

    return check


def _is_one_of(value: Any, others: Sequence[Any]) -> bool:
    text = _text(value)  # once: that of a number of thousands of digits takes its time
    return any(value == each or (text is not None and text == _text(each)) for each in others)


def _is_equal(value: Any, other: Any) -> bool:
    # In a header's metadata everything is text. Of a list, such as all the messages, a text would
    # be made for every comparison.
    return value == other or (_text(value) is not None and _text(value) == _text(other))


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": _is_equal,
    "$ne": lambda value, other: not _is_equal(value, other),
    "$in": _is_one_of,
    "$nin": lambda value, others: not _is_one_of(value, others),
    "$gt": _numeric(operator.gt),
    "$gte": _numeric(operator.ge),
    "$lt": _numeric(operator.lt),
    "$lte": _numeric(operator.le),
    "$regex": lambda value, pattern: (
        isinstance(value, str) and re.search(pattern, value[:REGEX_WINDOW_CHARS]) is not None
    ),
}
