"""OpenAI embeddings. https://platform.openai.com/docs/api-reference/embeddings"""

from typing import Any

from core.json_values import as_object, drop_empty, object_items
from dialects import chat, generic
from dialects.fields import Completion, Prompt, read_completion, read_prompt
from dialects.usage import find_usage, usage_metadata

NAME = "embedding"

OBSERVATION_TYPE = "embedding"

is_finished = generic.is_finished


def read_request(body: Any) -> Prompt:
    """Read the parsed JSON body of an embedding request. The input is a string, a list of strings,
    or token ids, or an object of MiniMax's `texts`."""
    return read_prompt(body, input_field="input", extra_input_fields=("texts",))


def fold(events: list[Any]) -> dict[str, Any]:
    """Merge the events of a stream into one reply, with the `data` of all of them. OpenAI streams
    no embeddings, but a server may send lines of JSON."""
    reply: dict[str, Any] = {}
    data: list[Any] = []
    for event in object_items(events):
        reply |= drop_empty(event)
        data += event["data"] if isinstance(event.get("data"), list) else []
    return {**reply, "data": data} if data else reply


def read_reply(reply: Any) -> Completion:
    """Read the parsed JSON of an embedding reply.

    The output is `{"dimensions": d, "count": n}` for n inputs with vectors of d numbers, and the
    number of `vectors` where an input has several. Where the vectors cannot be read, it is the
    whole reply.
    """
    readers = {
        **chat.COMMON_READERS,
        "metadata": lambda reply: drop_empty(
            {"response_id": reply.get("id"), **usage_metadata(find_usage(reply))}
        ),
    }
    return read_completion(reply, output=_output, **readers)


def _output(reply: dict[str, Any]) -> dict[str, int]:
    vectors = _vectors({**reply, **as_object(reply.get("result"))})
    # Of several vectors for each input: https://jina.ai/embeddings/ (return_multivector)
    inner = [vector for item in vectors if isinstance(item, list) for vector in item]
    several = [vector for vector in inner if isinstance(vector, list | str)]
    first = next(iter(several or vectors), "")
    counts = {"dimensions": _dimensions(first), "count": len(vectors)}
    return counts | {"vectors": len(several)} if several else counts


def _vectors(reply: dict[str, Any]) -> list[Any]:
    """The vectors in a reply, or for each input a list of them. They are in the items of `data`
    (OpenAI), `data` itself (Workers AI), `embeddings` (Ollama; of Cohere, by their type), `vectors`
    (MiniMax), or a single one in `embedding` (Ollama's older API).

    Raises TypeError where an item has no vector.
    """
    members = ("embeddings", "vectors", "data")
    items = next((reply[name] for name in members if name in reply), [reply])
    items = next(iter(items.values()), []) if isinstance(items, dict) else items
    vectors = [
        item.get("embedding", item.get("embeddings")) if isinstance(item, dict) else item
        for item in items
    ]
    if not all(isinstance(vector, list | str) for vector in vectors):
        raise TypeError("an item without a vector")
    return vectors


def _dimensions(vector: Any) -> int:
    if isinstance(vector, str):  # base64 of 32-bit floats
        return len(vector) * 3 // 4 // 4
    return len(vector)


def without_vectors(value: Any) -> Any:
    """A copy of a JSON value in which a text such as "[1536 numbers]" replaces each list of
    numbers. For replies in which `read_reply` does not find the vectors."""
    if isinstance(value, dict):
        return {name: without_vectors(member) for name, member in value.items()}
    if not isinstance(value, list):
        return value
    if value and set(map(type, value)) <= {int, float}:
        return f"[{len(value)} numbers]"
    return [without_vectors(item) for item in value]
