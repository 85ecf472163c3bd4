"""What a dialect gives (`Prompt`, `Completion`), and how their fields are read.

Tracing fails field by field: each field is read on its own, and one that can't be read is left
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
    """What a request asked for."""

    model: str | None = None
    input: Any = None
    parameters: dict[str, Parameter] = field(default_factory=dict)
    user: str | None = None
    session: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Completion:
    """What a reply gave; its `parameters`, such as the service tier, win over the request's."""

    model: str | None = None
    output: Any = None
    usage: dict[str, int] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    error: str | None = None
    streamed: bool = False
    finished: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


FieldReader = Callable[[dict[str, Any]], Any]

# Members that say something about the call and are no model parameters: shown as metadata,
_METADATA_FIELDS = (
    "response_format",
    "previous_response_id",
    "conversation",
    "safety_identifier",
    "prompt_cache_key",
    "client_metadata",
)

# or in a field of their own, or not at all (some clients put their key into the body).
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
    """The `Prompt` of a request.

    `main` is the member that is the input; those `beside` it, such as tools, are shown with it as
    one object where there are any. All others are model parameters, unless they are about the
    call or too long to be a setting. `translate` gives a dialect's request the members that
    Langfuse renders well; a request that it fails on is shown as it came, whole.
    """
    body = without_credentials(as_object(body))
    fields = _FieldwiseReader(body)
    about = as_object(body.get("metadata"))
    user, session = _user_and_session(body, about)
    shown = fields.read(input_field, normalize, default={input_field: body})
    content = {
        name: shown[name]
        for name in (input_field, *extra_input_fields)
        if shown.get(name) is not None
    }
    if not content:
        fields.notes.append(f"{input_field}: missing")
    chosen: dict[str, Parameter] = {}
    for name, value in shown.items():
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
            chosen[name] = setting
    return Prompt(
        model=fields.text("model"),
        input=content if content.keys() - {input_field} else content.get(input_field),
        parameters=chosen,
        user=fields.text("user") or user,
        session=session,
        metadata={
            **{name: about[name] for name in about if name not in ("user_id", "session_id")},
            **{name: shown[name] for name in _METADATA_FIELDS if shown.get(name) is not None},
        },
        notes=tuple(fields.notes),
    )


def _user_and_session(body: dict[str, Any], about: dict[str, Any]) -> tuple[str | None, str | None]:
    """User and session as the body's metadata name them.

    Claude Code writes both, and its device, as JSON into the one member that Anthropic takes, the
    user's id; Codex has a member of its own for its session.
    """
    user, packed = as_text(about.get("user_id")), dict[str, Any]()
    if user and user.startswith("{"):
        with suppress(ValueError):  # then it is an id like any other
            packed = as_object(strict_json.parse(user))
    if "session_id" in packed:
        user = as_text(packed.get("account_uuid")) or as_text(packed.get("device_id")) or user
    sessions = (about, packed, as_object(body.get("client_metadata")))
    return user, next(filter(None, (as_text(m.get("session_id")) for m in sessions)), None)


def read_completion(
    reply: Any,
    *,
    output: FieldReader,
    metadata: FieldReader,
    usage: FieldReader = lambda reply: {},
    cost: FieldReader = lambda reply: {},
    parameters: FieldReader = lambda reply: {},
) -> Completion:
    """The `Completion` of a whole reply, each field by its reader.

    A reply whose output can't be read, and that is no error, is shown as it came.
    """
    fields = _FieldwiseReader(as_object(reply))
    error = fields.read("error", error_message, default=None)
    shown = fields.read("output", output, default=None if error else reply)
    if error and shown is None:
        fields.notes.clear()  # an error without an answer is as it should be
    return Completion(
        model=fields.text("model"),
        output=shown,
        usage=fields.read("usage", usage, default={}),
        cost=fields.read("cost", cost, default={}),
        parameters=fields.read("parameters", parameters, default={}),
        error=error,
        metadata=fields.read("metadata", metadata, default={}),
        notes=tuple(fields.notes),
    )


class _FieldwiseReader:
    """The fields of one object, each read on its own."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.notes: list[str] = []

    def read(self, name: str, reader: FieldReader, *, default: Any) -> Any:
        try:
            return reader(self.body)
        except Exception as error:  # whatever is wrong with one field must not cost the others
            self.notes.append(f"{name}: {type(error).__name__}: {error}"[:200])
            return default

    def text(self, name: str) -> str | None:
        value = self.body.get(name)
        if value is not None and not isinstance(value, str):
            self.notes.append(f"{name}: not a string")
        return as_text(value)


def to_model_parameter(value: Any) -> Parameter:
    """A Langfuse model parameter: a string, number, boolean or list of strings as it is, anything
    else as JSON, since one value of another type refuses the whole observation."""
    if isinstance(value, list):
        plain = all(isinstance(item, str) for item in value)
    else:
        plain = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else to_json(value)


def select_parameters(members: dict[str, Any], *names: str) -> dict[str, Parameter]:
    """Those of the named members that are there, as model parameters."""
    return {
        name: to_model_parameter(members[name]) for name in names if members.get(name) is not None
    }


def flatten_setting(name: str, value: Any) -> dict[str, Any]:
    """An object of settings as settings of their own: `thinking.budget_tokens` becomes
    `thinking_budget_tokens`. The result takes the place of the object."""
    if not isinstance(value, dict):
        return {}
    return {name: None, **{f"{name}_{member}": setting for member, setting in value.items()}}


def error_message(reply: dict[str, Any]) -> str | None:
    """The error in a reply as "type: message", None where there is none.

    https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors,
    and vLLM's form without a wrapper.
    """
    error = reply if reply.get("object") == "error" else reply.get("error")
    if not error:
        return None
    if not isinstance(error, dict):
        return (error if isinstance(error, str) else to_json(error))[:MAX_ERROR_CHARS]
    kind = error.get("type") or error.get("code") or error.get("status")
    message = error.get("message") or to_json(error)
    return (f"{kind}: {message}" if kind else str(message))[:MAX_ERROR_CHARS]
