"""Any endpoint without a dialect of its own: the JSON as it is."""

from typing import Any

from dialects.fields import Completion, Prompt, read_completion
from dialects.json_values import as_object, as_text
from dialects.tools import without_credentials
from dialects.usage import openai_usage, stated_cost

NAME = "other"

OBSERVATION_TYPE = "generation"

_STREAM = "stream of events"


def read_request(body: Any) -> Prompt:
    """A request as it is."""
    if not isinstance(body, dict):
        return Prompt(input=body)
    return Prompt(
        model=as_text(body.get("model")),
        input=without_credentials({n: v for n, v in body.items() if n != "api_key"}),
    )


def fold(events: list[Any]) -> dict[str, Any]:
    """A stream as the list of its events. An error, and the last usage, are put beside them."""
    reply: dict[str, Any] = {"object": _STREAM, "events": events}
    for event in events:
        for name in ("model", "usage", "error"):
            if isinstance(event, dict) and event.get(name):
                reply[name] = event[name]
    return reply


def is_finished(reply: dict[str, Any]) -> bool:
    """Taken for granted, since it is not to be known."""
    return True


def read_reply(reply: Any) -> Completion:
    """A reply as it is, or the events of a stream."""
    folded = as_object(reply).get("object") == _STREAM
    return read_completion(
        reply,
        output=lambda _: reply["events"] if folded else reply,
        metadata=lambda _: {},
        usage=lambda reply: openai_usage(reply.get("usage")),
        cost=lambda reply: stated_cost(reply.get("usage")),
    )
