"""Validators for the values of variables.

Each takes the value of a variable: a text, or a Python value where wrangler.toml has JSON. It
returns the parsed value or raises ValueError. The message completes a sentence that starts with the
variable's name, and never contains the value, which may be a secret.
"""

import re
from collections.abc import Callable

from core import strict_json
from core.json_values import as_object, as_text
from core.limits import MAX_BATCH_OBSERVATIONS, MAX_FIELD_BYTES
from core.safe_regex import compile_patterns
from core.strict_json import JsonObject, JsonValue
from core.trace_context import is_environment_name

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?")


def text(value: JsonValue) -> str:
    """Check that a value is a text that is not blank; return it without surrounding white space.
    Raises ValueError otherwise."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text")
    return value.strip()


def credential(value: JsonValue) -> str:
    """Check that a value is a key that can be sent in a header: printable ASCII. Return it without
    surrounding white space. Raises ValueError otherwise."""
    key = text(value)
    if not key.isascii() or not key.isprintable():
        raise ValueError("must be a key in plain letters")
    return key


def origins(value: JsonValue) -> frozenset[str]:
    """Parse a list of web origins, such as "https://app.example.com". It is a comma-separated text
    or a list, and may contain "*" for all origins. Raises ValueError for anything else.

    https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin
    """
    listed = frozenset(comma_separated(value))
    if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in listed):
        raise ValueError(
            "must be a comma-separated list of origins such as https://app.example.com"
        )
    return listed


def flag(value: JsonValue) -> bool:
    """Parse a switch: true, false, 1 or 0, in any letter case. Raises ValueError otherwise."""
    values = {"true": True, "1": True, "false": False, "0": False}
    if str(value).strip().lower() not in values:
        raise ValueError("must be true or false")
    return values[str(value).strip().lower()]


def one_of(*words: str) -> Callable[[JsonValue], str]:
    """Return a validator that accepts these words in any letter case, and returns the word in lower
    case. It raises ValueError for any other value. `words` must be in lower case."""

    def check(value: JsonValue) -> str:
        word = text(value).lower()
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return word

    return check


def timeout_seconds(value: JsonValue) -> float:
    """Parse the time limit of one upload: a number of seconds over 0 and up to 30. Raises
    ValueError otherwise."""
    number = _decimal(value)
    if not 0 < number <= 30:
        raise ValueError("must be a number of seconds over 0 and up to 30")
    return number


def retry_seconds(value: JsonValue) -> float:
    """Parse the time limit of an upload with all its retries: a number of seconds over 0 and up to
    28. Raises ValueError otherwise."""
    number = timeout_seconds(value)
    if number > 28:
        raise ValueError("must be at most 28 seconds, of the 30 that the platform gives")
    return number


def interval_seconds(value: JsonValue) -> float:
    """Parse a number of milliseconds from 0 to 10000; return it in seconds. Raises ValueError
    otherwise."""
    number = _decimal(value)
    if not 0 <= number <= 10_000:
        raise ValueError("must be a number of milliseconds from 0 to 10000")
    return number / 1000


def batch_size(value: JsonValue) -> int:
    """Parse a number of observations: a whole number from 1 to `MAX_BATCH_OBSERVATIONS`, as a
    number or as a text. Raises ValueError otherwise."""
    number = _integer(value)
    if not 1 <= number <= MAX_BATCH_OBSERVATIONS:
        raise ValueError(f"must be a number from 1 to {MAX_BATCH_OBSERVATIONS}")
    return number


def byte_count(value: JsonValue) -> int:
    """Parse a number of bytes: a whole number over 0. Raises ValueError otherwise."""
    number = _integer(value)
    if number <= 0:
        raise ValueError("must be a number of bytes over 0")
    return number


def field_byte_count(value: JsonValue) -> int:
    """Parse the limit of an observation's input or output: a whole number of bytes from 1000 to
    `MAX_FIELD_BYTES`. Raises ValueError otherwise."""
    number = byte_count(value)
    if not 1000 <= number <= MAX_FIELD_BYTES:
        raise ValueError(f"must be a number of bytes from 1000 to {MAX_FIELD_BYTES}")
    return number


def fraction(value: JsonValue) -> float:
    """Parse a number from 0 to 1. Raises ValueError otherwise."""
    number = _decimal(value)
    if not 0 <= number <= 1:
        raise ValueError("must be a number from 0 to 1")
    return number


def environment(value: JsonValue) -> str:
    """Check that a value is a text that Langfuse accepts as the name of an environment; return it
    without surrounding white space. Raises ValueError otherwise."""
    name = text(value)
    if not is_environment_name(name):
        raise ValueError("must be at most 40 of a-z, 0-9, - and _, and not start with langfuse")
    return name


def version_id(value: JsonValue) -> str:
    """The id in the metadata of the deployed version; "" where there is none. Never raises.

    https://developers.cloudflare.com/workers/runtime-apis/bindings/version-metadata/
    """
    return as_text(as_object(value).get("id")) or ""


def comma_separated(value: JsonValue) -> list[str]:
    """The items of a comma-separated text or of a list, as texts without surrounding white space.
    Empty items are kept. Never raises: any other value is a list of one item."""
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts]


def gateway_paths(value: JsonValue) -> frozenset[str]:
    """Parse a list of paths that start with "/v1/". It is a comma-separated text or a list. Raises
    ValueError where a path starts otherwise."""
    listed = frozenset(comma_separated(value))
    if not all(path.startswith("/v1/") for path in listed):
        raise ValueError("must be a comma-separated list of paths that start with /v1/")
    return listed


def json_value(value: JsonValue) -> JsonValue:
    """Parse a text as JSON; return any other value as it is. Raises ValueError for invalid JSON."""
    if not isinstance(value, str):
        return value
    try:
        return strict_json.parse(value)
    except ValueError:
        raise ValueError("is not valid JSON") from None


def json_object(value: JsonValue) -> JsonObject:
    """Parse a JSON object: a text, or a dict that is already parsed. Raises ValueError for anything
    else."""
    value = json_value(value)
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")
    return value


def regex_list(value: JsonValue) -> tuple[re.Pattern[str], ...]:
    """Parse a JSON list of regular expressions; return them compiled. Raises ValueError where it is
    not a list, or contains one that `compile_patterns` does not accept."""
    value = json_value(value)
    if not isinstance(value, list):
        raise ValueError("must be a JSON list of regular expressions")
    return compile_patterns(value)


def _decimal(value: JsonValue) -> float:
    """The value as a number; -1.0 where it is not a number or the text of one. Does not raise
    Python's own error, since its message would contain the value."""
    try:
        return float(value) if isinstance(value, int | float | str) else -1.0
    except (ValueError, OverflowError):
        return -1.0


def _integer(value: JsonValue) -> int:
    """The value as a whole number; -1 where it is not a whole number or the text of one. Does not
    raise Python's own error, since its message would contain the value."""
    try:
        return int(value) if isinstance(value, int | str) else -1
    except ValueError:
        return -1
