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
    """Read the parsed JSON body of a completion request.

    The input is the prompt: a string, a list of strings, or token ids. Where the request has a
    `suffix`, the input is an object of `prompt` and `suffix`.
    """
    return read_prompt(body, input_field="prompt", extra_input_fields=("suffix",))


def fold(events: list[Any]) -> dict[str, Any]:
    """Merge the chunks of a stream into the `text_completion` that they represent.

    `events` are the chunks as parsed JSON; those that are not objects are ignored. The result has
    one choice for each `index`, in the order of their first chunks, without log probabilities.
    """
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
    """Whether every choice of a reply, as `fold` returns it, has a finish reason. False where the
    reply has no choices."""
    return chat.is_finished(reply)


def read_reply(reply: Any) -> Completion:
    """Read the parsed JSON of a whole reply, a `text_completion`.

    The output is the text of the choice, or where the reply has several choices, a list of their
    texts in the order of their `index`. It is None where the reply has no choices. Where the
    request had set `echo`, the provider repeats the prompt before each text; it is not removed.
    """
    return read_completion(reply, output=_output, **chat.COMMON_READERS)


def _output(reply: dict[str, Any]) -> Any:
    if not isinstance(reply["choices"], list):
        raise TypeError("choices is not a list")
    texts = [choice.get("text") for choice in chat.sorted_choices(reply)]
    return texts[0] if len(texts) == 1 else texts or None
