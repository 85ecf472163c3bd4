"""OpenAI embeddings. https://platform.openai.com/docs/api-reference/embeddings"""

from typing import Any

from dialects import chat, generic
from dialects.fields import Completion, Prompt, read_completion, read_prompt
from dialects.json_values import drop_empty, object_items

NAME = "embedding"

OBSERVATION_TYPE = "embedding"

# There are no streams of embeddings.
fold = generic.fold

is_finished = generic.is_finished


def read_request(body: Any) -> Prompt:
    """An embedding request: its input, which may be a string, a list of them, or tokens."""
    return read_prompt(body, input_field="input")


def read_reply(reply: Any) -> Completion:
    """How many vectors came and of which size, never the vectors."""
    about = {
        **chat.COMMON_READERS,
        "metadata": lambda reply: drop_empty({"response_id": reply.get("id")}),
    }
    return read_completion(reply, output=_output, **about)


def _output(reply: dict[str, Any]) -> dict[str, int]:
    vectors = [item["embedding"] for item in object_items(reply["data"]) if "embedding" in item]
    return {"dimensions": _dimensions(vectors[0]) if vectors else 0, "count": len(vectors)}


def _dimensions(vector: Any) -> int:
    if isinstance(vector, str):  # base64 of 32-bit floats
        return len(vector) * 3 // 4 // 4
    return len(vector)


def without_vectors(value: Any) -> Any:
    """A reply of another form with the length of each vector in its place."""
    if isinstance(value, dict):
        return {name: without_vectors(member) for name, member in value.items()}
    if not isinstance(value, list):
        return value
    if value and set(map(type, value)) <= {int, float}:
        return f"[{len(value)} numbers]"
    return [without_vectors(item) for item in value]
