"""Ollama's and Workers AI's own formats of a chat, converted to OpenAI's.

Both may be sent at OpenAI's paths, where a base URL leads to the server's own API.
https://github.com/ollama/ollama/blob/main/docs/api.md
https://developers.cloudflare.com/workers-ai/features/function-calling/
"""

from core.json_values import as_object, drop_empty
from core.strict_json import JsonObject, to_json

# Members of a reply or an event that become part of its only choice.
_CHOICE_MEMBERS = {"message", "response", "thinking", "tool_calls", "done_reason", "result"}

# An object with one of these members is a message.
_MESSAGE_MEMBERS = {"role", "content", "thinking", "tool_calls"}


def to_openai(reply: JsonObject, member: str) -> JsonObject:
    """A reply without `choices` in OpenAI's form, with one choice, whose message is in `member`:
    "message" for a whole reply, or "delta" for an event of a stream. Unchanged where it has no
    message of either format.

    The message is an object (Ollama) or the text `response` (Ollama, Workers AI). Workers AI may
    put the whole reply into `result`, and gateways into `data` (Cline).
    """
    for wrapper in ("result", "data"):
        inner = as_object(reply.get(wrapper))
        if isinstance(inner.get("choices"), list):
            return {**reply, **inner}
    result = as_object(reply.get("result"))
    members = {**reply, **result}
    message, text = members.get("message"), members.get("response")
    if not (isinstance(message, dict) and message.keys() & _MESSAGE_MEMBERS):
        if text is None and not members.get("tool_calls"):
            return reply
        content = text if isinstance(text, str | None) else to_json(text)  # an object in JSON mode
        others = {name: members.get(name) for name in ("thinking", "tool_calls")}
        message = {"role": "assistant", "content": content, **drop_empty(others)}
    choice: JsonObject = {"index": 0, member: message, "finish_reason": members.get("done_reason")}
    rest = {name: value for name, value in members.items() if name not in _CHOICE_MEMBERS}
    return {**rest, "choices": [choice]}
