"""OpenAI chat completions, the wire format of most providers.

https://platform.openai.com/docs/api-reference/chat and .../chat-streaming
"""

from collections.abc import Set
from typing import Any

from core.json_values import as_object, as_text, drop_empty, object_items
from dialects.cost import stated_chat_cost
from dialects.deltas import accumulate, finalize
from dialects.fields import (
    Completion,
    FieldReader,
    Prompt,
    read_completion,
    read_prompt,
    select_parameters,
)
from dialects.media import media_placeholder
from dialects.native_chat import to_openai
from dialects.reasoning import PART_TYPES, take_reasoning
from dialects.rendering import renderable_message, renderable_request
from dialects.usage import find_usage, merge_usage, usage_counts, usage_metadata

NAME = "chat"

OBSERVATION_TYPE = "generation"


def read_request(body: Any) -> Prompt:
    """Read the parsed JSON body of a chat request.

    The input is the list of messages. Where the request has tools or another of the members below,
    the input is an object of these members and `messages`.
    """
    return read_prompt(
        body,
        input_field="messages",
        extra_input_fields=(
            "tools",
            "tool_choice",
            "functions",
            "function_call",
            "prediction",
            "documents",
            "prompt",  # OpenRouter accepts it in place of messages
        ),
        normalize=renderable_request,
    )


def fold(events: list[Any]) -> dict[str, Any]:
    """Merge the chunks of a stream into the `chat.completion` that they represent.

    `events` are the chunks as parsed JSON; those that are not objects are ignored. The result has
    one choice for each `index`, in the order of their first chunks, without log probabilities.
    """
    reply: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    messages: dict[int, dict[str, Any]] = {}  # that are sent beside a delta
    for event in events:
        if not isinstance(event, dict):
            continue
        if "choices" not in event:
            event = to_openai(event, "delta")
        update_members(reply, event, except_for={"choices"})
        for piece in object_items(event.get("choices")):
            index = choice_index(piece)
            choice = choices.get(index)
            if choice is None:
                choice = choices[index] = {"index": index, "message": {}}
            delta, message = piece.get("delta"), piece.get("message")
            if isinstance(delta, dict):
                accumulate(choice["message"], delta)
                if isinstance(message, dict):
                    messages[index] = message
            elif isinstance(message, dict):  # some providers repeat it whole
                choice["message"] |= drop_empty(message)
            elif "text" in piece:
                accumulate(choice["message"], _message_of_text(piece))
            if "content_filter_results" in piece:
                struck = _struck_filters(piece["content_filter_results"])
                choice.setdefault("content_filter_results", {}).update(struck)
            update_members(choice, piece, except_for=SEPARATELY_FOLDED)
    for index, message in messages.items():
        deltas = finalize(choices[index]["message"])
        choices[index]["message"] = drop_empty(message) | drop_empty(deltas)
    return {**reply, "choices": [finalize(choice) for choice in choices.values()]}


# Members of a choice that `fold` merges by itself, or drops, such as `logprobs`.
SEPARATELY_FOLDED = frozenset(
    {"index", "delta", "message", "text", "reasoning", "logprobs", "content_filter_results"}
)


def update_members(whole: dict[str, Any], piece: dict[str, Any], except_for: Set[str]) -> None:
    """Copy the members of `piece` to `whole`, in place, except for those named in `except_for`.

    `piece` is a chunk of a stream or a choice in it. None and "" are not copied: the last chunk may
    repeat a member as null, and Azure's first chunk has an empty model. A usage is merged with the
    present one, by `merge_usage`.
    """
    usage = whole.get("usage")
    for name, value in piece.items():
        if value is not None and name not in except_for and value != "":
            whole[name] = value
    if usage:
        whole["usage"] = merge_usage(usage, piece.get("usage"))


def is_finished(reply: dict[str, Any]) -> bool:
    """Whether every choice of a reply, as `fold` returns it, has a finish reason, or the reply is
    marked as done (Ollama). False where the reply has no choices."""
    choices = sorted_choices(reply)
    is_done = reply.get("done") is True or all(choice.get("finish_reason") for choice in choices)
    return bool(choices) and is_done


def read_reply(reply: Any) -> Completion:
    """Read the parsed JSON of a whole reply, a `chat.completion`.

    The output is the assistant message, or where the reply has several choices, a list of their
    messages in the order of their `index`. It is None where the reply has no choices.
    """
    if "choices" not in as_object(reply):
        reply = to_openai(as_object(reply), "message")
    return read_completion(reply, output=_output, **COMMON_READERS)


