"""Observations: what the gateway sends to Langfuse about a call, for any export protocol."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.types import Destination

# https://langfuse.com/docs/observability/features/log-levels
DEFAULT, WARNING, ERROR = "DEFAULT", "WARNING", "ERROR"


@dataclass(frozen=True)
class Trace:
    """What an observation sends about its trace. A value that is None or empty is not sent.

    `is_existing` is True where another observation creates the trace: the span above this one, or
    an observation of the caller's app. About the trace of an app, only values from the request's
    headers are sent, since it may already have a name, input and output; `started_at` is None then.
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
class ModelCall:
    """The call of a model by a generation or an embedding, for OpenTelemetry's GenAI attributes.

    `request_type` is the name of the dialect, such as "messages", `provider` the provider's slug.
    `request_model` is the model as the client named it. `response_model`, `response_id` and
    `finish_reasons` are as the reply has them, with None or () where it has none.
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
    """One exchange as Langfuse stores it, in a form that does not depend on the export protocol.

    `type` is "generation", "embedding", or "span" for the parent of several others, which has no
    model, usage or cost. Times are seconds since the epoch. `input` and `output` are JSON texts, or
    None where there is none. `usage` and `cost` have Langfuse's keys. `model_call` is None for a
    span. `error_type` is a short identifier of the failure, such as "429", "overloaded_error" or
    "timeout"; None where the call did not fail.
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
    model_call: ModelCall | None = None
    error_type: str | None = None
