"""OpenAI embeddings. https://platform.openai.com/docs/api-reference/embeddings"""

from core.json_values import as_list, as_object, drop_empty, object_items
from core.strict_json import JsonObject, JsonValue
from dialects import chat, generic
from dialects.dialect import Dialect
from dialects.fields import Completion, Prompt, read_prompt
from dialects.usage import find_usage, usage_metadata


def read_request(body: JsonValue) -> Prompt:
    """Read the parsed JSON body of an embedding request. The input is a string, a list of strings,
    or token ids, or an object of MiniMax's `texts`."""
    return read_prompt(body, input_field="input", extra_input_fields=("texts",))


def fold(events: list[JsonValue]) -> JsonObject:
    """Merge the events of a stream into one reply, with the `data` of all of them. OpenAI streams
    no embeddings, but a server may send lines of JSON."""
    reply: JsonObject = {}
    data: list[JsonValue] = []
    for event in object_items(events):
        reply |= drop_empty(event)
        data += as_list(event.get("data"))
    return {**reply, "data": data} if data else reply


def read_reply(reply: JsonValue) -> Completion:
    """Read the parsed JSON of an embedding reply.

    The output is `{"dimensions": d, "count": n}` for n inputs with vectors of d numbers, and the
    number of `vectors` where an input has several. Where the vectors cannot be read, it is the
    whole reply.
    """
    return chat.read_openai_reply(reply, output=_output, metadata=_metadata)


def _metadata(reply: JsonObject) -> JsonObject:
    return drop_empty({"response_id": reply.get("id"), **usage_metadata(find_usage(reply))})


def _output(reply: JsonObject) -> JsonValue:
    vectors = _vectors({**reply, **as_object(reply.get("result"))})
    # Of several vectors for each input: https://jina.ai/embeddings/ (return_multivector)
    inner = [vector for item in vectors if isinstance(item, list) for vector in item]
    several = [vector for vector in inner if isinstance(vector, list | str)]
    first = next(iter(several or vectors), "")
    counts: JsonObject = {"dimensions": _dimensions(first), "count": len(vectors)}
    return {**counts, "vectors": len(several)} if several else counts


def _vectors(reply: JsonObject) -> list[JsonValue]:
    """The vectors in a reply, or for each input a list of them. They are in the items of `data`
    (OpenAI), `data` itself (Workers AI), `embeddings` (Ollama; of Cohere, by their type), `vectors`
    (MiniMax), or a single one in `embedding` (Ollama's older API).

    Raises TypeError where an item has no vector.
    """
    members = ("embeddings", "vectors", "data")
    one_vector: JsonValue = [reply]
    items = next((reply[name] for name in members if name in reply), one_vector)
    if isinstance(items, dict):
        items = next(iter(items.values())) if items else []
    vectors = [
        item.get("embedding", item.get("embeddings")) if isinstance(item, dict) else item
        for item in (items if isinstance(items, list) else [items])
    ]
    if not all(isinstance(vector, list | str) for vector in vectors):
        raise TypeError("an item without a vector")
    return vectors


def _dimensions(vector: JsonValue) -> int:
    if isinstance(vector, str):  # base64 of 32-bit floats
        return len(vector) * 3 // 4 // 4
    return len(as_list(vector))


def without_vectors(value: JsonValue) -> JsonValue:
    """A copy of a JSON value in which a text such as "[1536 numbers]" replaces each list of
    numbers. For replies in which `read_reply` does not find the vectors."""
    if isinstance(value, dict):
        return {name: without_vectors(member) for name, member in value.items()}
    if not isinstance(value, list):
        return value
    if value and set(map(type, value)) <= {int, float}:
        return f"[{len(value)} numbers]"
    return [without_vectors(item) for item in value]


DIALECT = Dialect(
    name="embedding",
    read_request=read_request,
    read_reply=read_reply,
    fold=fold,
    is_finished=generic.is_finished,
    observation_type="embedding",
    has_vectors=True,
)
