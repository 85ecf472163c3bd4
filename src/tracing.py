"""An exchange with a provider, turned into one observation; several of one request, into a tree.

Each field is read on its own: what cannot be read is left out and noted in the metadata. Every
credential of the request and of the deployment is taken out of everything that is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dialects
import strict_json
from config import Destination, Settings
from context import CONTENT_MODES, VALUE_LENGTH, Context
from dialects import media
from fitting import cut_text, fit, fits
from redaction import Redactor, credentials, recorded_headers, to_json
from vocabulary import Call, Capture, Ending

# Levels are Langfuse's: https://langfuse.com/docs/observability/features/log-levels
DEFAULT, WARNING, ERROR = "DEFAULT", "WARNING", "ERROR"
STATUS_MESSAGE_LENGTH = 2000
METADATA_VALUE_BYTES = 10_000
METADATA_BYTES = 100_000
METADATA_NAME_LENGTH = 200
# Of more there would be no end, and no room.
METADATA_NAMES = 5000
PARAMETERS = 100
SETTING_LENGTH = 1000
# Parameters whose text is a choice among a few, and says nothing of the content.
_CHOICES = frozenset(
    (
        *("service_tier", "reasoning_effort", "effort", "verbosity", "speed", "encoding_format"),
        *("thinking_type", "reasoning_summary", "truncation", "modalities", "tool_choice"),
    )
)
# Whose key let a request in.
_PAYS = "gateway_key"
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
    context: Context
    destination: Destination
    provider: str
    request: bytes
    request_size: int
    started: float
    capture: Capture
    routed_model: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """What is told of the trace that an observation belongs to.

    `joined` is set where another observation makes the trace. That is the caller's own, of which
    only what the caller says is told, since the trace may have a name, an input and an output
    already; or the span above this one. `started` is None where it is the caller's to say.
    """

    id: str
    joined: bool
    name: str | None
    user: str | None
    session: str | None
    tags: tuple[str, ...]
    environment: str | None
    release: str | None
    version: str | None
    metadata: Mapping[str, Any]
    started: float | None = None


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
    started: float
    ended: float
    completion_started: float | None
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


def content_mode(said: Context, settings: Settings) -> str:
    """What of a call's content is recorded: the lesser of what deployment and request allow.

    "off" also where the deployment's sample leaves the trace out. That is decided by the trace's
    id, so that a trace of several calls is kept or dropped whole: by its end, since ids may begin
    with a time (https://www.w3.org/TR/trace-context-2/#random-trace-id-flag).
    """
    if int(said.trace_id[16:], 16) >= settings.sample_rate * 2**64:
        return "off"
    return min(said.content, settings.content, key=CONTENT_MODES.index)


def observe(exchange: Exchange, settings: Settings) -> Observation:
    """The observation of an exchange whose content mode is not "off"."""
    call, capture, said = exchange.call, exchange.capture, exchange.context
    dialect = dialects.for_path(call.path)
    prompt = dialects.read_request(call.path, exchange.request)
    completion = dialects.read_reply(
        call.path,
        capture.body,
        capture.content_type,
        complete=capture.ending is Ending.COMPLETE and not capture.cut,
    )
    output = completion.output
    if output is None and (capture.status or 0) >= 400:
        output = dialects.read_reply("", capture.body, "", complete=True).output
    # Each once: there is a limit to how many are searched for.
    secrets = {*credentials(call.headers, call.query), *settings.secrets}
    redactor = Redactor(secrets, settings.redact)
    # The events of a stream that no dialect could put together, of which a secret may be parts.
    if isinstance(output, list) and redactor.searchable and redactor.finds_in_pieces(output):
        output = "[redacted]: its pieces, put together, hold a credential"
    clean = redactor.clean
    if not redactor.searchable:
        # So many would have to be looked for in each of these texts, of which there may be as many.
        said = replace(said, metadata={}, tags=())
        prompt = replace(prompt, metadata={}, parameters={})
        exchange = replace(exchange, context=said)
    full = redactor.searchable and content_mode(said, settings) == "full"
    level, status = _verdict(capture, completion, full)
    name = said.name or call.path.removeprefix("/v1/")
    limit = settings.max_field_bytes

    def content(value: Any) -> str | None:
        if value is None or not full:
            return None
        text = to_json(value)
        if not fits(text, limit):
            text = to_json(value := fit(value, limit, clean))
        text = redactor.to_json(value, text)
        # What was put in a secret's place may have been longer than that.
        return text if fits(text, limit) else _cut(text, limit)

    metadata = _metadata(exchange, prompt, completion, full, redactor.searchable, clean)
    # Together, since each search takes its time.
    texts = [
        *(said.trace_name or (None if said.joined else name), name, said.version, said.release),
        said.user or (None if said.joined else _value(prompt.user)),
        said.session or (None if said.joined else _value(prompt.session)),
        *(_value(completion.model or prompt.model), said.prompt_name, status, *said.tags),
    ]
    trace_name, name, version, release, user, session, model, prompt_name, status, *tags = clean(
        texts
    )
    trace = Trace(
        id=said.trace_id,
        joined=said.joined,
        name=trace_name,
        user=user,
        session=session,
        tags=tuple(tags),
        environment=said.environment or (None if said.joined else settings.environment),
        release=release or (None if said.joined else settings.release),
        version=version,
        metadata=_said_of_trace(exchange, clean) if said.joined else metadata,
        started=None if said.joined else exchange.started,
    )
    return Observation(
        id=said.observation_id,
        destination=exchange.destination,
        trace=trace,
        parent_id=said.parent_id,
        type=dialect.OBSERVATION_TYPE,
        name=name,
        started=exchange.started,
        ended=capture.ended,
        # The first bytes of a whole reply come when all of it is there: they tell nothing.
        completion_started=capture.first_byte if completion.streamed else None,
        model=model,
        parameters=_parameters(prompt, completion, full, clean),
        input=content(prompt.input),
        output=content(output),
        usage=completion.usage,
        cost=completion.cost,
        level=level,
        status_message=status,
        metadata=metadata,
        environment=said.environment or settings.environment,
        version=version,
        prompt_name=prompt_name,
        prompt_version=said.prompt_version,
    )


def with_attempts(whole: Observation, attempts: Sequence[Observation]) -> list[Observation]:
    """The observations of a request for which several providers were asked one after another.

    In: the request as the client saw it, and each call to a provider. Out: the first of them as a
    span, and below it the others. Model, tokens and cost are theirs alone, or they would count
    twice.
    """
    span = replace(
        whole,
        type="span",
        completion_started=None,
        model=None,
        parameters={},
        usage={},
        cost={},
        prompt_name=None,
        prompt_version=None,
    )
    # Every observation tells of its trace, and which one Langfuse believes depends on the field and
    # on what came when. So all of them tell the same, and of its content only the span does.
    trace = replace(span.trace, joined=True, metadata={})
    return [span, *(replace(a, parent_id=span.id, trace=trace) for a in attempts)]


def shortened(observation: Observation, limit: int) -> Observation:
    """The observation with an input and an output of at most `limit` bytes each, and a note of it;
    as it is where they are no longer than that."""
    texts = {"input": observation.input, "output": observation.output}
    long = {name: text for name, text in texts.items() if text and not fits(text, limit)}
    if not long:
        return observation
    notes = observation.metadata.get("notes", [])
    notes = notes if isinstance(notes, list) else [notes]
    note = f"content: cut to {limit} bytes for its delivery"
    metadata = {**observation.metadata, "notes": [*notes, note]}
    trace = observation.trace
    return replace(
        observation,
        **{name: _cut(text, limit) for name, text in long.items()},
        metadata=metadata,
        trace=trace if trace.joined else replace(trace, metadata=metadata),
    )


def _cut(text: str, limit: int) -> str:
    try:
        value = strict_json.parse(text)
    except ValueError:  # a dialect may have put what was nested deep a little deeper
        value = text
    return to_json(fit(value, limit))


def _metadata(
    exchange: Exchange,
    prompt: dialects.Prompt,
    completion: dialects.Completion,
    full: bool,
    searchable: bool,
    clean: Callable[[Any], Any],
) -> dict[str, Any]:
    call, capture, said = exchange.call, exchange.capture, exchange.context
    model = completion.model or prompt.model
    notes = [*said.notes, *prompt.notes, *completion.notes]
    if not searchable:
        notes.append("content: not recorded, for too many credentials to search it for")
    if exchange.request_size > len(exchange.request):
        notes.append(f"request: the first {len(exchange.request)} bytes are recorded")
    if capture.cut:
        notes.append(f"reply: the first {len(capture.body)} bytes are recorded")
    reply = completion.metadata
    if not full:
        reply = {name: reply[name] for name in reply.keys() - _CONTENT_METADATA}
    known = {
        "provider": exchange.provider,
        "endpoint": call.path,
        "request_type": dialects.for_path(call.path).NAME,
        "streamed": completion.streamed,
        "http_status": capture.status,
        "latency_ms": _milliseconds(exchange.started, capture.ended),
        "time_to_first_token_ms": _milliseconds(exchange.started, capture.first_byte)
        if completion.streamed
        else None,
        "requested_model": exchange.routed_model
        or (prompt.model if prompt.model != model else None),
        "request_id": call.request_id or None,
        "ending": capture.ending.value,
        "request_headers": recorded_headers(call.headers) or None,
        "notes": notes or None,
    }
    # What the gateway knows itself is not for others to overwrite.
    known = {name: value for name, value in known.items() if value is not None}
    read = {**(prompt.metadata if full else {}), **reply, **said.metadata, **known}
    # Nor, where this decides who pays, to crowd out, or to say for who shows no key.
    read.pop(_PAYS, None)
    return {**_fitted(read, clean), **clean(dict(exchange.about))}


def _said_of_trace(exchange: Exchange, clean: Callable[[Any], Any]) -> dict[str, Any]:
    """What the caller says of a trace that is its own, but for what only the gateway may say."""
    said = exchange.context.metadata
    ours = {*exchange.about, _PAYS}
    return _fitted({name: said[name] for name in said if name not in ours}, clean)


def _fitted(metadata: Mapping[str, Any], clean: Callable[[Any], Any]) -> dict[str, Any]:
    """Metadata without secrets, of which no value, and not all together, is too large."""
    if len(metadata) > METADATA_NAMES:
        return {"cut": cut_text(to_json(dict(metadata)), METADATA_BYTES // 2, clean)}
    shown: dict[str, Any] = clean(media.presentable(dict(metadata)))
    longest_name = max(map(len, shown), default=0)
    # Nearly always all together is no larger than one may be.
    if longest_name <= METADATA_NAME_LENGTH and fits(to_json(shown), METADATA_VALUE_BYTES):
        return shown
    fitted = {
        cut_text(name, METADATA_NAME_LENGTH): fit(value, METADATA_VALUE_BYTES, clean)
        for name, value in shown.items()
    }
    whole = fit(fitted, METADATA_BYTES, clean)
    return whole if isinstance(whole, dict) else {"cut": whole}


def _parameters(
    prompt: dialects.Prompt,
    completion: dialects.Completion,
    full: bool,
    clean: Callable[[Any], Any],
) -> dict[str, Any]:
    """The model's parameters; without content only those that are numbers, switches or choices."""
    chosen = {**prompt.parameters, **completion.parameters}
    if not full:
        chosen = {k: v for k, v in chosen.items() if isinstance(v, int | float) or k in _CHOICES}
    chosen = clean(dict([*chosen.items()][:PARAMETERS]))
    return {cut_text(n, METADATA_NAME_LENGTH): _setting(value) for n, value in chosen.items()}


def _setting(value: Any) -> Any:
    text = value if isinstance(value, str) else to_json(value)
    return value if len(text) <= SETTING_LENGTH else cut_text(text, SETTING_LENGTH)


def _value(text: str | None) -> str | None:
    return text[:VALUE_LENGTH] if text else None


def _milliseconds(start: float, end: float | None) -> int | None:
    return None if end is None else round(1000 * (end - start))


def _verdict(
    capture: Capture, completion: dialects.Completion, full: bool
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
        text = completion.error or capture.body[:STATUS_MESSAGE_LENGTH].decode("utf-8", "replace")
        return ERROR, f"{status}: {text}"[:STATUS_MESSAGE_LENGTH] if full else status
    if completion.error:
        return ERROR, completion.error[:STATUS_MESSAGE_LENGTH] if full else "An error in the reply."
    if capture.ending is Ending.CUT:
        return ERROR, f"The provider broke off the reply: {capture.reason}"
    if completion.streamed and not completion.finished and not capture.cut:
        return WARNING, "The stream ended without its end marker."
    return DEFAULT, None
