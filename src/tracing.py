"""Turns exchanges with providers into observations: one each, or a tree for a request with a
config.

Each field is read separately. One that cannot be read is left out, with a note in the metadata. The
credentials of the request and of the deployment are removed from everything that is recorded.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from core.limits import (
    MAX_FINISH_REASONS,
    MAX_METADATA_NAME_CHARS,
    MAX_PARAMETERS,
    MAX_STATUS_MESSAGE_CHARS,
    MAX_VALUE_CHARS,
)
from core.observation import DEFAULT, ERROR, WARNING, ModelCall, Observation, Trace
from core.strict_json import JsonObject, JsonValue, to_json
from core.trace_context import CONTENT_MODES, TraceContext
from core.types import Call, Capture, Destination, Ending
from dialects.fields import Completion, Prompt
from dialects.registry import dialect_for_path, read_reply, read_request
from dialects.rendering import countable_output
from redaction.redactor import Redactor
from redaction.request_secrets import recorded_headers, secrets_of_request
from redaction.truncation import (
    Redact,
    bound_metadata,
    bound_parameter,
    fits_bytes,
    truncate_json,
    truncate_text,
    truncate_value,
)
from settings.load import Settings

# Parameters whose text is one of a few choices. They are recorded even where content is not.
_CHOICE_PARAMETERS = frozenset(
    (
        *("service_tier", "reasoning_effort", "effort", "verbosity", "speed", "encoding_format"),
        *("thinking_type", "reasoning_summary", "truncation", "modalities", "tool_choice"),
    )
)

# A provider's error type that is an identifier. Some providers send a message in its place.
_ERROR_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")

# The name in the metadata of an observation whose value is the name of the request's gateway key.
_GATEWAY_KEY = "gateway_key"

# Members of a reply's metadata that may quote its content.
_CONTENT_METADATA = {"stop_sequence", "stop_details"}


@dataclass(frozen=True)
class Exchange:
    """A call to a provider and its result, with all that its observation is made of.

    `call` is the client's request, `provider` the slug of the provider, and `capture` what was read
    of the reply. `request_body` is the part of the body sent that is recorded, from its beginning;
    `request_bytes` is the size of the whole body, and `request_value` its JSON value, where that is
    known already. `started_at` is when the gateway called the
    provider, in seconds since the epoch. `prefixed_model` is the model as the client named it, such
    as "@groq/llama", where the gateway removed the provider's slug from it; else "".
    `gateway_metadata` are values by name that the gateway adds to the observation's metadata.
    """

    call: Call
    trace_context: TraceContext
    destination: Destination
    provider: str
    request_body: bytes
    request_bytes: int
    started_at: float
    capture: Capture
    request_value: JsonValue = None
    prefixed_model: str = ""
    gateway_metadata: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])


def effective_content_mode(trace_context: TraceContext, settings: Settings) -> str:
    """How much of a call is recorded: "off" (nothing), "usage" (no content) or "full".

    This is the lesser of what the deployment's settings and the request's headers allow, but "off"
    where the deployment's sample rate drops the trace. The sampling depends only on the second half
    of the trace's id, so that all calls of a trace are kept or dropped together. The first half may
    be a time (https://www.w3.org/TR/trace-context-2/#random-trace-id-flag).
    """
    if int(trace_context.trace_id[16:], 16) >= settings.sample_rate * 2**64:
        return "off"
    return min(trace_context.content_mode, settings.content_mode, key=CONTENT_MODES.index)


def observe(exchange: Exchange, settings: Settings) -> Observation:
    """The observation of an exchange: request and reply as the dialect of the API path reads them,
    without secrets and cut to the size limits.

    Input and output are None where the content mode of the trace context is "usage", or where there
    are too many secrets to search long texts for. An exchange with the mode "off" must not be
    passed.
    """
    call, capture, trace_context = exchange.call, exchange.capture, exchange.trace_context
    dialect = dialect_for_path(call.path)
    encoding = call.headers.get("content-encoding", "")
    prompt = read_request(call.path, exchange.request_body, encoding, exchange.request_value)
    completion = read_reply(
        call.path,
        capture.body,
        capture.content_type,
        complete=capture.ending is Ending.COMPLETE and not capture.truncated,
        encoding=capture.content_encoding,
    )
    output = completion.output
    if not completion.usage:
        output = countable_output(output, completion.model or prompt.model)
    if output is None and (capture.status or 0) >= 400:
        output = read_reply("", capture.body, "", True, capture.content_encoding).output
    # Without duplicates, since the number of secrets that are searched for is limited.
    secrets = {*secrets_of_request(call.headers, call.query), *settings.secrets}
    redactor = Redactor(secrets, settings.redact_patterns)
    # A list of events that no dialect could fold: a secret may be divided among several of them.
    if isinstance(output, list) and redactor.searchable and redactor.found_across_texts(output):
        output = "[redacted]: its pieces, put together, hold a credential"
    redact = redactor.redact
    if not redactor.searchable:
        # These may have as many texts as there are secrets: each would be searched for each.
        trace_context = replace(trace_context, metadata={}, tags=())
        prompt = replace(prompt, metadata={}, parameters={})
        exchange = replace(exchange, trace_context=trace_context)
    with_content = redactor.searchable and trace_context.content_mode == "full"
    status = _status(capture, replace(completion, output=output), with_content)
    endpoint = call.path.removeprefix("/v1/")
    name = trace_context.name or endpoint
    # Calls with the same trace id overwrite each other's values, so the name of one of them is not
    # the trace's. An app's own trace has values of its own, which must not be overwritten.
    is_app_trace = trace_context.is_app_trace
    trace_name = None if is_app_trace else endpoint if trace_context.is_existing else name
    limit = settings.max_field_bytes

    def content(value: JsonValue) -> str | None:
        if value is None or not with_content:
            return None
        text = to_json(value)
        if not fits_bytes(text, limit):
            text = to_json(value := truncate_value(value, limit, redact))
        text = redactor.to_json(value, text)
        # A placeholder may be longer than the secret that it replaced.
        return text if fits_bytes(text, limit) else truncate_json(text, limit)

    metadata = _metadata(exchange, prompt, completion, with_content, redactor.searchable, redact)
    # In one list, since each call of `redact` takes time.
    texts = [
        *(
            trace_context.trace_name or trace_name,
            name,
            trace_context.version,
            trace_context.release,
        ),
        trace_context.user or (None if is_app_trace else _bounded_value(prompt.user)),
        trace_context.session or (None if is_app_trace else _bounded_value(prompt.session)),
        *(
            _bounded_value(completion.model or prompt.model),
            trace_context.prompt_name,
            status.message,
            *trace_context.tags,
        ),
    ]
    trace_name, name, version, release, user, session, model, prompt_name, message, *tags = redact(
        texts
    )
    # Also for an app's trace: Langfuse v3 keeps the environment of a trace's first event, and would
    # keep "default" where that event is this one.
    environment = trace_context.environment or settings.environment
    trace = Trace(
        id=trace_context.trace_id,
        is_existing=trace_context.is_existing,
        name=trace_name,
        user=user,
        session=session,
        tags=tuple(tag or "" for tag in tags),
        environment=environment,
        release=release or (None if is_app_trace else settings.release),
        version=version,
        metadata=_existing_trace_metadata(exchange, redact)
        if trace_context.is_existing
        else metadata,
        started_at=None if trace_context.is_existing else exchange.started_at,
    )
    return Observation(
        id=trace_context.observation_id,
        destination=exchange.destination,
        trace=trace,
        parent_id=trace_context.parent_id,
        type=dialect.observation_type,
        name=name or "",
        started_at=exchange.started_at,
        ended_at=capture.ended_at,
        completion_started_at=capture.first_token_at,
        model=model,
        parameters=_model_parameters(prompt, completion, with_content, redact),
        input=content(prompt.input),
        output=content(output),
        usage=completion.usage,
        cost=completion.cost,
        level=status.level,
        status_message=message,
        metadata=metadata,
        environment=environment,
        version=version,
        prompt_name=prompt_name,
        prompt_version=trace_context.prompt_version,
        model_call=_model_call(exchange, prompt, completion, redact),
        error_type=redact(status.error_type),
    )


def request_span_with_attempts(
    client_observation: Observation, attempts: Sequence[Observation]
) -> list[Observation]:
    """The observations of a request with a config: a span, then its attempts as children of it.

    `client_observation` describes the request as the client saw it. It becomes the span, without
    model, parameters, usage and cost: Langfuse would count them twice. `attempts` are the
    observations of the calls to providers.
    """
    span = replace(
        client_observation,
        type="span",
        completion_started_at=None,
        model=None,
        model_call=None,
        parameters={},
        usage={},
        cost={},
        prompt_name=None,
        prompt_version=None,
    )
    # Every observation sends values of its trace, and which of them Langfuse keeps depends on the
    # field and on the order of arrival. So all send the same, and only the span sends content.
    trace = replace(span.trace, is_existing=True, metadata={})
    return [span, *(replace(attempt, parent_id=span.id, trace=trace) for attempt in attempts)]


def _metadata(
    exchange: Exchange,
    prompt: Prompt,
    completion: Completion,
    with_content: bool,
    searchable: bool,
    redact: Redact,
) -> JsonObject:
    """The metadata of an observation: {name: JSON value}. Where several sources have the same name,
    the gateway has priority, then the request's headers, the reply, and the request's body.

    Without content (`with_content`), values that may quote some are left out. `searchable` is False
    where there are too many secrets to search long texts for, which becomes a note. `redact`
    returns a text or a JSON value without its secrets.
    """
    call, capture, trace_context = exchange.call, exchange.capture, exchange.trace_context
    model = completion.model or prompt.model
    notes = [*trace_context.notes, *prompt.notes, *completion.notes, *capture.notes]
    if not searchable:
        notes.append("content: not recorded, for too many credentials to search it for")
    if exchange.request_bytes > len(exchange.request_body):
        notes.append(f"request: the first {len(exchange.request_body)} bytes are recorded")
    if capture.truncated:
        notes.append(f"reply: the first {len(capture.body)} bytes are recorded")
    reply = completion.metadata
    if not with_content:
        reply = {name: reply[name] for name in reply.keys() - _CONTENT_METADATA}
    # The gateway's own values, which no other source may overwrite.
    own: JsonObject = {
        "provider": exchange.provider,
        "endpoint": call.path,
        "request_type": dialect_for_path(call.path).name,
        "streamed": completion.is_streamed,
        "http_status": capture.status,
        "latency_ms": _duration_ms(exchange.started_at, capture.ended_at),
        "time_to_first_token_ms": _duration_ms(exchange.started_at, capture.first_token_at),
        "requested_model": exchange.prefixed_model
        or (prompt.model if prompt.model != model else None),
        "request_id": call.request_id or None,
        "ending": capture.ending.value,
        "request_headers": recorded_headers(call.headers) or None,
        "notes": [*notes] or None,
    }
    own = {name: value for name, value in own.items() if value is not None}
    merged = {**(prompt.metadata if with_content else {}), **reply, **trace_context.metadata, **own}
    # Costs may be charged by gateway key. A request without one cannot set this name, and large
    # metadata cannot displace it, since it is added after the rest was bounded.
    merged.pop(_GATEWAY_KEY, None)
    return {**bound_metadata(merged, redact), **redact(dict(exchange.gateway_metadata))}


def _existing_trace_metadata(exchange: Exchange, redact: Redact) -> JsonObject:
    """The metadata to send about a trace whose id the caller sent: {name: JSON value}. These are
    values of the request's headers, except for names that only the gateway may set."""
    values = exchange.trace_context.metadata
    reserved = {*exchange.gateway_metadata, _GATEWAY_KEY}
    return bound_metadata({name: values[name] for name in values if name not in reserved}, redact)


def _model_parameters(
    prompt: Prompt, completion: Completion, with_content: bool, redact: Redact
) -> JsonObject:
    """The model's parameters, {name: value}, without secrets and cut to the limits of
    `core.limits`; those of the reply replace those of the request. Where `with_content` is False,
    only numbers, booleans and texts of a few choices (`_CHOICE_PARAMETERS`)."""
    parameters = {**prompt.parameters, **completion.parameters}
    if not with_content:
        parameters = {
            name: value
            for name, value in parameters.items()
            if isinstance(value, int | float) or name in _CHOICE_PARAMETERS
        }
    parameters = redact(dict([*parameters.items()][:MAX_PARAMETERS]))
    return {
        truncate_text(name, MAX_METADATA_NAME_CHARS): bound_parameter(value)
        for name, value in parameters.items()
    }


def _model_call(
    exchange: Exchange, prompt: Prompt, completion: Completion, redact: Redact
) -> ModelCall:
    reasons = completion.metadata.get("finish_reason")
    reasons = reasons if isinstance(reasons, list) else [reasons]
    response_id = completion.metadata.get("response_id")
    request_model, response_model, response_id, *reasons = redact(
        [
            _bounded_value(text if isinstance(text, str) else None)
            for text in (
                *(exchange.prefixed_model or prompt.model, completion.model, response_id),
                *reasons[:MAX_FINISH_REASONS],
            )
        ]
    )
    return ModelCall(
        request_type=dialect_for_path(exchange.call.path).name,
        provider=exchange.provider,
        request_model=request_model,
        response_model=response_model,
        response_id=response_id,
        finish_reasons=tuple(reason for reason in reasons if reason),
    )


def _bounded_value(text: str | None) -> str | None:
    return text[:MAX_VALUE_CHARS] if text else None


def _duration_ms(start: float, end: float | None) -> int | None:
    return None if end is None else round(1000 * (end - start))


class _Status(NamedTuple):
    """How a call ended: Langfuse's level and status message, and OpenTelemetry's `error.type`.
    `message` is None for the level `DEFAULT`, and `error_type` for any but `ERROR`."""

    level: str = DEFAULT
    message: str | None = None
    error_type: str | None = None


def _status(capture: Capture, completion: Completion, with_content: bool) -> _Status:
    """The status of a call. Where several failures occurred, it is that of the earliest cause.
    Messages of the provider are left out where `with_content` is False."""
    if capture.ending is Ending.UNREACHABLE:
        error_type = "timeout" if capture.timed_out else "network_error"
        message = f"The provider could not be reached: {capture.reason}"
        return _Status(ERROR, message, error_type)
    if capture.ending is Ending.CLIENT_LEFT:
        when = "while" if capture.status else "before"
        return _Status(WARNING, f"The client closed the connection {when} the reply came.")
    # A provider's error message may quote the request, so it counts as content.
    if capture.status is not None and capture.status >= 400:
        message, reason = f"HTTP {capture.status}", completion.error or completion.output
        if with_content and reason is not None:
            message = f"{message}: {reason if isinstance(reason, str) else to_json(reason)}"
        return _Status(ERROR, message[:MAX_STATUS_MESSAGE_CHARS], str(capture.status))
    if completion.error:
        message = completion.error if with_content else "An error in the reply."
        error_type = completion.error_type or ""
        if not _ERROR_TYPE.fullmatch(error_type):
            error_type = "_OTHER"
        return _Status(ERROR, message[:MAX_STATUS_MESSAGE_CHARS], error_type)
    if capture.ending is Ending.INTERRUPTED:
        message = f"The provider broke off the reply: {capture.reason}"
        return _Status(ERROR, message, "network_error")
    if completion.is_streamed and not completion.is_finished and not capture.truncated:
        return _Status(WARNING, "The stream ended without its end marker.")
    return _Status()
