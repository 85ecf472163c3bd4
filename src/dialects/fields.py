"""`Prompt` and `Completion`, the results of every dialect, and functions that read their fields.

Tracing fails field by field: each field is read separately, and one that cannot be read is left
out and named in `notes`.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from core import strict_json
from core.limits import MAX_ERROR_CHARS, MAX_SETTING_CHARS
from core.strict_json import to_json
from dialects.json_values import as_object, as_text
from dialects.tools import without_credentials

Parameter = str | int | float | bool | list[str]


@dataclass(frozen=True)
class Prompt:
    """The contents of a request, as a dialect reads them.

    `model`, `user` and `session` are None where the request does not name them, and `input` (a JSON
    value) is None where it has no input. `parameters` are the model's parameters; `metadata` has
    other members of the request by name. `notes` name what could not be read.
    """

    model: str | None = None
    input: Any = None
    parameters: dict[str, Parameter] = field(default_factory=dict)
    user: str | None = None
    session: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Completion:
    """The contents of a reply, as a dialect reads them.

    `output` is a JSON value, None where there is none. `usage` and `cost` have Langfuse's keys, the
    cost in US dollars. `parameters`, such as the service tier, replace the request's parameters of
    the same name. `error` is "type: message", `error_type` the type alone. `is_finished` is False
    where the end of the reply is missing. `metadata` has further facts, such as the finish reason;
    `notes` name what could not be read.
    """

    model: str | None = None
    output: Any = None
    usage: dict[str, int] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    error: str | None = None
    error_type: str | None = None
    is_streamed: bool = False
    is_finished: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


# Reads one field of a JSON object. It may raise any exception for an object of unexpected shape.
FieldReader = Callable[[dict[str, Any]], Any]

# Members that describe the call and are not model parameters. They are recorded as metadata.
_METADATA_FIELDS = (
    "response_format",
    "previous_response_id",
    "conversation",
    "safety_identifier",
    "prompt_cache_key",
    "client_metadata",
)

# Members that are not model parameters: they are metadata, have a field of their own, or are not
# recorded (some clients put their key into the body).
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
    body: Any,
    *,
    input_field: str,
    extra_input_fields: tuple[str, ...] = (),
    normalize: FieldReader = dict,
) -> Prompt:
    """The `Prompt` of a request's JSON body.

    `normalize` converts the body to the members that Langfuse renders best. Where it raises, the
    input is the whole body. `input_field` names the member that is the input, and
    `extra_input_fields` name members that belong to it, such as tools: where one of these is
    present, the input is an object of all of them. All other members are model parameters, except
    for metadata and for values longer than `MAX_SETTING_CHARS`, which become part of the input.
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
    parameters: dict[str, Parameter] = {}
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


def _user_and_session(
    body: dict[str, Any], metadata: dict[str, Any]
) -> tuple[str | None, str | None]:
    """User and session from the metadata of a request's body, None where they are missing.

    Anthropic accepts only `user_id` there, so Claude Code puts a JSON object into it, with account,
    device and session. Codex sends its session in `client_metadata`.
    """
    user, client_ids = as_text(metadata.get("user_id")), dict[str, Any]()
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
    reply: Any,
    *,
    output: FieldReader,
    metadata: FieldReader,
    usage: FieldReader = lambda reply: {},
    cost: FieldReader = lambda reply: {},
    parameters: FieldReader = lambda reply: {},
) -> Completion:
    """The `Completion` of a whole reply. Each field is the result of the reader of the same name.

    Where the output cannot be read, it is the whole reply, unless the reply is an error.
    """
    fields = _FieldwiseReader(as_object(reply))
    error = fields.read("error", error_message, default=None)
    output_value = fields.read("output", output, default=None if error else reply)
    if error and output_value is None:
        fields.notes.clear()  # an error needs no output
    return Completion(
        model=fields.text("model"),
        output=output_value,
        usage=fields.read("usage", usage, default={}),
        cost=fields.read("cost", cost, default={}),
        parameters=fields.read("parameters", parameters, default={}),
        error=error,
        error_type=fields.read("error", error_type, default=None),
        metadata=fields.read("metadata", metadata, default={}),
        notes=tuple(fields.notes),
    )


class _FieldwiseReader:
    """Reads the fields of one JSON object, and notes those that cannot be read."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.notes: list[str] = []

    def read(self, name: str, reader: FieldReader, *, default: Any) -> Any:
        """The reader's result. Where it raises, `default`, with a note."""
        try:
            return reader(self.body)
        except Exception as error:  # an error in one field must not affect the others
            self.notes.append(f"{name}: {type(error).__name__}: {error}"[:200])
            return default

    def text(self, name: str) -> str | None:
        """The text of a member, None where it is missing, empty or, with a note, not a string."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, str):
            self.notes.append(f"{name}: not a string")
        return as_text(value)


def to_model_parameter(value: Any) -> Parameter:
    """The value as a Langfuse model parameter: a string, number, boolean or list of strings is
    unchanged, anything else becomes JSON text.

    Langfuse refuses a whole observation for one parameter of another type.
    """
    if isinstance(value, list):
        is_supported = all(isinstance(item, str) for item in value)
    else:
        is_supported = isinstance(value, str | int) or (
            isinstance(value, float) and math.isfinite(value)
        )
    return value if is_supported else to_json(value)


def select_parameters(members: dict[str, Any], *names: str) -> dict[str, Parameter]:
    """The named members that are present and not None, as model parameters."""
    return {
        name: to_model_parameter(members[name]) for name in names if members.get(name) is not None
    }


def flatten_setting(name: str, value: Any) -> dict[str, Any]:
    """The members of a settings object as separate settings: `thinking.budget_tokens` becomes
    `thinking_budget_tokens`.

    The result is to be merged into the request. It sets the object itself to None, so that it is
    not recorded twice. Empty for a value that is not an object.
    """
    if not isinstance(value, dict):
        return {}
    return {name: None, **{f"{name}_{member}": setting for member, setting in value.items()}}


def error_type(reply: dict[str, Any]) -> str | None:
    """The type, code or status of the error in a reply; None where there is none."""
    error = as_object(_error_in(reply))
    value = error.get("type") or error.get("code") or error.get("status")
    return str(value) if value else None


def error_message(reply: dict[str, Any]) -> str | None:
    """The error in a reply as "type: message", None where there is none. At most
    `MAX_ERROR_CHARS` long."""
    error = _error_in(reply)
    if not error:
        return None
    if not isinstance(error, dict):
        return (error if isinstance(error, str) else to_json(error))[:MAX_ERROR_CHARS]
    message, kind = error.get("message") or to_json(error), error_type(reply)
    return (f"{kind}: {message}" if kind else str(message))[:MAX_ERROR_CHARS]


def _error_in(reply: dict[str, Any]) -> Any:
    """The error of a reply, usually an object or a text.

    https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors,
    and vLLM's form, in which the reply itself is the error object.
    """
    return reply if reply.get("object") == "error" else reply.get("error")
