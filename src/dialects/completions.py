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
    """The `Prompt` of a completion request. Its input is a string, a list of strings, or tokens."""
    return read_prompt(body, input_field="prompt", extra_input_fields=("suffix",))


def fold(events: list[Any]) -> dict[str, Any]:
    """The chunks of a stream as one `text_completion`, with one choice for each index."""
    reply: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        chat.update_members(reply, event, except_for={"choices"})
        for piece in object_items(event.get("choices")):
            index = chat.choice_index(piece)
            choice = choices.setdefault(index, {"index": index})
            accumulate(choice, {"text": piece.get("text")})
            chat.update_members(choice, piece, except_for=chat.SEPARATELY_FOLDED)
    return {**reply, "choices": [finalize(choice) for choice in choices.values()]}


def is_finished(reply: dict[str, Any]) -> bool:
    """Whether every choice of a folded reply has a finish reason. False without a choice."""
    return chat.is_finished(reply)


def read_reply(reply: Any) -> Completion:
    """The `Completion` of a `text_completion`. Its output is a text, or a list of texts where
    n > 1. With the parameter `echo`, a text begins with the prompt, as in the reply."""
    return read_completion(reply, output=_output, **chat.COMMON_READERS)


def _output(reply: dict[str, Any]) -> Any:
    if not isinstance(reply["choices"], list):
        raise TypeError("choices is not a list")
    texts = [choice.get("text") for choice in chat.sorted_choices(reply)]
    return texts[0] if len(texts) == 1 else texts or None
