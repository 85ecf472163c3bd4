"""What a request's headers say about its trace: ids, names, user, session, tags and the rest.

The same thing can be said in several places, and the first that says it counts: `langfuse-*`
headers, `x-portkey-*` headers, the JSON of `x-portkey-metadata`, W3C `baggage` and `traceparent`.
What the body says comes after them all, in `tracing`.
https://www.w3.org/TR/trace-context/ · https://www.w3.org/TR/baggage/
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from core import strict_json
from core.limits import MAX_VALUE_CHARS

TRACE_ID_DIGITS, SPAN_ID_DIGITS = 32, 16

CONTENT_MODES = ("off", "usage", "full")

_HEX = frozenset("0123456789abcdef")

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")

# A string as Python shows it, and a list of them.
_PYTHON_STRING = r"""'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*\""""

_PYTHON_STRING_LIST = re.compile(rf"\[(?:{_PYTHON_STRING})(?:, (?:{_PYTHON_STRING}))*\]")

_ENVIRONMENT = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")

# How the names of all headers begin that are read here.
_TRACE_HEADER_PREFIXES = ("x-portkey-", "langfuse-", "baggage", "traceparent")

_RESERVED_METADATA = ("_user", "_session", "_environment", "_tags")


@dataclass(frozen=True)
class TraceContext:
    """What a request's headers say about its trace.

    `trace_id` (32 hex digits) and `observation_id` (16) are always there. `joined` is set where the
    caller named the trace, which then may have a name, an input and an output already. `content` is
    what the caller lets be recorded at most, one of `CONTENT_MODES`. `notes` name what could not be
    read.
    """

    trace_id: str
    observation_id: str
    is_existing: bool = False
    parent_id: str | None = None
    name: str | None = None
    trace_name: str | None = None
    user: str | None = None
    session: str | None = None
    tags: tuple[str, ...] = ()
    environment: str | None = None
    release: str | None = None
    version: str | None = None
    prompt_name: str | None = None
    prompt_version: int | None = None
    content_mode: str = "full"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_trace_context(headers: Mapping[str, str]) -> TraceContext:
    """The context in a request's headers, keyed by lower-case name. Never raises.

    It makes up the ids that the caller does not give, so it is for request time.
    """
    random_hex = os.urandom((TRACE_ID_DIGITS + SPAN_ID_DIGITS) // 2).hex()
    if not any(name.startswith(_TRACE_HEADER_PREFIXES) for name in headers):
        return TraceContext(random_hex[:TRACE_ID_DIGITS], random_hex[TRACE_ID_DIGITS:])
    notes: list[str] = []
    portkey = _json_header(headers, "x-portkey-metadata", notes)
    langfuse = _json_header(headers, "langfuse-metadata", notes)
    baggage = _langfuse_baggage(headers.get("baggage", ""))

    def first_text(name: str, *values: Any) -> str | None:
        for value in values:
            if isinstance(value, bool) or not isinstance(value, str | int):
                continue
            if text := str(value).strip():
                if len(text) > MAX_VALUE_CHARS:
                    notes.append(f"{name}: cut to {MAX_VALUE_CHARS} characters")
                return text[:MAX_VALUE_CHARS]
        return None

    trace_id, parent_id = _parse_traceparent(headers.get("traceparent", ""))
    id_headers = {
        name: headers.get(name, "").strip()
        for name in ("x-portkey-trace-id", "x-portkey-span-id", "x-portkey-parent-span-id")
    }
    if given := id_headers["x-portkey-trace-id"]:
        fitted = to_hex_id(given, TRACE_ID_DIGITS)
        # A parent lies in its own trace.
        trace_id, parent_id = fitted, parent_id if fitted == trace_id else None
    joined = trace_id is not None
    trace_id = trace_id or random_hex[:TRACE_ID_DIGITS]
    if given := id_headers["x-portkey-parent-span-id"]:
        parent_id = to_hex_id(given, SPAN_ID_DIGITS, trace_id)
    given = id_headers["x-portkey-span-id"]
    own = random_hex[TRACE_ID_DIGITS:]
    observation_id = to_hex_id(given, SPAN_ID_DIGITS, trace_id) if given else own
    if parent_id == observation_id:
        notes.append("parent: an observation is not its own")
        parent_id = None
    used = {trace_id, observation_id, parent_id}

    prompt_name, prompt_version = _prompt_link(headers, baggage, notes)
    return TraceContext(
        trace_id=trace_id,
        observation_id=observation_id,
        is_existing=joined,
        parent_id=parent_id,
        name=first_text("name", headers.get("x-portkey-span-name")),
        trace_name=first_text(
            "trace name", headers.get("langfuse-trace-name"), baggage.get("trace_name")
        ),
        user=first_text(
            "user",
            headers.get("langfuse-user-id"),
            headers.get("x-portkey-user-id"),
            portkey.get("_user"),
            baggage.get("user_id"),
        ),
        session=first_text(
            "session",
            headers.get("langfuse-session-id"),
            headers.get("x-portkey-session-id"),
            portkey.get("_session"),
            baggage.get("session_id"),
        ),
        tags=_first_tags(headers.get("langfuse-tags"), portkey.get("_tags"), baggage.get("tags")),
        environment=_checked_environment(
            first_text(
                "environment",
                headers.get("langfuse-environment"),
                portkey.get("_environment"),
                baggage.get("environment"),
            ),
            notes,
        ),
        release=first_text("release", headers.get("langfuse-release")),
        version=first_text("version", headers.get("langfuse-version"), baggage.get("version")),
        prompt_name=prompt_name,
        prompt_version=prompt_version,
        content_mode=_content_mode(headers.get("x-portkey-trace", ""), notes),
        metadata={
            **{n[9:]: value for n, value in baggage.items() if n.startswith("metadata_")},
            **{name: value for name, value in portkey.items() if name not in _RESERVED_METADATA},
            **langfuse,
            # An id that had to be made to fit is kept as it was given.
            **{name: given for name, given in id_headers.items() if given and given not in used},
        },
        notes=tuple(notes),
    )


def to_hex_id(value: str, digits: int, scope: str = "") -> str:
    """An id of so many hex digits, always the same for the same value within a scope.

    A hex id of the right length stays as it is and a UUID loses its dashes; anything else is
    hashed, together with the scope.
    """
    plain = value.lower().replace("-", "")
    if len(plain) == digits and set(plain) <= _HEX and set(plain) != {"0"}:
        return plain
    return hashlib.sha256((scope + value).encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def is_environment_name(value: str) -> bool:
    """Whether Langfuse takes a value as the name of an environment."""
    return _ENVIRONMENT.fullmatch(value) is not None


def _langfuse_baggage(header: str) -> dict[str, str]:
    """The `langfuse_…` entries of a baggage header, by the rest of their name."""
    found: dict[str, str] = {}
    for member in header.split(","):
        name, _, value = member.partition(";")[0].partition("=")
        name = unquote(name.strip())
        if name.startswith("langfuse_"):
            # The SDKs write a space as "+", as forms do; the standard does not forbid it.
            found[name.removeprefix("langfuse_")] = unquote(value.strip().replace("+", " "))
    return found


def _parse_traceparent(header: str) -> tuple[str | None, str | None]:
    """Trace id and parent span id, or two Nones where the header is malformed."""
    found = _TRACEPARENT.fullmatch(header.strip())
    if not found or found[1] == "0" * TRACE_ID_DIGITS or found[2] == "0" * SPAN_ID_DIGITS:
        return None, None
    return found[1], found[2]


def _prompt_link(
    headers: Mapping[str, str], baggage: Mapping[str, str], notes: list[str]
) -> tuple[str | None, int | None]:
    for name, version in (
        (headers.get("langfuse-prompt-name"), headers.get("langfuse-prompt-version")),
        (baggage.get("prompt_name"), baggage.get("prompt_version")),
    ):
        number = (version or "").strip()
        if name and number.isascii() and number.isdigit() and len(number) < 10:
            return name.strip()[:MAX_VALUE_CHARS], int(number)
        if name or version:
            notes.append("prompt: a name and a version, which is a number, go together")
    return None, None


def _first_tags(*sources: Any) -> tuple[str, ...]:
    """The first source's tags: a list, or a text with commas or a list in it."""
    for source in sources:
        if isinstance(source, str):
            listed = _parse_list(source)
            source = source.split(",") if listed is None else listed
        if isinstance(source, list | tuple):
            tags = (str(tag).strip() for tag in source if isinstance(tag, str | int))
            # Langfuse keeps a set; so the order that was given is kept and repetitions are not.
            if found := tuple(dict.fromkeys(tag[:MAX_VALUE_CHARS] for tag in tags if tag)):
                return found
    return ()


def _checked_environment(value: str | None, notes: list[str]) -> str | None:
    if value is None or is_environment_name(value):
        return value
    notes.append("environment: at most 40 of a-z, 0-9, - and _, not starting with langfuse")
    return None


def _content_mode(value: str, notes: list[str]) -> str:
    mode = value.strip().lower() or "full"
    if mode in CONTENT_MODES:
        return mode
    # Whoever wrote something else wanted less than everything.
    notes.append(f"x-portkey-trace: not one of {', '.join(CONTENT_MODES)}; taken for usage")
    return "usage"


def _json_header(headers: Mapping[str, str], name: str, notes: list[str]) -> dict[str, Any]:
    if not headers.get(name):
        return {}
    try:
        value = strict_json.parse(headers[name])
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    notes.append(f"{name}: not a JSON object")
    return {}


def _parse_list(text: str) -> list[Any] | None:
    """The list that a text is: in JSON, or as the Python SDK writes tags into the baggage."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = strict_json.parse(text)
    except ValueError:
        if not _PYTHON_STRING_LIST.fullmatch(text.strip()):
            return None
        return [re.sub(r"\\(.)", r"\1", shown[1:-1]) for shown in re.findall(_PYTHON_STRING, text)]
    return value if isinstance(value, list) else None
