"""An exchange with a provider, turned into one observation; several of one request, into a tree.

Each field is read on its own: what cannot be read is left out and noted in the metadata. Every
credential of the request and of the deployment is taken out of everything that is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.limits import (
    MAX_METADATA_NAME_CHARS,
    MAX_PARAMETERS,
    MAX_STATUS_MESSAGE_CHARS,
    MAX_VALUE_CHARS,
)
from core.strict_json import to_json
from core.trace_context import CONTENT_MODES, TraceContext
from core.types import Call, Capture, Ending
from dialects.fields import Completion, Prompt
from dialects.registry import dialect_for_path, read_reply, read_request
from redaction.redactor import Redactor
from redaction.request_secrets import recorded_headers, secrets_of_request
from redaction.truncation import (
    bound_metadata,
    bound_parameter,
    fits_bytes,
    truncate_json,
    truncate_text,
    truncate_value,
)
from settings.load import Destination, Settings

# Levels are Langfuse's: https://langfuse.com/docs/observability/features/log-levels
DEFAULT, WARNING, ERROR = "DEFAULT", "WARNING", "ERROR"

# Parameters whose text is a choice among a few, and says nothing of the content.
_CHOICE_PARAMETERS = frozenset(
    (
        *("service_tier", "reasoning_effort", "effort", "verbosity", "speed", "encoding_format"),
        *("thinking_type", "reasoning_summary", "truncation", "modalities", "tool_choice"),
    )
)

# Whose key let a request in.
_GATEWAY_KEY = "gateway_key"

# What a reply's metadata may quote of its content.
_CONTENT_METADATA = {"stop_sequence", "stop_details"}


@dataclass(frozen=True)
class Exchange:
    """A call to a provider and what came of it.

    `request` is the beginning of the request's body and `request_size` the size of all of it, in
    bytes. `started` is when the gateway began to call the provider, in seconds since the epoch.
    `routed_model` is the model as the client named it, where the gateway took the provider out of
    it. `about` is what the gateway knows beside call and reply, as JSON for the metadata.
    """

    call: Call
    trace_context: TraceContext
    destination: Destination
    provider: str
    request_body: bytes
    request_bytes: int
    started_at: float
    capture: Capture
    prefixed_model: str = ""
    gateway_metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """What is told of the trace that an observation belongs to.

    `joined` is set where another observation makes the trace. That is the caller's own, of which
    only what the caller says is told, since the trace may have a name, an input and an output
    already; or the span above this one. `started` is None where it is the caller's to say.
    """

    id: str
    is_existing: bool
    name: str | None
    user: str | None
    session: str | None
    tags: tuple[str, ...]
    environment: str | None
    release: str | None
    version: str | None
    metadata: Mapping[str, Any]
    started_at: float | None = None


@dataclass(frozen=True)
class Observation:
    """One exchange as a tracing backend stores it, whichever protocol carries it there.

    `type` is "generation", "embedding" or "span", which stands above several of the others and has
    no model of its own, nor what comes with one. Times are seconds since the epoch. `input` and
    `output` are JSON texts, or None where there is none. `usage` and `cost` have Langfuse's keys.
    https://langfuse.com/docs/observability/features/observation-types
    """

    id: str
    destination: Destination
    trace: Trace
    parent_id: str | None
    type: str
    name: str
    started_at: float
    ended_at: float
    completion_started_at: float | None
    model: str | None
    parameters: Mapping[str, Any]
    input: str | None
    output: str | None
    usage: Mapping[str, int]
    cost: Mapping[str, float]
    level: str
    status_message: str | None
    metadata: Mapping[str, Any]
    environment: str | None
    version: str | None
    prompt_name: str | None
    prompt_version: int | None


def effective_content_mode(trace_context: TraceContext, settings: Settings) -> str:
    """What of a call's content is recorded: the lesser of what deployment and request allow.

    "off" also where the deployment's sample leaves the trace out. That is decided by the trace's
    id, so that a trace of several calls is kept or dropped whole: by its end, since ids may begin
    with a time (https://www.w3.org/TR/trace-context-2/#random-trace-id-flag).
    """
    if int(trace_context.trace_id[16:], 16) >= settings.sample_rate * 2**64:
        return "off"
    return min(trace_context.content_mode, settings.content_mode, key=CONTENT_MODES.index)


def observe(exchange: Exchange, settings: Settings) -> Observation:
    """The observation of an exchange whose content mode is not "off"."""
    call, capture, trace_context = exchange.call, exchange.capture, exchange.trace_context
    dialect = dialect_for_path(call.path)
    prompt = read_request(call.path, exchange.request_body)
    completion = read_reply(
        call.path,
        capture.body,
        capture.content_type,
        complete=capture.ending is Ending.COMPLETE and not capture.truncated,
    )
    output = completion.output
    if output is None and (capture.status or 0) >= 400:
        output = read_reply("", capture.body, "", complete=True).output
    # Each once: there is a limit to how many are searched for.
    secrets = {*secrets_of_request(call.headers, call.query), *settings.secrets}
    redactor = Redactor(secrets, settings.redact_patterns)
    # The events of a stream that no dialect could put together, of which a secret may be parts.
    if isinstance(output, list) and redactor.searchable and redactor.found_across_texts(output):
        output = "[redacted]: its pieces, put together, hold a credential"
    redact = redactor.redact
    if not redactor.searchable:
        # So many would have to be looked for in each of these texts, of which there may be as many.
        trace_context = replace(trace_context, metadata={}, tags=())
        prompt = replace(prompt, metadata={}, parameters={})
        exchange = replace(exchange, trace_context=trace_context)
    full = redactor.searchable and effective_content_mode(trace_context, settings) == "full"
    level, status = _level_and_status(capture, completion, full)
    name = trace_context.name or call.path.removeprefix("/v1/")
    limit = settings.max_field_bytes

    def content(value: Any) -> str | None:
        if value is None or not full:
            return None
        text = to_json(value)
        if not fits_bytes(text, limit):
            text = to_json(value := truncate_value(value, limit, redact))
        text = redactor.to_json(value, text)
        # What was put in a secret's place may have been longer than that.
        return text if fits_bytes(text, limit) else truncate_json(text, limit)

    metadata = _metadata(exchange, prompt, completion, full, redactor.searchable, redact)
    # Together, since each search takes its time.
    texts = [
        *(
            trace_context.trace_name or (None if trace_context.is_existing else name),
            name,
            trace_context.version,
            trace_context.release,
        ),
        trace_context.user or (None if trace_context.is_existing else _bounded_value(prompt.user)),
        trace_context.session
        or (None if trace_context.is_existing else _bounded_value(prompt.session)),
        *(
            _bounded_value(completion.model or prompt.model),
            trace_context.prompt_name,
            status,
            *trace_context.tags,
        ),
    ]
    trace_name, name, version, release, user, session, model, prompt_name, status, *tags = redact(
        texts
    )
    trace = Trace(
        id=trace_context.trace_id,
        is_existing=trace_context.is_existing,
        name=trace_name,
        user=user,
        session=session,
        tags=tuple(tags),
        environment=trace_context.environment
        or (None if trace_context.is_existing else settings.environment),
        release=release or (None if trace_context.is_existing else settings.release),
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
        type=dialect.OBSERVATION_TYPE,
        name=name,
        started_at=exchange.started_at,
        ended_at=capture.ended_at,
        # The first bytes of a whole reply come when all of it is there: they tell nothing.
        completion_started_at=capture.first_byte_at if completion.streamed else None,
        model=model,
        parameters=_model_parameters(prompt, completion, full, redact),
        input=content(prompt.input),
        output=content(output),
        usage=completion.usage,
        cost=completion.cost,
        level=level,
        status_message=status,
        metadata=metadata,
        environment=trace_context.environment or settings.environment,
        version=version,
        prompt_name=prompt_name,
        prompt_version=trace_context.prompt_version,
    )


def request_span_with_attempts(
    client_observation: Observation, attempts: Sequence[Observation]
) -> list[Observation]:
    """The observations of a request for which several providers were asked one after another.

    In: the request as the client saw it, and each call to a provider. Out: the first of them as a
    span, and below it the others. Model, tokens and cost are theirs alone, or they would count
    twice.
    """
    span = replace(
        client_observation,
        type="span",
        completion_started_at=None,
        model=None,
        parameters={},
        usage={},
        cost={},
        prompt_name=None,
        prompt_version=None,
    )
    # Every observation tells of its trace, and which one Langfuse believes depends on the field and
    # on what came when. So all of them tell the same, and of its content only the span does.
    trace = replace(span.trace, is_existing=True, metadata={})
    return [span, *(replace(a, parent_id=span.id, trace=trace) for a in attempts)]


def truncate_content(observation: Observation, limit: int) -> Observation:
    """The observation with an input and an output of at most `limit` bytes each, and a note of it;
    as it is where they are no longer than that."""
    texts = {"input": observation.input, "output": observation.output}
    long = {name: text for name, text in texts.items() if text and not fits_bytes(text, limit)}
    if not long:
        return observation
    notes = observation.metadata.get("notes", [])
    notes = notes if isinstance(notes, list) else [notes]
    note = f"content: cut to {limit} bytes for its delivery"
    metadata = {**observation.metadata, "notes": [*notes, note]}
    trace = observation.trace
    return replace(
        observation,
        **{name: truncate_json(text, limit) for name, text in long.items()},
        metadata=metadata,
        trace=trace if trace.is_existing else replace(trace, metadata=metadata),
    )


def _metadata(
    exchange: Exchange,
    prompt: Prompt,
    completion: Completion,
    full: bool,
    searchable: bool,
    redact: Callable[[Any], Any],
) -> dict[str, Any]:
    call, capture, trace_context = exchange.call, exchange.capture, exchange.trace_context
    model = completion.model or prompt.model
    notes = [*trace_context.notes, *prompt.notes, *completion.notes]
    if not searchable:
        notes.append("content: not recorded, for too many credentials to search it for")
    if exchange.request_bytes > len(exchange.request_body):
        notes.append(f"request: the first {len(exchange.request_body)} bytes are recorded")
    if capture.truncated:
        notes.append(f"reply: the first {len(capture.body)} bytes are recorded")
    reply = completion.metadata
    if not full:
        reply = {name: reply[name] for name in reply.keys() - _CONTENT_METADATA}
    known = {
        "provider": exchange.provider,
        "endpoint": call.path,
        "request_type": dialect_for_path(call.path).NAME,
        "streamed": completion.streamed,
        "http_status": capture.status,
        "latency_ms": _duration_ms(exchange.started_at, capture.ended_at),
        "time_to_first_token_ms": _duration_ms(exchange.started_at, capture.first_byte_at)
        if completion.streamed
        else None,
        "requested_model": exchange.prefixed_model
        or (prompt.model if prompt.model != model else None),
        "request_id": call.request_id or None,
        "ending": capture.ending.value,
        "request_headers": recorded_headers(call.headers) or None,
        "notes": notes or None,
    }
    # What the gateway knows itself is not for others to overwrite.
    known = {name: value for name, value in known.items() if value is not None}
    read = {**(prompt.metadata if full else {}), **reply, **trace_context.metadata, **known}
    # Nor, where this decides who pays, to crowd out, or to say for who shows no key.
    read.pop(_GATEWAY_KEY, None)
    return {**bound_metadata(read, redact), **redact(dict(exchange.gateway_metadata))}


def _existing_trace_metadata(exchange: Exchange, clean: Callable[[Any], Any]) -> dict[str, Any]:
    """What the caller says of a trace that is its own, but for what only the gateway may say."""
    said = exchange.trace_context.metadata
    ours = {*exchange.gateway_metadata, _GATEWAY_KEY}
    return bound_metadata({name: said[name] for name in said if name not in ours}, clean)


def _model_parameters(
    prompt: Prompt,
    completion: Completion,
    full: bool,
    clean: Callable[[Any], Any],
) -> dict[str, Any]:
    """The model's parameters; without content only those that are numbers, switches or choices."""
    chosen = {**prompt.parameters, **completion.parameters}
    if not full:
        chosen = {
            k: v for k, v in chosen.items() if isinstance(v, int | float) or k in _CHOICE_PARAMETERS
        }
    chosen = clean(dict([*chosen.items()][:MAX_PARAMETERS]))
    return {
        truncate_text(n, MAX_METADATA_NAME_CHARS): bound_parameter(value)
        for n, value in chosen.items()
    }


def _bounded_value(text: str | None) -> str | None:
    return text[:MAX_VALUE_CHARS] if text else None


def _duration_ms(start: float, end: float | None) -> int | None:
    return None if end is None else round(1000 * (end - start))


def _level_and_status(
    capture: Capture, completion: Completion, full: bool
) -> tuple[str, str | None]:
    """Level and status message: what went wrong, the earliest cause first."""
    if capture.ending is Ending.UNREACHABLE:
        return ERROR, f"The provider could not be reached: {capture.reason}"
    if capture.ending is Ending.CLIENT_LEFT:
        before = "while" if capture.status else "before"
        return WARNING, f"The client closed the connection {before} the reply came."
    # What a provider says about an error may quote the request, so it counts as content.
    if capture.status is not None and capture.status >= 400:
        status = f"HTTP {capture.status}"
        text = completion.error or capture.body[:MAX_STATUS_MESSAGE_CHARS].decode(
            "utf-8", "replace"
        )
        return ERROR, f"{status}: {text}"[:MAX_STATUS_MESSAGE_CHARS] if full else status
    if completion.error:
        return ERROR, completion.error[
            :MAX_STATUS_MESSAGE_CHARS
        ] if full else "An error in the reply."
    if capture.ending is Ending.INTERRUPTED:
        return ERROR, f"The provider broke off the reply: {capture.reason}"
    if completion.streamed and not completion.finished and not capture.truncated:
        return WARNING, "The stream ended without its end marker."
    return DEFAULT, None
