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
from typing import Any

from core.limits import MAX_JSON_DEPTH

# NaN and Infinity are not JSON. Python would parse them as numbers that cannot be written as JSON;
# here they are parsed as strings.
_DECODE_VALUE = json.JSONDecoder(parse_constant=str).raw_decode

_DECODE_MEMBERS = json.JSONDecoder(parse_constant=str, object_pairs_hook=list).raw_decode

# A string, in a text of which only brackets and quotes are left. The last one may have no end.
_STRING = re.compile(rb'"[^"]*+"?+')

# All bytes but brackets and quotes.
_OTHER_BYTES = bytes({*range(256)} - {*b'[]{}"'})

_DEPTH_CHANGES = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def parse(
    text: str, depth: int = MAX_JSON_DEPTH, decode: Callable[[str], tuple[Any, int]] = _DECODE_VALUE
) -> Any:
    """Return the value of a text that is one JSON value.

    Raises ValueError for malformed JSON, for more than `depth` levels of nesting and for a number
    with thousands of digits. `decode` takes a text, and returns the value at its start and the
    index after it.
    """
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


def parse_members(text: str) -> list[tuple[str, Any]]:
    """Return the members of a JSON object as pairs of name and value, repeated names included.

    Objects inside it are lists of such pairs as well. Raises ValueError as `parse` does, and where
    the text is not an object.
    """
    if not text.lstrip(" \t\r\n").startswith("{"):
        raise ValueError("not a JSON object")
    return parse(text, decode=_DECODE_MEMBERS)


def decode_utf8(body: bytes) -> str:
    """The text of a UTF-8 body, without a byte order mark. Invalid bytes, such as half a character
    at the end of a truncated body, become U+FFFD."""
    return body.decode("utf-8", "replace").removeprefix("\ufeff")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def to_json(value: Any) -> str:
    """The compact JSON text of a JSON value. A number that JSON does not have becomes a string with
    its name, such as "inf"."""
    try:
        return _encode(value)
    except ValueError:  # 1e999 is JSON, but it is parsed as infinity
        return to_json(_finite(value))


def _finite(value: Any) -> Any:
    """The value with each infinity or NaN replaced by its name."""
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return str(value) if value in (math.inf, -math.inf) or value != value else value


def to_json_body(request: dict[str, Any]) -> bytes:
    """The JSON text of a request as a body in UTF-8. A lone surrogate, which a JSON escape may
    represent, raises no error."""
    return json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")
