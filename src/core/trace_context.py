"""Reads a request's trace context from its headers: ids, names, user, session, tags and the rest.

Several headers may contain the same field. The first one in this order is used: `langfuse-*`
headers, `x-portkey-*` headers, the JSON of `x-portkey-metadata`, W3C `baggage` and `traceparent`.
Fields of the request's body have a lower priority than all headers; `tracing` adds them.
https://www.w3.org/TR/trace-context/ · https://www.w3.org/TR/baggage/
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

from core import strict_json
from core.limits import MAX_VALUE_CHARS
from core.strict_json import JsonObject, JsonValue

TRACE_ID_DIGITS, SPAN_ID_DIGITS = 32, 16

# How much of a call is recorded, from the least to the most: nothing, everything except content,
# and everything.
CONTENT_MODES = ("off", "usage", "full")

_HEX = frozenset("0123456789abcdef")

# Version 00 has four fields. A later version may have more, of which only these four are read:
# https://www.w3.org/TR/trace-context/#versioning-of-traceparent
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})"
    r"-[0-9a-f]{2}(?P<more>-.*)?"
)

# A string as Python's `repr` writes it, and a list of such strings.
_PYTHON_STRING = r"""'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*\""""

_PYTHON_STRING_LIST = re.compile(rf"\[(?:{_PYTHON_STRING})(?:, (?:{_PYTHON_STRING}))*\]")

_ENVIRONMENT = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")

# Prefixes of the headers that are read here.
_TRACE_HEADER_PREFIXES = ("x-portkey-", "langfuse-", "baggage", "traceparent")

# Members of `x-portkey-metadata` that are fields of the trace and not its metadata.
_RESERVED_METADATA = ("_user", "_session", "_environment", "_tags")


class _Sources(NamedTuple):
    """Where a field may be, in the order of priority: headers, a member of `x-portkey-metadata`,
    and a value of Langfuse's in `baggage`. "" for none."""

    headers: tuple[str, ...]
    metadata: str = ""
    baggage: str = ""

    def values(
        self,
        headers: Mapping[str, str],
        metadata: Mapping[str, JsonValue],
        baggage: Mapping[str, str],
    ) -> list[JsonValue]:
        """The field's value in each source, None where it has none."""
        return [
            *(headers.get(name) for name in self.headers),
            metadata.get(self.metadata) if self.metadata else None,
            baggage.get(self.baggage) if self.baggage else None,
        ]


# The fields of `TraceContext` that are a single text.
_TEXT_FIELDS = {
    "name": _Sources(("x-portkey-span-name",)),
    "trace_name": _Sources(("langfuse-trace-name",), baggage="trace_name"),
    "user": _Sources(("langfuse-user-id", "x-portkey-user-id"), "_user", "user_id"),
    "session": _Sources(("langfuse-session-id", "x-portkey-session-id"), "_session", "session_id"),
    "environment": _Sources(("langfuse-environment",), "_environment", "environment"),
    "release": _Sources(("langfuse-release",)),
    "version": _Sources(("langfuse-version",), baggage="version"),
}


@dataclass(frozen=True)
class TraceContext:
    """The values in a request's headers that describe its trace and its observation in Langfuse.
    None or empty where the headers do not contain them.

    `trace_id` (32 hex digits) and `observation_id` (16) are always set. `is_existing` is True where
    the headers contain the trace's id: other observations may belong to that trace, and it may
    already have an input and output. `is_app_trace` is True where they also contain an observation
    above this one. That observation's trace is described by the app which records it. A trace of
    which the headers contain only the id consists of calls to the gateway.

    `parent_id` is the id of the observation above this one (16 hex digits). `name` is the name of
    the observation. `prompt_name` and `prompt_version` identify a prompt that Langfuse manages;
    both are set or neither.

    `content_mode` is one of `CONTENT_MODES`, the most that the client allows to be recorded.
    `metadata` maps names to JSON values. `notes` describe, for the metadata, values that could not
    be used or were cut.
    """

    trace_id: str
    observation_id: str
    is_existing: bool = False
    is_app_trace: bool = False
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
    metadata: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    notes: tuple[str, ...] = ()


