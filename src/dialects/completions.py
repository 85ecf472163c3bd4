"""OpenAI's legacy completions.

https://platform.openai.com/docs/api-reference/completions
"""

from typing import Any

from core.json_values import as_object
from dialects import chat
from dialects.fields import Completion, Prompt, read_completion, read_prompt
from dialects.native_chat import to_openai

NAME = "completion"

OBSERVATION_TYPE = "generation"


def read_request(body: Any) -> Prompt:
    """Read the parsed JSON body of a completion request.

    The input is the prompt: a string, a list of strings, or token ids. Where the request has a
    `suffix`, the input is an object of `prompt` and `suffix`.
    """
    return read_prompt(body, input_field="prompt", extra_input_fields=("suffix",))


def fold(events: list[Any]) -> dict[str, Any]:
    """Merge the chunks of a stream into the whole reply that they represent. Each choice has a
    message with its text as content, as in a chat, whose chunks some servers send here."""
    return chat.fold(events)


def is_finished(reply: dict[str, Any]) -> bool:
    """Whether every choice of a reply, as `fold` returns it, has a finish reason. False where the
    reply has no choices."""
    return chat.is_finished(reply)


def read_reply(reply: Any) -> Completion:
    """Read the parsed JSON of a whole reply, a `text_completion`.

    The output is the text of the choice, or where the reply has several choices, a list of their
    texts in the order of their `index`. It is None where the reply has no choices. Where the
    request had set `echo`, the provider repeats the prompt before each text; it is not removed.
    A choice with more than a text, such as reasoning, is a message as in a chat.
    """
    if "choices" not in as_object(reply):
        reply = to_openai(as_object(reply), "message")
    return read_completion(reply, output=_output, **chat.COMMON_READERS)


def _output(reply: dict[str, Any]) -> Any:
    messages = chat.choice_messages(reply)
    texts = [
        message["content"] or "" if message.keys() == {"role", "content"} else message
        for message in messages
    ]
    return texts[0] if len(texts) == 1 else texts or None
