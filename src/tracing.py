"""An exchange with a provider, turned into one observation.

Each field is read on its own: what cannot be read is left out and noted in the metadata. Every
credential of the request and of the deployment is taken out of everything that is kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dialects
import redaction
from config import Settings
from vocabulary import Call, Capture, Ending

# Levels are Langfuse's: https://langfuse.com/docs/observability/features/log-levels
DEFAULT, WARNING, ERROR = "DEFAULT", "WARNING", "ERROR"
STATUS_MESSAGE_LENGTH = 2000


@dataclass(frozen=True)
class Exchange:
    """A call to a provider and what came of it.

    `request` is the beginning of the request's body and `request_size` the size of all of it, in
    bytes. `started` is when the gateway began to call the provider, in seconds since the epoch.
    """

    call: Call
    provider: str
    trace_id: str
    observation_id: str
    request: bytes
    request_size: int
    started: float
    capture: Capture


@dataclass(frozen=True)
class Observation:
    """One exchange as a tracing backend stores it, whichever protocol carries it there.

    Times are seconds since the epoch. `input` and `output` are JSON texts, or None where there is
    none. `usage` and `cost` have Langfuse's keys.
    """

    id: str
    trace_id: str
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
    user: str | None
    session: str | None
    environment: str | None
    release: str | None


def observe(exchange: Exchange, settings: Settings) -> Observation:
    """The observation of an exchange."""
    call, capture = exchange.call, exchange.capture
    secrets = (*redaction.credentials(call.headers, call.query), *settings.secrets)
    request_cut = exchange.request_size > len(exchange.request)
    prompt = dialects.read_request(call.path, exchange.request)
    completion = dialects.read_reply(
        call.path,
        capture.body,
        capture.content_type,
        complete=capture.ending is Ending.COMPLETE and not capture.cut,
    )
    streamed = capture.content_type.lower().startswith("text/event-stream")
    level, status_message = _verdict(capture, completion, streamed)
    notes = (
        *prompt.notes,
        *completion.notes,
        *([f"request: the first {len(exchange.request)} bytes are recorded"] * request_cut),
        *([f"reply: the first {len(capture.body)} bytes are recorded"] * capture.cut),
    )
    model = completion.model or prompt.model
    metadata = {
        **prompt.metadata,
        **completion.metadata,
        "provider": exchange.provider,
        "endpoint": call.path,
        "request_type": dialects.for_path(call.path).NAME,
        "streamed": streamed,
        "http_status": capture.status,
        "latency_ms": round(1000 * (capture.ended - exchange.started)),
        "time_to_first_token_ms": round(1000 * (capture.first_byte - exchange.started))
        if streamed and capture.first_byte
        else None,
        "requested_model": prompt.model if prompt.model != model else None,
        "request_id": call.headers.get("x-request-id"),
        "ending": capture.ending.value,
        "request_headers": redaction.recorded_headers(call.headers) or None,
        "notes": list(notes) or None,
    }
    return Observation(
        id=exchange.observation_id,
        trace_id=exchange.trace_id,
        type=dialects.for_path(call.path).OBSERVATION_TYPE,
        name=call.path.removeprefix("/v1/"),
        started=exchange.started,
        ended=capture.ended,
        # The first bytes of a whole reply come when all of it is there: they tell nothing.
        completion_started=capture.first_byte if streamed else None,
        model=redaction.redact(model, secrets),
        parameters=redaction.redact({**prompt.parameters, **completion.parameters}, secrets),
        input=_text(prompt.input, secrets),
        output=_text(completion.output, secrets),
        usage=completion.usage,
        cost=completion.cost,
        level=level,
        status_message=redaction.redact(status_message, secrets),
        metadata=redaction.redact({k: v for k, v in metadata.items() if v is not None}, secrets),
        user=redaction.redact(call.headers.get("x-portkey-user-id") or prompt.user, secrets),
        session=redaction.redact(
            call.headers.get("x-portkey-session-id") or prompt.session, secrets
        ),
        environment=settings.environment,
        release=settings.release,
    )


def _text(value: Any, secrets: Iterable[str]) -> str | None:
    return None if value is None else redaction.to_json(value, secrets)


def _verdict(
    capture: Capture, completion: dialects.Completion, streamed: bool
) -> tuple[str, str | None]:
    """Level and status message: what went wrong, the earliest cause first."""
    if capture.ending is Ending.UNREACHABLE:
        return ERROR, f"The provider could not be reached: {capture.reason}"
    if capture.ending is Ending.CLIENT_LEFT:
        before = "while" if capture.status else "before"
        return WARNING, f"The client closed the connection {before} the reply came."
    if capture.status is not None and capture.status >= 400:
        message = completion.error or capture.body[:STATUS_MESSAGE_LENGTH].decode(
            "utf-8", "replace"
        )
        return ERROR, f"HTTP {capture.status}: {message}"[:STATUS_MESSAGE_LENGTH]
    if completion.error:
        return ERROR, completion.error[:STATUS_MESSAGE_LENGTH]
    if capture.ending is Ending.CUT:
        return ERROR, f"The provider broke off the reply: {capture.reason}"
    if streamed and not completion.finished and not capture.cut:
        return WARNING, "The stream ended without its end marker."
    return DEFAULT, None