def read_trace_context(headers: Mapping[str, str]) -> TraceContext:
    """Read the trace context from a request's headers, which are keyed by lower-case name.

    Never raises: a value that cannot be used is left out, with a note. Ids that the headers do not
    contain are random, so the function must not be called at import. An id that is not in
    Langfuse's format is converted by `to_hex_id`, and is also in the metadata as it was sent.
    """
    random_hex = os.urandom((TRACE_ID_DIGITS + SPAN_ID_DIGITS) // 2).hex()
    if not any(name.startswith(_TRACE_HEADER_PREFIXES) for name in headers):
        return TraceContext(random_hex[:TRACE_ID_DIGITS], random_hex[TRACE_ID_DIGITS:])
    notes: list[str] = []
    portkey = _json_header(headers, "x-portkey-metadata", notes)
    langfuse = _json_header(headers, "langfuse-metadata", notes)
    baggage = _langfuse_baggage(headers.get("baggage", ""))

    trace_id, parent_id = _parse_traceparent(headers.get("traceparent", ""))
    id_headers = {
        name: headers.get(name, "").strip()
        for name in ("x-portkey-trace-id", "x-portkey-span-id", "x-portkey-parent-span-id")
    }
    if sent_id := id_headers["x-portkey-trace-id"]:
        hex_id = to_hex_id(sent_id, TRACE_ID_DIGITS)
        # The parent in `traceparent` is part of the trace in `traceparent`, and of no other one.
        trace_id, parent_id = hex_id, parent_id if hex_id == trace_id else None
    is_existing = trace_id is not None
    trace_id = trace_id or random_hex[:TRACE_ID_DIGITS]
    if sent_id := id_headers["x-portkey-parent-span-id"]:
        parent_id = to_hex_id(sent_id, SPAN_ID_DIGITS, trace_id)
    sent_id = id_headers["x-portkey-span-id"]
    random_id = random_hex[TRACE_ID_DIGITS:]
    is_app_trace = is_existing and parent_id is not None
    observation_id = to_hex_id(sent_id, SPAN_ID_DIGITS, trace_id) if sent_id else random_id
    if parent_id == observation_id:
        notes.append("parent: an observation is not its own")
        parent_id = None
    used_ids = {trace_id, observation_id, parent_id}

    prompt_name, prompt_version = _prompt_link(headers, baggage, notes)
    texts = {
        name: _first_text(name, sources.values(headers, portkey, baggage), notes)
        for name, sources in _TEXT_FIELDS.items()
    }
    texts["environment"] = _checked_environment(texts["environment"], notes)
    return TraceContext(
        **texts,
        trace_id=trace_id,
        observation_id=observation_id,
        is_existing=is_existing,
        is_app_trace=is_app_trace,
        parent_id=parent_id,
        tags=_first_tags(headers.get("langfuse-tags"), portkey.get("_tags"), baggage.get("tags")),
        prompt_name=prompt_name,
        prompt_version=prompt_version,
        content_mode=_content_mode(headers.get("x-portkey-trace", ""), notes),
        metadata={
            **{n[9:]: value for n, value in baggage.items() if n.startswith("metadata_")},
            **{name: value for name, value in portkey.items() if name not in _RESERVED_METADATA},
            **langfuse,
            # An id that was converted is recorded as the caller sent it.
            **{
                name: sent_id
                for name, sent_id in id_headers.items()
                if sent_id and sent_id not in used_ids
            },
        },
        notes=tuple(notes),
    )


def _first_text(name: str, values: list[JsonValue], notes: list[str]) -> str | None:
    """The first of the values that is a whole number or a text that is not blank, as a text of at
    most `MAX_VALUE_CHARS`. None where there is none. Where it was cut, a note with the field's name
    is added."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int):
            continue
        if text := str(value).strip():
            if len(text) > MAX_VALUE_CHARS:
                notes.append(f"{name.replace('_', ' ')}: cut to {MAX_VALUE_CHARS} characters")
            return text[:MAX_VALUE_CHARS]
    return None


def to_hex_id(value: str, digits: int, scope: str = "") -> str:
    """Convert an id of the client into one of `digits` hex digits, always the same for the same
    value and scope.

    A value that has this form is kept, in lower case and without dashes, so a UUID can be a trace
    id. Any other value, and one of zeros alone, is hashed together with `scope`. The scope of a
    span id is its trace id, since the same span id may occur in several traces.
    """
    plain = value.lower().replace("-", "")
    if len(plain) == digits and set(plain) <= _HEX and set(plain) != {"0"}:
        return plain
    return hashlib.sha256((scope + value).encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def is_environment_name(value: str) -> bool:
    """Whether Langfuse accepts a value as the name of an environment: 1 to 40 of a-z, 0-9, "-" and
    "_", not starting with "langfuse"."""
    return _ENVIRONMENT.fullmatch(value) is not None


def _langfuse_baggage(header: str) -> dict[str, str]:
    """The values in a `baggage` header that Langfuse's SDKs sent, decoded: those whose name starts
    with "langfuse_", keyed by the rest of the name. Empty where there are none."""
    found: dict[str, str] = {}
    for member in header.split(","):
        name, _, value = member.partition(";")[0].partition("=")
        name = unquote(name.strip())
        if name.startswith("langfuse_"):
            # The SDKs encode a space as "+", as HTML forms do. The standard does not forbid that.
            found[name.removeprefix("langfuse_")] = unquote(value.strip().replace("+", " "))
    return found


def _parse_traceparent(header: str) -> tuple[str | None, str | None]:
    """The trace id (32 hex digits) and the span id (16) in a `traceparent` header. The span is the
    parent of this request's observation. (None, None) where the header is absent or malformed."""
    found = _TRACEPARENT.fullmatch(header.strip())
    if not found or (found["version"] == "00" and found["more"]):
        return None, None
    if found["trace"] == "0" * TRACE_ID_DIGITS or found["parent"] == "0" * SPAN_ID_DIGITS:
        return None, None
    return found["trace"], found["parent"]


def _prompt_link(
    headers: Mapping[str, str], baggage: Mapping[str, str], notes: list[str]
) -> tuple[str | None, int | None]:
    """Name and version of the Langfuse prompt that a request uses: from the `langfuse-prompt-*`
    headers, else from the baggage. (None, None) where neither has both a name and a number as the
    version; a note is added where only a part is missing or malformed."""
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


def _first_tags(*sources: JsonValue) -> tuple[str, ...]:
    """The tags of the first source that has any, without repetitions; () where none has any. A
    source is a list, or a text: tags separated by commas, a JSON list, or a list as Python writes
    it. Each tag is cut to `MAX_VALUE_CHARS`."""
    for source in sources:
        if isinstance(source, str):
            parsed = _parse_list(source)
            source = source.split(",") if parsed is None else parsed
        if isinstance(source, list):
            tags = (str(tag).strip() for tag in source if isinstance(tag, str | int))
            # Langfuse stores a set of tags. Here they keep their order, so that it is stable.
            if found := tuple(dict.fromkeys(tag[:MAX_VALUE_CHARS] for tag in tags if tag)):
                return found
    return ()


def _checked_environment(value: str | None, notes: list[str]) -> str | None:
    """The value if it is None or a valid name of an environment; otherwise None, with a note."""
    if value is None or is_environment_name(value):
        return value
    notes.append("environment: at most 40 of a-z, 0-9, - and _, not starting with langfuse")
    return None


def _content_mode(value: str, notes: list[str]) -> str:
    """The one of `CONTENT_MODES` that `x-portkey-trace` names: "full" where the header is empty,
    and "usage", with a note, where it names none of them."""
    mode = value.strip().lower() or "full"
    if mode in CONTENT_MODES:
        return mode
    # An unknown value probably means that less than everything is to be recorded.
    notes.append(f"x-portkey-trace: not one of {', '.join(CONTENT_MODES)}; taken for usage")
    return "usage"


def _json_header(headers: Mapping[str, str], name: str, notes: list[str]) -> JsonObject:
    """The JSON object that is the value of the header `name`. Empty where the header is absent;
    empty with a note where it is not a JSON object."""
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


def _parse_list(text: str) -> list[JsonValue] | None:
    """The list in a text that is a JSON list, or a list of strings as Python writes it; None for
    any other text. Langfuse's Python SDK writes tags into the baggage in Python's form."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = strict_json.parse(text)
    except ValueError:
        if not _PYTHON_STRING_LIST.fullmatch(text.strip()):
            return None
        return [
            re.sub(r"\\(.)", r"\1", literal[1:-1]) for literal in re.findall(_PYTHON_STRING, text)
        ]
    return value if isinstance(value, list) else None
