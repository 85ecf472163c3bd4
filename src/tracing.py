"""An exchange with a provider, turned into one observation.

Each field is read on its own: what cannot be read is left out and noted in the metadata. Every
credential of the request and of the deployment is taken out of everything that is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dialects
from config import Settings
from context import CONTENT_MODES, VALUE_LENGTH, Context
from fitting import cut_text, fit
from redaction import Redactor, credentials, recorded_headers
from vocabulary import Call, Capture, Ending

# Levels are Langfuse's: https://langfuse.com/docs/observability/features/log-levels
DEFAULT, WARNING, ERROR = "DEFAULT", "WARNING", "ERROR"
STATUS_MESSAGE_LENGTH = 2000
METADATA_VALUE_BYTES = 10_000
METADATA_BYTES = 100_000
METADATA_NAME_LENGTH = 200


@dataclass(frozen=True)
class Exchange:
    """A call to a provider and what came of it.

    `request` is the beginning of the request's body and `request_size` the size of all of it, in
    bytes. `started` is when the gateway began to call the provider, in seconds since the epoch.
    """

    call: Call
    context: Context
    provider: str
    request: bytes
    request_size: int
    started: float
    capture: Capture


@dataclass(frozen=True)
class Observation:
    """One exchange as a tracing backend stores it, whichever protocol carries it there.

    Times are seconds since the epoch. `input` and `output` are JSON texts, or None where there is
    none. `usage` and `cost` have Langfuse's keys. `joined` is set where the trace is the caller's
    own, of which only what the caller says may be told.
    """

    id: str
    trace_id: str
    parent_id: str | None
    joined: bool
    type: str
    name: str
    trace_name: str | None
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
    user: str | None
    session: str | None
    tags: tuple[str, ...]
    environment: str | None
    release: str | None
    version: str | None
    prompt_name: str | None
    prompt_version: int | None


def content_mode(said: Context, settings: Settings) -> str:
    """What of a call's content is recorded: the lesser of what deployment and request allow.

    "off" also where the deployment's sample leaves the trace out. That is decided by the trace's
    id, so that a trace of several calls is kept or dropped whole.
    """
    if int(said.trace_id[:8], 16) >= settings.sample_rate * 2**32:
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
    secrets = (*credentials(call.headers, call.query), *settings.secrets)
    redactor = Redactor(secrets, settings.redact)
    # The events of a stream that no dialect could put together, of which a secret may be parts.
    if isinstance(output, list) and redactor.finds_in_pieces(output):
        output = "[redacted]: its pieces, put together, hold a credential"
    clean = redactor.clean
    full = redactor.searchable and content_mode(said, settings) == "full"
    streamed = completion.streamed
    level, status_message = _verdict(capture, completion, full)
    name = said.name or call.path.removeprefix("/v1/")

    def content(value: Any) -> str | None:
        if value is None or not full:
            return None
        return redactor.to_json(fit(value, settings.max_field_bytes, clean))

    return Observation(
        id=said.observation_id,
        trace_id=said.trace_id,
        parent_id=said.parent_id,
        joined=said.joined,
        type=dialect.OBSERVATION_TYPE,
        name=clean(name),
        trace_name=clean(said.trace_name or (None if said.joined else name)),
        started=exchange.started,
        ended=capture.ended,
        # The first bytes of a whole reply come when all of it is there: they tell nothing.
        completion_started=capture.first_byte if streamed else None,
        model=clean((completion.model or prompt.model or "")[:VALUE_LENGTH] or None),
        parameters=clean({**prompt.parameters, **completion.parameters}),
        input=content(prompt.input),
        output=content(output),
        usage=completion.usage,
        cost=completion.cost,
        level=level,
        status_message=clean(status_message),
        metadata=_metadata(exchange, prompt, completion, full, redactor),
        user=clean(said.user or (prompt.user or "")[:VALUE_LENGTH] or None),
        session=clean(said.session or (prompt.session or "")[:VALUE_LENGTH] or None),
        tags=tuple(clean(list(said.tags))),
        environment=said.environment or settings.environment,
        release=clean(said.release) or settings.release,
        version=clean(said.version),
        prompt_name=clean(said.prompt_name),
        prompt_version=said.prompt_version,
    )


def _metadata(
    exchange: Exchange,
    prompt: dialects.Prompt,
    completion: dialects.Completion,
    full: bool,
    redactor: Redactor,
) -> dict[str, Any]:
    call, capture, said = exchange.call, exchange.capture, exchange.context
    model = completion.model or prompt.model
    notes = [*said.notes, *prompt.notes, *completion.notes]
    if not redactor.searchable:
        notes.append("content: not recorded, for too many credentials to search it for")
    if exchange.request_size > len(exchange.request):
        notes.append(f"request: the first {len(exchange.request)} bytes are recorded")
    if capture.cut:
        notes.append(f"reply: the first {len(capture.body)} bytes are recorded")
    # What the gateway knows itself comes last, and is not for others to overwrite.
    metadata = {
        **(prompt.metadata if full else {}),
        **completion.metadata,
        **said.metadata,
        "provider": exchange.provider,
        "endpoint": call.path,
        "request_type": dialects.for_path(call.path).NAME,
        "streamed": completion.streamed,
        "http_status": capture.status,
        "latency_ms": _milliseconds(exchange.started, capture.ended),
        "time_to_first_token_ms": _milliseconds(exchange.started, capture.first_byte)
        if completion.streamed
        else None,
        "requested_model": prompt.model if prompt.model != model else None,
        "request_id": call.headers.get("x-request-id"),
        "ending": capture.ending.value,
        "request_headers": recorded_headers(call.headers) or None,
        "notes": notes or None,
    }
    fitted = {
        cut_text(name, METADATA_NAME_LENGTH): fit(value, METADATA_VALUE_BYTES, redactor.clean)
        for name, value in metadata.items()
        if value is not None
    }
    whole = fit(fitted, METADATA_BYTES, redactor.clean)
    return redactor.clean(whole if isinstance(whole, dict) else {"cut": whole})


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
