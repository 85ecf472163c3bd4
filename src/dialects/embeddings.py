"""OpenAI embeddings. https://platform.openai.com/docs/api-reference/embeddings"""

from typing import Any

from dialects import chat, generic
from dialects.fields import Completion, Prompt, read_completion, read_prompt
from dialects.json_values import drop_empty, object_items
from dialects.usage import find_usage, usage_metadata

NAME = "embedding"

OBSERVATION_TYPE = "embedding"

# Embeddings are not streamed.
fold = generic.fold

is_finished = generic.is_finished


def read_request(body: Any) -> Prompt:
    """Read the parsed JSON body of an embedding request. The input is a string, a list of strings,
    or token ids."""
    return read_prompt(body, input_field="input")


def read_reply(reply: Any) -> Completion:
    """Read the parsed JSON of an embedding reply.

    The output is `{"dimensions": d, "count": n}` for n vectors of d numbers. Where the vectors
    cannot be read, it is the whole reply.
    """
    readers = {
        **chat.COMMON_READERS,
        "metadata": lambda reply: drop_empty(
            {"response_id": reply.get("id"), **usage_metadata(find_usage(reply))}
        ),
    }
    return read_completion(reply, output=_output, **readers)


def _output(reply: dict[str, Any]) -> dict[str, int]:
    vectors = [item["embedding"] for item in object_items(reply["data"]) if "embedding" in item]
    return {"dimensions": _dimensions(vectors[0]) if vectors else 0, "count": len(vectors)}


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
