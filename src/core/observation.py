"""Observations: what the gateway sends to Langfuse about a call, whichever protocol it uses."""

from collections.abc import Mapping
from dataclasses import dataclass

from core.strict_json import JsonValue
from core.types import Destination

# https://langfuse.com/docs/observability/features/log-levels
DEFAULT, WARNING, ERROR = "DEFAULT", "WARNING", "ERROR"


@dataclass(frozen=True)
class Trace:
    """What an observation sends about its trace. A value that is None or empty is not sent.

    `id` has 32 hex digits. `user` is the end user of the client's app, `session` a conversation of
    several traces. `metadata` maps names to JSON values. `started_at` is in seconds since the
    epoch.

    `is_existing` is True where another observation may create the trace: the span above this one,
    another call to the gateway, or an observation of the client's app. Input and output are then
    not sent. `started_at` is None where the start of the trace is unknown, which is so for a trace
    whose id the client sent. For the trace of an app, only `environment` and values from the
    request's headers are sent.
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
    metadata: Mapping[str, JsonValue]
    started_at: float | None = None


@dataclass(frozen=True)
class ModelCall:
    """What OpenTelemetry's GenAI attributes contain about a generation or an embedding.

    `request_type` is the name of the API's wire format, such as "chat" or "messages". `provider` is
    the provider's slug, such as "groq". `request_model` is the model as the client named it, None
    where it named none. `response_model`, `response_id` and `finish_reasons` are as the reply has
    them, None or () where it has none.
    https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
    """

    request_type: str
    provider: str
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Observation:
    """A call to a provider, or a request with several of them, in a form for both export protocols.

    `type` is "generation", "embedding", or "span" for a request with a routing config. The attempts
    of that request are observations below the span, which has no model, usage or cost itself. `id`
    and `parent_id` have 16 hex digits; `parent_id` is None where no observation is above this one.
    `destination` is the Langfuse project to send it to.

    Times are seconds since the epoch; `completion_started_at` is when the first token of a streamed
    reply arrived, None where there was none. `parameters` and `metadata` map names to JSON values.
    `input` and `output` are JSON texts, None where there is none or content is not recorded.
    `usage` maps Langfuse's usage types to tokens, `cost` to US dollars.

    `level` is DEFAULT, WARNING or ERROR. `status_message` explains a WARNING or an ERROR, else it
    is None. `error_type` is a short identifier of an ERROR, such as "429", "overloaded_error" or
    "timeout", else None. `prompt_name` and `prompt_version` identify a prompt that Langfuse
    manages. `model_call` is None for a span.
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
    parameters: Mapping[str, JsonValue]
    input: str | None
    output: str | None
    usage: Mapping[str, int]
    cost: Mapping[str, float]
    level: str
    status_message: str | None
    metadata: Mapping[str, JsonValue]
    environment: str | None
    version: str | None
    prompt_name: str | None
    prompt_version: int | None
    model_call: ModelCall | None = None
    error_type: str | None = None
