"""OpenAI's legacy completions.

https://platform.openai.com/docs/api-reference/completions
"""

from typing import Any

from dialects import chat
from dialects.deltas import accumulate, finalize
from dialects.fields import Completion, Prompt, read_completion, read_prompt
from dialects.json_values import object_items

NAME = "completion"

OBSERVATION_TYPE = "generation"


def read_request(body: Any) -> Prompt:
    """A completion request: its prompt, which may be a string, a list of them, or tokens."""
    return read_prompt(body, input_field="prompt", extra_input_fields=("suffix",))


def fold(events: list[Any]) -> dict[str, Any]:
    """The chunks of a stream as one `text_completion`, its choices kept apart by index."""
    reply: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        chat.update_members(reply, event, but={"choices"})
        for piece in object_items(event.get("choices")):
            index = chat.choice_index(piece)
            choice = choices.setdefault(index, {"index": index})
            accumulate(choice, {"text": piece.get("text")})
            chat.update_members(choice, piece, but=chat.SEPARATELY_FOLDED)
    return {**reply, "choices": [finalize(choice) for choice in choices.values()]}


def is_finished(reply: dict[str, Any]) -> bool:
    """Whether every choice of a folded reply came to its end."""
    return chat.is_finished(reply)


def read_reply(reply: Any) -> Completion:
    """A `text_completion` as its text, or the list of its texts where n > 1. With `echo` a text
    begins with the prompt, as it came."""
    return read_completion(reply, output=_output, **chat.COMMON_READERS)


def _output(reply: dict[str, Any]) -> Any:
    if not isinstance(reply["choices"], list):
        raise TypeError("choices is not a list")
    texts = [choice.get("text") for choice in chat.sorted_choices(reply)]
    return texts[0] if len(texts) == 1 else texts or None
