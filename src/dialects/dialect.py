"""What a dialect consists of: the functions that read one wire format."""

from collections.abc import Callable
from dataclasses import dataclass

from core.strict_json import JsonObject, JsonValue
from dialects.fields import Completion, Prompt


def _has_no_error(event: JsonObject) -> bool:
    return not event.get("error")


@dataclass(frozen=True)
class Dialect:
    """A wire format of a model API, as the functions that read its requests and replies.

    - `name` is the `request_type` in the metadata of an observation, and `observation_type` is
      "generation" or "embedding".
    - `read_request` reads a request's JSON.
    - `read_reply` reads a whole reply's JSON.
    - `fold` turns the events of a stream, as JSON, into the whole reply that the same endpoint
      would have returned. After that, streamed and whole replies are read by the same code.
    - `is_finished` returns whether a folded reply is complete.
    - `has_output` returns whether an event of a stream has output of the model in it, by default
      for any event without an error. It is called until it returns True for the first time.
    - `has_text_deltas` is True where events have a `delta` object. Only such streams are shortened
      by `merge_text_deltas` before they are parsed.
    - `has_vectors` is True where replies contain embeddings, which are never recorded.
    - `is_known_format` is False for the endpoints without a dialect of their own.
    """

    name: str
    read_request: Callable[[JsonValue], Prompt]
    read_reply: Callable[[JsonValue], Completion]
    fold: Callable[[list[JsonValue]], JsonObject]
    is_finished: Callable[[JsonObject], bool]
    has_output: Callable[[JsonObject], bool] = _has_no_error
    observation_type: str = "generation"
    has_text_deltas: bool = False
    has_vectors: bool = False
    is_known_format: bool = True
