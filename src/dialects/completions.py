"""OpenAI's legacy completions.

https://platform.openai.com/docs/api-reference/completions
"""

from core.json_values import as_object
from core.strict_json import JsonObject, JsonValue
from dialects import chat
from dialects.dialect import Dialect
from dialects.fields import Completion, Prompt, read_prompt
from dialects.native_chat import to_openai


def read_request(body: JsonValue) -> Prompt:
    """Read the parsed JSON body of a completion request.

    The input is the prompt: a string, a list of strings, or token ids. Where the request has a
    `suffix`, the input is an object of `prompt` and `suffix`.
    """
    return read_prompt(body, input_field="prompt", extra_input_fields=("suffix",))


def read_reply(reply: JsonValue) -> Completion:
    """Read the parsed JSON of a whole reply, a `text_completion`.

    The output is the text of the choice, or where the reply has several choices, a list of their
    texts in the order of their `index`. It is None where the reply has no choices. Where the
    request had set `echo`, the provider repeats the prompt before each text; it is not removed.
    A choice with more than a text, such as reasoning, is a message as in a chat.
    """
    if "choices" not in as_object(reply):
        reply = to_openai(as_object(reply), "message")
    return chat.read_openai_reply(reply, output=_output)


def _output(reply: JsonObject) -> JsonValue:
    messages = chat.choice_messages(reply)
    texts: list[JsonValue] = [
        message["content"] or "" if message.keys() == {"role", "content"} else message
        for message in messages
    ]
    return texts[0] if len(texts) == 1 else texts or None


# A folded choice has a message with its text as content, as in a chat, whose chunks some servers
# send here.
DIALECT = Dialect(
    name="completion",
    read_request=read_request,
    read_reply=read_reply,
    fold=chat.fold,
    is_finished=chat.is_finished,
    has_output=chat.has_output,
)
