"""`Prompt` and `Completion`, the results of every dialect, and functions that read their fields.

Each field is read separately. One that cannot be read is left out and named in `notes`.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from core import strict_json
from core.json_values import as_object, as_text
from core.limits import MAX_SETTING_CHARS
from core.strict_json import JsonObject, JsonValue, to_json
from dialects.errors import ReplyError, find_error
from dialects.tools import without_credentials


@dataclass(frozen=True)
class Prompt:
    """What a dialect reads of a request's body.

    `model`, `user` and `session` are None where the body does not name them. `input` is a JSON
    value, None where there is none. `parameters` are the model's parameters by name, such as
    `temperature`, with values as `to_model_parameter` returns them. `metadata` has the members of
    the body's own `metadata`, and members that describe the call. `notes` name what could not be
    read.
    """

    model: str | None = None
    input: JsonValue = None
    parameters: JsonObject = field(default_factory=dict[str, JsonValue])
    user: str | None = None
    session: str | None = None
    metadata: JsonObject = field(default_factory=dict[str, JsonValue])
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Completion:
    """What a dialect reads of a reply's body.

    `model` is None where the body does not name it. `output` is a JSON value, None where there is
    none. `usage` (tokens) and `cost` (US dollars) have Langfuse's keys, such as `input` and
    `total`. `parameters`, such as the service tier, replace the request's parameters of the same
    name. `error` is "type: message" and `error_type` the type alone, None where the reply has no
    error. `is_streamed` is True for an event stream, `is_finished` False where the end of the reply
    is missing. `metadata` has further facts, such as the finish reason; `notes` name what could not
    be read.
    """

    model: str | None = None
    output: JsonValue = None
    usage: dict[str, int] = field(default_factory=dict[str, int])
    cost: dict[str, float] = field(default_factory=dict[str, float])
    parameters: JsonObject = field(default_factory=dict[str, JsonValue])
    error: str | None = None
    error_type: str | None = None
    is_streamed: bool = False
    is_finished: bool = True
    metadata: JsonObject = field(default_factory=dict[str, JsonValue])
    notes: tuple[str, ...] = ()


_Value = TypeVar("_Value")

# Reads one field of a request or a reply, which is passed to it as a JSON object. It may raise any
# exception for an object of unexpected shape.
FieldReader: TypeAlias = Callable[[JsonObject], _Value]

# Members of a request that describe the call. They are recorded as metadata.
_METADATA_FIELDS = (
    "response_format",
    "previous_response_id",
    "conversation",
    "safety_identifier",
    "prompt_cache_key",
    "client_metadata",
)

# Members of a request that are not model parameters: they are metadata, have a field of their own,
# or are not recorded (some clients put their key into the body).
_NOT_PARAMETERS = {
    "model",
    "stream",
    "stream_options",
    "user",
    "metadata",
    "api_key",
    *_METADATA_FIELDS,
}


def read_prompt(
    body: JsonValue,
    *,
    input_field: str,
    extra_input_fields: tuple[str, ...] = (),
    normalize: FieldReader[JsonObject] = dict,
) -> Prompt:
    """Read the parsed JSON body of a request.

    `normalize` first converts the body to an object of the members that Langfuse renders best.
    Where it raises, the input is the whole body.

    The input is the member `input_field`. Where the body has members of `extra_input_fields` too,
    such as tools, the input is an object of all these members by name. The rest are the model's
    parameters, except for members that are metadata or not recorded. A parameter whose text is
    longer than `MAX_SETTING_CHARS` becomes part of the input.
    """
    body = without_credentials(as_object(body))
    fields = _FieldwiseReader(body)
    body_metadata = as_object(body.get("metadata"))
    user, session = _user_and_session(body, body_metadata)
    members = fields.read(input_field, normalize, default={input_field: body})
    content = {
        name: members[name]
        for name in (input_field, *extra_input_fields)
        if members.get(name) is not None
    }
    if not content:
        fields.notes.append(f"{input_field}: missing")
    parameters: JsonObject = {}
    for name, value in members.items():
        if (
            value is None
            or name == input_field
            or name in extra_input_fields
            or name in _NOT_PARAMETERS
        ):
            continue
        setting = fields.read(name, lambda _, value=value: to_model_parameter(value), default=None)
        if isinstance(setting, str) and len(setting) > MAX_SETTING_CHARS:
            content[name] = value
        elif setting is not None:
            parameters[name] = setting
    return Prompt(
        model=fields.text("model"),
        input=content if content.keys() - {input_field} else content.get(input_field),
        parameters=parameters,
        user=fields.text("user") or user,
        session=session,
        metadata={
            **{
                name: body_metadata[name]
                for name in body_metadata
                if name not in ("user_id", "session_id")
            },
            **{name: members[name] for name in _METADATA_FIELDS if members.get(name) is not None},
        },
        notes=tuple(fields.notes),
    )


def _user_and_session(body: JsonObject, metadata: JsonObject) -> tuple[str | None, str | None]:
    """The ids of user and session in a request's body, None where they are missing. `metadata` is
    the body's member of that name.

    Anthropic accepts only `user_id` in it, so Claude Code puts a JSON object into that text, with
    account, device and session. Codex sends its session in `client_metadata`.
    """
    user = as_text(metadata.get("user_id"))
    client_ids: JsonObject = {}
    if user and user.startswith("{"):
        with suppress(ValueError):  # not JSON: an ordinary id
            client_ids = as_object(strict_json.parse(user))
    if "session_id" in client_ids:
        user = (
            as_text(client_ids.get("account_uuid")) or as_text(client_ids.get("device_id")) or user
        )
    sources = (metadata, client_ids, as_object(body.get("client_metadata")))
    return user, next(filter(None, (as_text(source.get("session_id")) for source in sources)), None)


def read_completion(
    reply: JsonValue,
    *,
    output: FieldReader[JsonValue],
    metadata: FieldReader[JsonObject],
    error: FieldReader[ReplyError | None] = find_error,
    usage: FieldReader[dict[str, int]] = lambda reply: {},
    cost: FieldReader[dict[str, float]] = lambda reply: {},
    parameters: FieldReader[JsonObject] = lambda reply: {},
) -> Completion:
    """Read the parsed JSON of a whole reply.

    `output`, `metadata`, `usage`, `cost` and `parameters` are functions that return the field of
    that name, given the reply as an object ({} where it is not one). Where one raises, its field is
    empty and a note names it, but the output is the whole reply, unless the reply has an error.
    The model is read from the member that is the same in all formats, and the error by `error`.
    """
    fields = _FieldwiseReader(as_object(reply))
    found = fields.read("error", error, default=None)
    output_value = fields.read("output", output, default=None if found else reply)
    if found and output_value is None:
        fields.notes.clear()  # an error needs no output
    return Completion(
        model=fields.text("model"),
        output=output_value,
        usage=fields.read("usage", usage, default={}),
        cost=fields.read("cost", cost, default={}),
        parameters=fields.read("parameters", parameters, default={}),
        error=found.message if found else None,
        error_type=found.type if found else None,
        metadata=fields.read("metadata", metadata, default={}),
        notes=tuple(fields.notes),
    )


class _FieldwiseReader:
    """Reads fields of one JSON object. `notes` name those that could not be read."""

    def __init__(self, body: JsonObject) -> None:
        self.body = body
        self.notes: list[str] = []

    def read(self, name: str, reader: FieldReader[_Value], *, default: _Value) -> _Value:
        """Return the result of `reader` for the object. Where it raises, return `default` and add a
        note that begins with `name`."""
        try:
            return reader(self.body)
        except Exception as error:  # an error in one field must not affect the others
            self.notes.append(f"{name}: {type(error).__name__}: {error}"[:200])
            return default

    def text(self, name: str) -> str | None:
        """The text of the member `name`. None where it is missing or empty, and where it is not a
        string, which adds a note."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, str):
            self.notes.append(f"{name}: not a string")
        return as_text(value)