def sorted_choices(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a reply, ordered by index. Empty where `choices` is missing or not a list."""
    return sorted(object_items(reply.get("choices")), key=choice_index)


def choice_index(choice: dict[str, Any]) -> int:
    """The `index` of a choice. 0 where it is missing or not an integer: providers that support only
    one choice may leave it out."""
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _metadata(reply: dict[str, Any]) -> dict[str, Any]:
    choices = sorted_choices(reply)
    reasons = [choice.get("finish_reason") for choice in choices]
    return drop_empty(
        {
            "content_filter": content_filter(
                reply, [*object_items(reply.get("prompt_filter_results")), *choices]
            ),
            "finish_reason": reasons[0] if len(reasons) == 1 else reasons if any(reasons) else None,
            "response_id": reply.get("id"),
            "system_fingerprint": reply.get("system_fingerprint"),
            "upstream_provider": reply.get("provider"),  # the one that OpenRouter chose
            **usage_metadata(find_usage(reply)),
        }
    )


# Arguments of `read_completion` for the fields that several of OpenAI's endpoints share.
COMMON_READERS: dict[str, FieldReader] = {
    "metadata": _metadata,
    "usage": lambda reply: usage_counts(find_usage(reply), reply.get("model")),
    "cost": stated_chat_cost,
    "parameters": lambda reply: select_parameters(reply, "service_tier"),
}


# Members of a reply that name the filter which struck, beside the choices: Zhipu's list of roles
# and levels, and MiniMax's flags and types.
_FILTER_MEMBERS = (
    *("content_filter", "input_sensitive", "input_sensitive_type"),
    *("output_sensitive", "output_sensitive_type"),
)


def content_filter(reply: dict[str, Any], filtered: list[dict[str, Any]]) -> dict[str, Any]:
    """The content filters that struck: by category, those of the parts in `filtered`, and the
    reply's own members."""
    struck = {name: reply.get(name) for name in _FILTER_MEMBERS}
    for part in filtered:
        for category, result in _struck_filters(part.get("content_filter_results")).items():
            if result.get("filtered") or category not in struck:
                struck[category] = result
    return {name: value for name, value in struck.items() if value}


def _struck_filters(results: Any) -> dict[str, Any]:
    """Azure's results of content filters, by category: only those that filtered or detected
    something, and the error of a filter that could not run.
    https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter-annotations"""
    return {
        category: result
        for category, result in as_object(results).items()
        if isinstance(result, dict)
        and (category == "error" or result.get("filtered") or result.get("detected"))
    }


# Members beside the choices with what the answer is based on, or belongs to: of Perplexity, xAI,
# Zhipu, DashScope and Doubao.
_SOURCES = (
    *("citations", "search_results", "related_questions", "images", "videos"),
    *("web_search", "search_info", "references"),
)


def _output(reply: dict[str, Any]) -> Any:
    messages = choice_messages(reply)
    if not messages:
        return None
    messages[0] |= drop_empty({name: reply.get(name) for name in _SOURCES})
    return messages[0] if len(messages) == 1 else messages


def choice_messages(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a reply's choices, in the form that Langfuse renders and in the order of
    their index. A choice of legacy completions is a message with its text as content."""
    if not isinstance(reply["choices"], list):
        raise TypeError("choices is not a list")
    return [
        _message(as_object(choice.get("message")) or _message_of_text(choice))
        for choice in sorted_choices(reply)
    ]


def _message_of_text(choice: dict[str, Any]) -> dict[str, Any]:
    message = {"content": choice.get("text")}
    if "reasoning" in choice:  # OpenRouter's completions
        message["reasoning"] = choice["reasoning"]
    return message


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """The message of a choice, converted to the form that Langfuse renders.

    Reasoning becomes `thinking` and `redacted_thinking`, whichever member the provider sends it in.
    Audio becomes `output_audio` with a placeholder for its data; where there is no other content,
    its transcript or else the placeholder becomes the content. Tool calls are sorted by index, and
    empty members are left out.
    """
    rest = drop_empty(message)
    content, thoughts = rest.pop("content", None), []
    if isinstance(content, list):
        content, thoughts = _content(content)
    rest |= take_reasoning(rest, thoughts)
    if isinstance(rest.get("tool_calls"), list):
        rest["tool_calls"] = sorted(rest["tool_calls"], key=_call_index)
    if isinstance(rest.get("audio"), dict):
        # Langfuse reserves the name "audio" for its own media references.
        audio = rest.pop("audio")
        rest["output_audio"] = {name: audio[name] for name in audio if name != "transcript"}
        if isinstance(audio.get("data"), str):
            rest["output_audio"]["data"] = media_placeholder("audio", audio["data"])
        content = content or audio.get("transcript") or rest["output_audio"].get("data")
    message = {"role": rest.pop("role", "assistant"), "content": content or None, **rest}
    return renderable_message(message)


def _content(parts: list[Any]) -> tuple[Any, list[Any]]:
    """Split content parts into (content, parts that are reasoning).

    `content` is the list of the other parts, in which consecutive text parts are joined. Where that
    is a single text part, `content` is its text.
    """
    content: Any = []
    thoughts: list[Any] = []
    for part in parts:
        part_type = as_object(part).get("type")
        if part_type in PART_TYPES:
            thoughts.append(part)
        elif part_type == "text" and content and as_object(content[-1]).get("type") == "text":
            accumulate(content[-1], {"text": as_text(part.get("text"))})
        else:
            content.append(dict(part) if isinstance(part, dict) else part)
    content = finalize(content)
    if len(content) == 1 and as_object(content[0]).keys() == {"type", "text"}:
        content = content[0]["text"]
    return content, thoughts


def _call_index(call: Any) -> int:
    return choice_index(as_object(call))
