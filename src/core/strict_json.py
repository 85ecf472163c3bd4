"""Parsing and writing of JSON of untrusted origin.

All JSON of clients, providers and headers is parsed here. In WebAssembly deeply nested JSON does
not raise RecursionError: it overflows the stack of the JavaScript engine, which ends the
interpreter and every request in it (Pyodide 314: at some thousand levels).
"""

import json
import math
import re
from collections.abc import Callable
from itertools import accumulate
from typing import TypeAlias, TypeVar, cast

from core.limits import MAX_JSON_DEPTH

# The values that `parse` returns.
JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

# NaN and Infinity are not JSON. Python would parse them as numbers that cannot be written as JSON;
# here they are parsed as strings.
_DECODE_VALUE: Callable[[str], tuple[JsonValue, int]] = json.JSONDecoder(
    parse_constant=str
).raw_decode

_DECODE_MEMBERS: Callable[[str], tuple[list[tuple[str, object]], int]] = json.JSONDecoder(
    parse_constant=str, object_pairs_hook=list
).raw_decode

# Matches a string in a text that has been reduced to brackets and quotes. The last one may have no
# end.
_STRING = re.compile(rb'"[^"]*+"?+')

# All bytes but brackets and quotes.
_OTHER_BYTES = bytes({*range(256)} - {*b'[]{}"'})

_DEPTH_CHANGES = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def parse(text: str, depth: int = MAX_JSON_DEPTH) -> JsonValue:
    """Parse a text that is one JSON value. `NaN` and `Infinity`, which are no JSON, become strings.

    Raises ValueError for malformed JSON, for more than `depth` levels of nesting, and for a number
    with thousands of digits.
    """
    return _parse(text, depth, _DECODE_VALUE)


_Value = TypeVar("_Value")


def _parse(text: str, depth: int, decode: Callable[[str], tuple[_Value, int]]) -> _Value:
    """Parse a text that is one JSON value, as `parse` does. `decode` takes the text and returns a
    pair of the value at its start and the index after that value."""
    # Nearly every text has too few brackets to be nested too deep. In any other text, the brackets
    # outside of strings are counted.
    if text.count("[") + text.count("{") > depth:
        # Once escaped backslashes and quotes are removed, each quote begins or ends a string.
        plain = text.replace("\\\\", "").replace('\\"', "").encode("utf-8", "surrogatepass")
        brackets = _STRING.sub(b"", plain.translate(None, _OTHER_BYTES))
        if max(accumulate(map(_DEPTH_CHANGES.__getitem__, brackets)), default=0) > depth:
            raise ValueError("JSON is nested too deep")
    text = text.strip(" \t\r\n")
    value, end = decode(text)
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def parse_members(text: str) -> list[tuple[str, object]]:
    """Parse a JSON object into its members: pairs (name, value) in their order, including repeated
    names. Objects inside of it also become lists of such pairs.

    Raises ValueError where the text is not a JSON object, is nested deeper than `MAX_JSON_DEPTH`
    levels, or contains a number with thousands of digits.
    """
    if not text.lstrip(" \t\r\n").startswith("{"):
        raise ValueError("not a JSON object")
    return _parse(text, MAX_JSON_DEPTH, _DECODE_MEMBERS)


def decode_utf8(body: bytes) -> str:
    """Decode UTF-8, without a byte order mark at the start. Never raises: invalid bytes, such as
    half a character at the end of a truncated body, become U+FFFD."""
    return body.decode("utf-8", "replace").removeprefix("\ufeff")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def to_json(value: object) -> str:
    """The JSON text of a value, without white space. Infinity and NaN, which JSON does not have,
    become the strings "inf", "-inf" and "nan"."""
    try:
        return _encode(value)
    except ValueError:  # 1e999 is JSON, but it is parsed as infinity
        return to_json(_finite(value))


def _finite(value: object) -> object:
    """A copy of a JSON value in which each infinity or NaN is replaced by a string, such as
    "inf"."""
    if isinstance(value, list | tuple):
        return [_finite(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in cast("JsonObject", value).items()}
    return str(value) if value in (math.inf, -math.inf) or value != value else value


def to_json_body(request: JsonObject) -> bytes:
    """Encode the JSON object of a request to a provider as JSON in UTF-8.

    A text may contain a lone surrogate, since a JSON escape may represent one: it raises no error.
    """
    return json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")
