"""The dialect of all endpoints without one of their own: their JSON is recorded as it is."""

from core.json_values import as_object, as_text
from core.strict_json import JsonObject, JsonValue
from dialects.cost import stated_cost
from dialects.dialect import Dialect
from dialects.errors import find_error
from dialects.fields import Completion, Prompt, read_completion
from dialects.tools import without_credentials
from dialects.usage import find_usage, merge_usage, usage_counts, usage_metadata

# Marks a folded stream, as the value of its member `object`.
_STREAM = "stream of events"


def read_request(body: JsonValue) -> Prompt:
    """Read the parsed JSON body of a request. The input is the whole body, without the member
    `api_key` and the credentials for remote servers in `tools` and `mcp_servers`."""
    if not isinstance(body, dict):
        return Prompt(input=body)
    return Prompt(
        model=as_text(body.get("model")),
        input=without_credentials({n: v for n, v in body.items() if n != "api_key"}),
    )


def fold(events: list[JsonValue]) -> JsonObject:
    """Put the events of a stream, as parsed JSON, into one object: `events` is the list of them,
    `model` and `error` are the last ones that an event contains, and `usage` is merged from those
    of all events."""
    reply: JsonObject = {"object": _STREAM, "events": events}
    for event in map(as_object, events):
        reply |= {name: event[name] for name in ("model", "error") if event.get(name)}
        if usage := find_usage(event):
            reply["usage"] = merge_usage(reply.get("usage"), usage)
    return reply


def is_finished(reply: JsonObject) -> bool:
    """Always True: the end of a stream of unknown format cannot be recognised."""
    return True


def read_reply(reply: JsonValue) -> Completion:
    """Read the parsed JSON of a reply, or a stream as `fold` returns it. The output is the whole
    reply, or the list of all events of the stream."""
    members = as_object(reply)
    output = members["events"] if members.get("object") == _STREAM else reply
    return read_completion(
        reply,
        output=lambda _: output,
        metadata=lambda reply: usage_metadata(find_usage(reply)),
        error=lambda reply: find_error(reply, is_known_format=False),
        usage=lambda reply: usage_counts(find_usage(reply), reply.get("model")),
        cost=lambda reply: stated_cost(find_usage(reply)),
    )


DIALECT = Dialect(
    name="other",
    read_request=read_request,
    read_reply=read_reply,
    fold=fold,
    is_finished=is_finished,
    is_known_format=False,
)
