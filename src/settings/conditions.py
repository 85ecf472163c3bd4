"""The queries of conditional configs, which test a request's metadata, body and path.

https://portkey.ai/docs/product/ai-gateway/conditional-routing
"""

import operator
import re
from collections.abc import Callable, Mapping

from core.json_values import as_list, object_items
from core.limits import MAX_QUERY_DEPTH, MAX_QUERY_MEMBERS, REGEX_WINDOW_CHARS
from core.safe_regex import compile_patterns
from core.strict_json import JsonObject, JsonValue

SOURCES = ("metadata", "params", "url")

# Compares a value of a request with an operand.
_Operator = Callable[[JsonValue, JsonValue], bool]


def check_query(query: JsonValue, depth: int = MAX_QUERY_DEPTH) -> JsonObject:
    """Check a query of a conditional config, and return it unchanged.

    A query is a JSON object that is not empty. Under a name such as "metadata.plan", "params.model"
    or "url.pathname" it has the value to compare with, or an object {operator: operand}. Under
    "$and" and "$or" it has a list of queries that is not empty.

    Raises ValueError where the query has another form, an unknown operator, or a regular expression
    that `compile_patterns` does not accept. Also where it has more than `MAX_QUERY_MEMBERS` members
    or queries in a list, or is nested deeper than `depth` levels.
    """
    if not isinstance(query, dict) or not query or len(query) > MAX_QUERY_MEMBERS or depth == 0:
        raise ValueError("must have a query in each condition, nested in few levels")
    for name, condition in query.items():
        if name in ("$and", "$or"):
            if (
                not isinstance(condition, list)
                or not condition
                or len(condition) > MAX_QUERY_MEMBERS
            ):
                raise ValueError(f"must have a list of queries under {name}")
            for each in condition:
                check_query(each, depth - 1)
            continue
        source, dot, rest = name.partition(".")
        if source not in SOURCES or not dot or not rest:
            raise ValueError("may ask for metadata.…, params.… and url.pathname")
        operations = condition if isinstance(condition, dict) else {"$eq": condition}
        if not operations:
            # Without an operator the condition would be true of every request.
            raise ValueError("must have an operator for each member of a query")
        for operation, value in operations.items():
            if operation not in _OPERATORS:
                raise ValueError(f"may use {', '.join(_OPERATORS)}")
            if operation in ("$in", "$nin") and not (isinstance(value, list) and value):
                raise ValueError(f"must have a list that is not empty under {operation}")
            if operation == "$regex":
                compile_patterns([value])
    return query


def query_matches(query: JsonObject, values: Mapping[str, JsonObject]) -> bool:
    """Whether a query is true of a request: all of its members, and all operators of each. The
    query must be one that `check_query` has accepted.

    `values` maps each name in `SOURCES` to a JSON object; that of "url" has the member "pathname".
    In a query, "params.a.b" is the member "b" of the object "a" in "params". A missing value is
    None.

    Texts, numbers and booleans are also equal if they are equal as texts. "$gt", "$gte", "$lt" and
    "$lte" compare numbers, and are false for any other value. "$regex" searches only the first
    `REGEX_WINDOW_CHARS` characters, and is false for a value that is no text.
    """
    for name, condition in query.items():
        if name in ("$and", "$or"):
            found = (query_matches(each, values) for each in object_items(condition))
            if not (all(found) if name == "$and" else any(found)):
                return False
            continue
        source, *path = name.split(".")
        value: JsonValue = values.get(source, {})
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        operations = condition if isinstance(condition, dict) else {"$eq": condition}
        if not all(_OPERATORS[operation](value, other) for operation, other in operations.items()):
            return False
    return True


def _numeric(compare: Callable[[float, float], bool]) -> _Operator:
    """A function that applies `compare` to two JSON values as numbers. It returns False where one
    of them is neither a number nor the text of one."""

    def check(value: JsonValue, other: JsonValue) -> bool:
        if not isinstance(value, int | float | str) or not isinstance(other, int | float | str):
            return False
        try:
            return compare(float(value), float(other))
        except (ValueError, OverflowError):
            return False

    return check


def _is_one_of(value: JsonValue, others: JsonValue) -> bool:
    text = _text(value)  # once, since converting thousands of digits takes long
    return any(
        value == each or (text is not None and text == _text(each)) for each in as_list(others)
    )


def _is_equal(value: JsonValue, other: JsonValue) -> bool:
    # Values of metadata in a header are often texts, so numbers and booleans are compared as texts
    # too. Lists are not: converting one, such as all messages, for every comparison takes long.
    return value == other or (_text(value) is not None and _text(value) == _text(other))


def _contains_match(value: JsonValue, pattern: JsonValue) -> bool:
    if not isinstance(value, str) or not isinstance(pattern, str):
        return False
    return re.search(pattern, value[:REGEX_WINDOW_CHARS]) is not None


def _text(value: JsonValue) -> str | None:
    """A text, number or boolean as a text; None for any other JSON value."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


_OPERATORS: Mapping[str, _Operator] = {
    "$eq": _is_equal,
    "$ne": lambda value, other: not _is_equal(value, other),
    "$in": _is_one_of,
    "$nin": lambda value, others: not _is_one_of(value, others),
    "$gt": _numeric(operator.gt),
    "$gte": _numeric(operator.ge),
    "$lt": _numeric(operator.lt),
    "$lte": _numeric(operator.le),
    "$regex": _contains_match,
}
