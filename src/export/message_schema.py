"""The schema of queue messages: an observation as a JSON object, and back.

A queue may hold messages of another version of the Worker for days. So each message has the version
of its schema, and the tables below define its members: docs/delivery.md has them too. A reader of
version N reads N and N-1. It ignores members that it does not know, and a missing or null optional
member has its default. Messages of the gateway's version 0.1.0 have no version: they count as 0.

A change of the tables needs a new version where readers of the last one would refuse or misread its
messages: a new required member, or another name, type or meaning. A new optional member needs none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from core.json_values import as_list
from core.observation import ModelCall, Observation, Trace
from core.strict_json import JsonObject, JsonValue
from core.types import Destination

VERSION = 1
READABLE_VERSIONS = (VERSION - 1, VERSION)


def _is_number(value: JsonValue) -> bool:
    return type(value) in (int, float)


def _is_texts(value: JsonValue) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_numbers(value: JsonValue) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


# Types of members by their names in the docs. "texts" is a list of texts, "numbers" an object of
# numbers, "object" any other object.
_TYPES: Mapping[str, Callable[[JsonValue], bool]] = {
    "text": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: type(value) is int,
    "number": _is_number,
    "texts": _is_texts,
    "object": lambda value: isinstance(value, dict),
    "numbers": _is_numbers,
}
_REQUIRED = object()


@dataclass(frozen=True)
class Member:
    """A member of a message: `name`, and `type`, which is a key of `_TYPES`.

    `default` is that of an optional member. `attribute` is the dataclass's field that the member
    has the value of, None where it has the same name.
    """

    name: str
    type: str
    default: object = _REQUIRED
    attribute: str | None = None

    @property
    def is_required(self) -> bool:
        """Whether a message without this member cannot be read."""
        return self.default is _REQUIRED

    @property
    def field(self) -> str:
        """The name of the dataclass's field."""
        return self.attribute or self.name

    def read(self, message: JsonObject) -> object:
        """The value in a message, or the default. Raises ValueError where a required member is
        missing, or the value has another type."""
        value = message.get(self.name)
        if value is None and not self.is_required:
            return self.default
        if not _TYPES[self.type](value):
            raise ValueError(f"{self.name} is not of the type {self.type}")
        return tuple(as_list(value)) if self.type == "texts" else value


OBSERVATION_MEMBERS = (
    Member("id", "text"),
    Member("parent_id", "text", None),
    Member("type", "text"),
    Member("name", "text"),
    Member("started", "number", attribute="started_at"),
    Member("ended", "number", attribute="ended_at"),
    Member("completion_started", "number", None, attribute="completion_started_at"),
    Member("model", "text", None),
    Member("parameters", "object", {}),
    Member("input", "text", None),
    Member("output", "text", None),
    Member("usage", "numbers", {}),
    Member("cost", "numbers", {}),
    Member("level", "text"),
    Member("status_message", "text", None),
    Member("error_type", "text", None),
    Member("metadata", "object", {}),
    Member("environment", "text", None),
    Member("version", "text", None),
    Member("prompt_name", "text", None),
    Member("prompt_version", "integer", None),
)
TRACE_MEMBERS = (
    Member("id", "text"),
    Member("joined", "boolean", attribute="is_existing"),
    Member("started", "number", None, attribute="started_at"),
    Member("name", "text", None),
    Member("user", "text", None),
    Member("session", "text", None),
    Member("tags", "texts", ()),
    Member("environment", "text", None),
    Member("release", "text", None),
    Member("version", "text", None),
    Member("metadata", "object", {}),
)
MODEL_CALL_MEMBERS = (
    Member("request_type", "text"),
    Member("provider", "text"),
    Member("request_model", "text", None),
    Member("response_model", "text", None),
    Member("response_id", "text", None),
    Member("finish_reasons", "texts", ()),
)


def to_message(observation: Observation) -> JsonObject:
    """The message of an observation. It has the name of its destination, but never its keys."""
    call = observation.model_call
    return {
        "schema": VERSION,
        "destination": observation.destination.name,
        **_write(observation, OBSERVATION_MEMBERS),
        "trace": _write(observation.trace, TRACE_MEMBERS),
        **({"model_call": _write(call, MODEL_CALL_MEMBERS)} if call else {}),
    }


def from_message(value: JsonValue, destinations: Mapping[str, Destination]) -> Observation:
    """The observation in a message, which is a JSON value. `destinations` are the deployment's
    Langfuse projects by name.

    Raises ValueError with a description where its version cannot be read, a required member is
    missing, a member has another type, or its destination is none of these.
    """
    message = _object(value, "message")
    version = message.get("schema", 0)
    if type(version) is not int or version not in READABLE_VERSIONS:
        raise ValueError(f"its schema has version {version!r}, but {VERSION} is supported")
    name = message.get("destination")
    if not isinstance(name, str) or name not in destinations:
        raise ValueError(f"the destination {name!r} is unknown")
    call = message.get("model_call")
    return _read(
        Observation,
        message,
        OBSERVATION_MEMBERS,
        destination=destinations[name],
        trace=_read(Trace, _object(message.get("trace"), "trace"), TRACE_MEMBERS),
        model_call=(
            None
            if call is None
            else _read(ModelCall, _object(call, "model_call"), MODEL_CALL_MEMBERS)
        ),
    )


def _write(value: Observation | Trace | ModelCall, members: Sequence[Member]) -> JsonObject:
    return {member.name: getattr(value, member.field) for member in members}


_Read = TypeVar("_Read")


def _read(
    create: Callable[..., _Read],
    message: JsonObject,
    members: Sequence[Member],
    **other_fields: object,
) -> _Read:
    """An instance of the dataclass `create`. Its fields are the `members` of a message, and
    `other_fields`. Raises ValueError as `Member.read` does."""
    fields = {member.field: member.read(message) for member in members}
    return create(**fields, **other_fields)


def _object(value: JsonValue, name: str) -> JsonObject:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    return value