def to_model_parameter(value: JsonValue) -> JsonValue:
    """Convert a JSON value to a model parameter that Langfuse accepts. Strings, finite numbers,
    booleans and lists of strings are unchanged. Any other value becomes its JSON text.

    Langfuse refuses a whole observation for one parameter of another type.
    """
    if isinstance(value, list):
        is_supported = all(isinstance(item, str) for item in value)
    else:
        is_supported = isinstance(value, str | int) or (
            isinstance(value, float) and math.isfinite(value)
        )
    return value if is_supported else to_json(value)


def select_parameters(members: JsonObject, *names: str) -> JsonObject:
    """Select the members with these names, as model parameters: {name: value}.

    A member that is missing or None is left out. A value of a type that Langfuse does not accept
    becomes its JSON text.
    """
    return {
        name: to_model_parameter(members[name]) for name in names if members.get(name) is not None
    }


def flatten_setting(name: str, value: JsonValue) -> JsonObject:
    """Flatten a setting of a request that is an object: the name "thinking" and the value
    `{"budget_tokens": 1}` become `{"thinking": None, "thinking_budget_tokens": 1}`.

    The result is to be merged into the request. Its None removes the object itself, which would be
    recorded twice. Empty where the value is not an object.
    """
    if not isinstance(value, dict):
        return {}
    return {name: None, **{f"{name}_{member}": setting for member, setting in value.items()}}
