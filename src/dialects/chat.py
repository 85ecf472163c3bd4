"""OpenAI chat completions, the wire format of most providers.

https://platform.openai.com/docs/api-reference/chat and .../chat-streaming
"""

from collections.abc import Set
from typing import Any

from core.strict_json import to_json
from dialects.cost import stated_cost
from dialects.deltas import accumulate, finalize
from dialects.fields import (
    Completion,
    FieldReader,
    Prompt,
    read_completion,
    read_prompt,
    select_parameters,
)
from dialects.json_values import as_object, as_text, drop_empty, object_items
from dialects.media import media_placeholder
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
    for event in events:
        if not isinstance(event, dict):
            continue
        update_members(reply, event, except_for={"choices"})
        for piece in object_items(event.get("choices")):
            index = choice_index(piece)
            choice = choices.get(index)
            if choice is None:
                choice = choices[index] = {"index": index, "message": {}}
            delta = piece.get("delta")
            if isinstance(delta, dict):
                accumulate(choice["message"], delta)
            elif isinstance(piece.get("message"), dict):  # some providers send it whole
                choice["message"] = piece["message"]
            update_members(choice, piece, except_for=SEPARATELY_FOLDED)
    return {**reply, "choices": [finalize(choice) for choice in choices.values()]}


# Members of a choice that `fold` merges by itself, or drops, such as `logprobs`.
SEPARATELY_FOLDED = frozenset({"index", "delta", "message", "text", "logprobs"})


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
    """Whether every choice of a reply, as `fold` returns it, has a finish reason. False where the
    reply has no choices."""
    choices = sorted_choices(reply)
    return bool(choices) and all(choice.get("finish_reason") for choice in choices)


def read_reply(reply: Any) -> Completion:
    """Read the parsed JSON of a whole reply, a `chat.completion`.

    The output is the assistant message, or where the reply has several choices, a list of their
    messages in the order of their `index`. It is None where the reply has no choices.
    """
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
    reasons = [choice.get("finish_reason") for choice in sorted_choices(reply)]
    return drop_empty(
        {
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
    "cost": lambda reply: stated_cost(find_usage(reply)),
    "parameters": lambda reply: select_parameters(reply, "service_tier"),
}


def _output(reply: dict[str, Any]) -> Any:
    if not isinstance(reply["choices"], list):
        raise TypeError("choices is not a list")
    messages = [_message(as_object(choice.get("message"))) for choice in sorted_choices(reply)]
    if len(messages) != 1:
        return messages or None
    # Perplexity sends its sources beside the choices, of which it has only one.
    sources = {name: reply.get(name) for name in ("citations", "search_results")}
    return messages[0] | drop_empty(sources)


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """The message of a choice, converted to the form that Langfuse renders.

    Reasoning becomes `thinking`, whichever member the provider sends it in. Audio becomes
    `output_audio` with a placeholder for its data; where there is no other content, its transcript
    or else the placeholder becomes the content. Tool calls are sorted by index, and empty members
    are left out.
    """
    rest = drop_empty(message)
    content, thoughts = rest.pop("content", None), []
    if isinstance(content, list):
        content, thoughts = _content(content)
    for name in ("reasoning_content", "reasoning"):
        if isinstance(rest.get(name), str):
            thoughts.append(rest.pop(name))
    if thoughts:
        # OpenRouter repeats the same reasoning in parts, vLLM under an older name.
        rest.pop("reasoning_details", None)
        rest["thinking"] = [{"type": "thinking", "content": thoughts[0]}]
    if isinstance(rest.get("tool_calls"), list):
        rest["tool_calls"] = [
            _tool_call(call) for call in sorted(rest["tool_calls"], key=_call_index)
        ]
    if isinstance(rest.get("audio"), dict):
        # Langfuse reserves the name "audio" for its own media references.
        audio = rest.pop("audio")
        rest["output_audio"] = {name: audio[name] for name in audio if name != "transcript"}
        if isinstance(audio.get("data"), str):
            rest["output_audio"]["data"] = media_placeholder("audio", audio["data"])
        content = content or audio.get("transcript") or rest["output_audio"].get("data")
    message = {"role": rest.pop("role", "assistant"), "content": content or None, **rest}
    return renderable_message(message)


def _content(parts: list[Any]) -> tuple[Any, list[str]]:
    """Split content parts, as Mistral's thinking models send them, into (content, thoughts).

    `content` is the list of the parts without thoughts, in which consecutive text parts are joined.
    Where that is a single text part, `content` is its text. `thoughts` is a list of one text, which
    joins all thoughts, or empty.
    """
    content: Any = []
    thoughts: list[str] = []
    for part in parts:
        part_type, thought = as_object(part).get("type"), as_object(part).get("thinking")
        if part_type == "thinking":
            thoughts += [thought] if isinstance(thought, str) else _part_texts(thought)
        elif part_type == "text" and content and as_object(content[-1]).get("type") == "text":
            content[-1] = {**content[-1], "text": "".join(_part_texts([content[-1], part]))}
        else:
            content.append(part)
    if len(content) == 1 and as_object(content[0]).keys() == {"type", "text"}:
        content = content[0]["text"]
    return content, ["".join(thoughts)] if thoughts else []


def _part_texts(parts: Any) -> list[str]:
    """The `text` of each content part that has one. Empty where `parts` is not a list."""
    return [part["text"] for part in object_items(parts) if as_text(part.get("text"))]


def _call_index(call: Any) -> int:
    return choice_index(as_object(call))


def _tool_call(call: Any) -> Any:
    """A tool call without its `index`, and with the arguments of a function as text.

    Arguments that are not a string become JSON text; missing ones become "". A value that is not an
    object is returned unchanged.
    """
    if not isinstance(call, dict):
        return call
    call = {name: value for name, value in call.items() if name != "index"}
    function = call.get("function")
    if isinstance(function, dict):
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else to_json(arguments)
        call |= {"type": "function", "function": {**function, "arguments": arguments}}
    return call
