"""JSON from strangers, read so that nothing in it can do harm.

Everything that a client, a provider or a header sends is parsed here, since in WebAssembly deep
JSON is no RecursionError: it overflows the stack of the JavaScript engine, which ends the
interpreter and every request in it (Pyodide 314: at some thousand levels).
"""

import json
import math
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from core.limits import MAX_JSON_DEPTH

# NaN and Infinity, which are no JSON, would be read as numbers that can't be written as JSON.
_DECODE_VALUE = json.JSONDecoder(parse_constant=str).raw_decode

_DECODE_MEMBERS = json.JSONDecoder(parse_constant=str, object_pairs_hook=list).raw_decode

_STRING = re.compile(rb'"[^"]*+"?+')

_NO_BRACKETS = bytes({*range(256)} - {*b'[]{}"'})

_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def parse(
    text: str, depth: int = MAX_JSON_DEPTH, decode: Callable[[str], tuple[Any, int]] = _DECODE_VALUE
) -> Any:
    """The value of one JSON text. Raises ValueError for whatever can't be read.

    That includes a nesting of more than `depth` levels and a number of thousands of digits.
    """
    # Nearly every text has so few brackets that they need not be looked at; of any other only its
    # brackets are left and counted.
    if text.count("[") + text.count("{") > depth:
        # Without what is escaped in a string, a quote is where one begins or ends.
        plain = text.replace("\\\\", "").replace('\\"', "").encode("utf-8", "surrogatepass")
        brackets = _STRING.sub(b"", plain.translate(None, _NO_BRACKETS))
        if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > depth:
            raise ValueError("JSON is nested too deep")
    text = text.strip(" \t\r\n")
    value, end = decode(text)
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def parse_members(text: str) -> list[tuple[str, Any]]:
    """The members of one JSON object, with those whose name is there already; an object inside it
    is a list of such pairs. Raises ValueError for whatever can't be read or is no object."""
    if not text.lstrip(" \t\r\n").startswith("{"):
        raise ValueError("not a JSON object")
    return parse(text, decode=_DECODE_MEMBERS)


def decode_utf8(body: bytes) -> str:
    """The text of a UTF-8 body; bytes that are none, such as half a character, become U+FFFD."""
    return body.decode("utf-8", "replace").removeprefix("\ufeff")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def to_json(value: Any) -> str:
    """A structure of JSON as compact text; a number that JSON cannot tell as its name in a text."""
    try:
        return _encode(value)
    except ValueError:  # 1e999 is JSON, but what it is read as is not
        return to_json(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return str(value) if value in (math.inf, -math.inf) or value != value else value


def to_json_body(request: dict[str, Any]) -> bytes:
    return json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")
