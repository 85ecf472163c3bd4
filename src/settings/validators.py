"""Validators for the values of variables.

Each takes the value of a variable, which is text or what wrangler's JSON bindings parsed. It
returns the parsed value or raises ValueError. The message completes a sentence that starts with the
variable's name, and never contains the value, which may be a secret.
"""

import re
from collections.abc import Callable
from typing import Any

from core import strict_json
from core.limits import MAX_BATCH_OBSERVATIONS, MAX_FIELD_BYTES
from core.safe_regex import compile_patterns
from core.trace_context import is_environment_name

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?")


def text(value: Any) -> str:
    """A text that is not empty, without white space around it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text")
    return value.strip()


def credential(value: Any) -> str:
    """A provider's key: printable ASCII, so that it can be sent in a header."""
    key = text(value)
    if not key.isascii() or not key.isprintable():
        raise ValueError("must be a key in plain letters")
    return key


def origins(value: Any) -> frozenset[str]:
    """A comma-separated list of web origins, or "*" for all of them.

    https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin
    """
    listed = frozenset(comma_separated(value))
    if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in listed):
        raise ValueError(
            "must be a comma-separated list of origins such as https://app.example.com"
        )
    return listed


def flag(value: Any) -> bool:
    """A switch: true, false, 1 or 0."""
    values = {"true": True, "1": True, "false": False, "0": False}
    if str(value).strip().lower() not in values:
        raise ValueError("must be true or false")
    return values[str(value).strip().lower()]


def one_of(*words: str) -> Callable[[Any], str]:
    """A validator for one of these words. It ignores case and returns lower case."""

    def check(value: Any) -> str:
        word = text(value).lower()
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return word

    return check


def timeout_seconds(value: Any) -> float:
    """The time limit of one upload, in seconds: over 0 and up to 30."""
    number = _decimal(value)
    if not 0 < number <= 30:
        raise ValueError("must be a number of seconds over 0 and up to 30")
    return number


def retry_seconds(value: Any) -> float:
    """The time limit of all attempts at an upload together, in seconds: over 0 and up to 28."""
    number = timeout_seconds(value)
    if number > 28:
        raise ValueError("must be at most 28 seconds, of the 30 that the platform gives")
    return number


def interval_seconds(value: Any) -> float:
    """An interval of 0 to 10000 milliseconds, in seconds."""
    number = _decimal(value)
    if not 0 <= number <= 10_000:
        raise ValueError("must be a number of milliseconds from 0 to 10000")
    return number / 1000


def batch_size(value: Any) -> int:
    """A number of observations in a batch, from 1 to `MAX_BATCH_OBSERVATIONS`."""
    number = _integer(value)
    if not 1 <= number <= MAX_BATCH_OBSERVATIONS:
        raise ValueError(f"must be a number from 1 to {MAX_BATCH_OBSERVATIONS}")
    return number


def byte_count(value: Any) -> int:
    """A number of bytes over 0."""
    number = _integer(value)
    if number <= 0:
        raise ValueError("must be a number of bytes over 0")
    return number


def field_byte_count(value: Any) -> int:
    """The limit in bytes of an input or an output, from 1000 to `MAX_FIELD_BYTES`."""
    number = byte_count(value)
    if not 1000 <= number <= MAX_FIELD_BYTES:
        raise ValueError(f"must be a number of bytes from 1000 to {MAX_FIELD_BYTES}")
    return number


def fraction(value: Any) -> float:
    """A number from 0 to 1."""
    number = _decimal(value)
    if not 0 <= number <= 1:
        raise ValueError("must be a number from 0 to 1")
    return number


def environment(value: Any) -> str:
    """The name of an environment in Langfuse."""
    name = text(value)
    if not is_environment_name(name):
        raise ValueError("must be at most 40 of a-z, 0-9, - and _, and not start with langfuse")
    return name


def comma_separated(value: Any) -> list[str]:
    """The parts of a comma-separated list, or of a JSON list."""
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts]


def gateway_paths(value: Any) -> frozenset[str]:
    """A comma-separated list of paths of the gateway, which start with "/v1/"."""
    listed = frozenset(comma_separated(value))
    if not all(path.startswith("/v1/") for path in listed):
        raise ValueError("must be a comma-separated list of paths that start with /v1/")
    return listed


def json_value(value: Any) -> Any:
    """Any JSON value, parsed where it is a text."""
    if not isinstance(value, str):
        return value
    try:
        return strict_json.parse(value)
    except ValueError:
        raise ValueError("is not valid JSON") from None


def json_object(value: Any) -> dict[str, Any]:
    """A JSON object."""
    value = json_value(value)
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")
    return value


def regex_list(value: Any) -> tuple[re.Pattern[str], ...]:
    """A JSON list of regular expressions, compiled by `core.safe_regex`."""
    value = json_value(value)
    if not isinstance(value, list):
        raise ValueError("must be a JSON list of regular expressions")
    return compile_patterns(value)


def _decimal(value: Any) -> float:
    """The value as a number. It is -1 where it is not a number, since the message of Python's own
    error would contain the value."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return -1.0


def _integer(value: Any) -> int:
    """The value as a whole number, -1 where it is not one."""
    try:
        return int(value) if isinstance(value, int | str) else -1
    except ValueError:
        return -1
