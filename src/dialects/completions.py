"""OpenAI's legacy completions.

https://platform.openai.com/docs/api-reference/completions
"""

from typing import Any

from dialects import chat
from dialects.deltas import grow, settle
from dialects.shapes import Completion, Prompt, read_completion, read_prompt
from dialects.values import objects

NAME = "completion"
OBSERVATION_TYPE = "generation"


def read_request(body: Any) -> Prompt:
    """A completion request: its prompt, which may be a string, a list of them, or tokens."""
    return read_prompt(body, main="prompt", beside=("suffix",))


def fold(events: list[Any]) -> dict[str, Any]:
    """The chunks of a stream as one `text_completion`, its choices kept apart by index."""
    reply: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        chat.keep_members(reply, event, but={"choices"})
        for piece in objects(event.get("choices")):
            index = chat.index_of(piece)
            choice = choices.setdefault(index, {"index": index})
            grow(choice, {"text": piece.get("text")})
            chat.keep_members(choice, piece, but=chat.NOT_KEPT)
    return {**reply, "choices": [settle(choice) for choice in choices.values()]}


def ended(reply: dict[str, Any]) -> bool:
    """Whether every choice of a folded reply came to its end."""
    return chat.ended(reply)


def read_reply(reply: Any) -> Completion:
    """A `text_completion` as its text, or the list of its texts where n > 1. With `echo` a text
    begins with the prompt, as it came."""
    return read_completion(reply, output=_output, **chat.ABOUT)


def _output(reply: dict[str, Any]) -> Any:
    if not isinstance(reply["choices"], list):
        raise TypeError("choices is not a list")
    texts = [choice.get("text") for choice in chat.choices_of(reply)]
    return texts[0] if len(texts) == 1 else texts or None
