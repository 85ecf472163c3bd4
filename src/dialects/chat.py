"""OpenAI chat completions, the wire format of most providers.

https://platform.openai.com/docs/api-reference/chat and .../chat-streaming
"""

from collections.abc import Set

from core.json_values import as_object, as_text, drop_empty, object_items
from core.strict_json import JsonObject, JsonValue
from dialects.cost import stated_chat_cost
from dialects.deltas import accumulate, finalize
from dialects.dialect import Dialect
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
from dialects.output_text import has_text
from dialects.reasoning import PART_TYPES, take_reasoning
from dialects.rendering import renderable_message, renderable_request
from dialects.usage import find_usage, merge_usage, usage_counts, usage_metadata


def read_request(body: JsonValue) -> Prompt:
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


def fold(events: list[JsonValue]) -> JsonObject:
    """Merge the chunks of a stream into the `chat.completion` that they represent.

    `events` are the chunks as parsed JSON; those that are not objects are ignored. The result has
    one choice for each `index`, in the order of their first chunks, without log probabilities.
    """
    reply: JsonObject = {}
    choices: dict[int, tuple[JsonObject, JsonObject]] = {}  # each choice, and its message
    messages: dict[int, JsonObject] = {}  # that are sent beside a delta
    for event in events:
        if not isinstance(event, dict):
            continue
        if "choices" not in event:
            event = to_openai(event, "delta")
        update_members(reply, event, except_for={"choices"})
        for piece in object_items(event.get("choices")):
            index = choice_index(piece)
            if index not in choices:
                message: JsonObject = {}
                choices[index] = {"index": index, "message": message}, message
            choice, message = choices[index]
            delta, sent_message = piece.get("delta"), piece.get("message")
            if isinstance(delta, dict):
                accumulate(message, delta)
                if isinstance(sent_message, dict):
                    messages[index] = sent_message
            elif isinstance(sent_message, dict):  # some providers repeat it whole
                message |= drop_empty(sent_message)
            elif "text" in piece:
                accumulate(message, _message_of_text(piece))
            if "content_filter_results" in piece:
                struck = _struck_filters(piece["content_filter_results"])
                if struck:
                    present = as_object(choice.get("content_filter_results"))
                    choice["content_filter_results"] = {**present, **struck}
            update_members(choice, piece, except_for=SEPARATELY_FOLDED)
    for index, sent_message in messages.items():
        choice, message = choices[index]
        choice["message"] = drop_empty(sent_message) | drop_empty(finalize(message))
    return {**reply, "choices": [finalize(choice) for choice, _ in choices.values()]}


# Members of a choice that `fold` merges by itself, or drops, such as `logprobs`.
SEPARATELY_FOLDED = frozenset(
    {"index", "delta", "message", "text", "reasoning", "logprobs", "content_filter_results"}
)


def update_members(whole: JsonObject, piece: JsonObject, except_for: Set[str]) -> None:
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


def is_finished(reply: JsonObject) -> bool:
    """Whether every choice of a reply, as `fold` returns it, has a finish reason, or the reply is
    marked as done (Ollama). False where the reply has no choices."""
    choices = sorted_choices(reply)
    is_done = reply.get("done") is True or all(choice.get("finish_reason") for choice in choices)
    return bool(choices) and is_done


def has_output(event: JsonObject) -> bool:
    """Whether a chunk of a stream has output of the model in it."""
    pieces = object_items(event.get("choices"))
    # Ollama's own chunks have a `message`, Workers AI's a `response`, in place of the choices.
    pieces = pieces or [{"message": event.get("message"), "text": event.get("response")}]
    # The name of a message is the author's (MiniMax), unlike that of a tool call in it.
    messages = [as_object(piece.get(name)) for piece in pieces for name in ("delta", "message")]
    texts = [*(piece.get("text") for piece in pieces), *({**m, "name": ""} for m in messages)]
    return any(map(has_text, texts))


def read_reply(reply: JsonValue) -> Completion:
    """Read the parsed JSON of a whole reply, a `chat.completion`.

    The output is the assistant message, or where the reply has several choices, a list of their
    messages in the order of their `index`. It is None where the reply has no choices.
    """
    if "choices" not in as_object(reply):
        reply = to_openai(as_object(reply), "message")
    return read_openai_reply(reply, output=_output)


def sorted_choices(reply: JsonObject) -> list[JsonObject]:
    """The choices of a reply, ordered by index. Empty where `choices` is missing or not a list."""
    return sorted(object_items(reply.get("choices")), key=choice_index)


def choice_index(choice: JsonObject) -> int:
    """The `index` of a choice. 0 where it is missing or not an integer: providers that support only
    one choice may leave it out."""
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _metadata(reply: JsonObject) -> JsonObject:
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


def read_openai_reply(
    reply: JsonValue,
    *,
    output: FieldReader[JsonValue],
    metadata: FieldReader[JsonObject] = _metadata,
) -> Completion:
    """Read the parsed JSON of a whole reply whose usage, cost and service tier have the form that
    OpenAI's endpoints share. `output` and `metadata` are as for `read_completion`."""
    return read_completion(
        reply,
        output=output,
        metadata=metadata,
        usage=lambda reply: usage_counts(find_usage(reply), reply.get("model")),
        cost=stated_chat_cost,
        parameters=lambda reply: select_parameters(reply, "service_tier"),
    )


# Members of a reply that name the filter which struck, beside the choices: Zhipu's list of roles
# and levels, and MiniMax's flags and types.
_FILTER_MEMBERS = (
    *("content_filter", "input_sensitive", "input_sensitive_type"),
    *("output_sensitive", "output_sensitive_type"),
)


def content_filter(reply: JsonObject, filtered: list[JsonObject]) -> JsonObject:
    """The content filters that struck: by category, those of the parts in `filtered`, and the
    reply's own members."""
    struck: JsonObject = {name: reply.get(name) for name in _FILTER_MEMBERS}
    for part in filtered:
        for category, result in _struck_filters(part.get("content_filter_results")).items():
            if result.get("filtered") or category not in struck:
                struck[category] = result
    return {name: value for name, value in struck.items() if value}


def _struck_filters(results: JsonValue) -> dict[str, JsonObject]:
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


def _output(reply: JsonObject) -> JsonValue:
    messages = choice_messages(reply)
    if not messages:
        return None
    messages[0] |= drop_empty({name: reply.get(name) for name in _SOURCES})
    return messages[0] if len(messages) == 1 else [*messages]


def choice_messages(reply: JsonObject) -> list[JsonObject]:
    """The messages of a reply's choices, in the form that Langfuse renders and in the order of
    their index. A choice of legacy completions is a message with its text as content."""
    if not isinstance(reply["choices"], list):
        raise TypeError("choices is not a list")
    return [
        _message(as_object(choice.get("message")) or _message_of_text(choice))
        for choice in sorted_choices(reply)
    ]


def _message_of_text(choice: JsonObject) -> JsonObject:
    message = {"content": choice.get("text")}
    if "reasoning" in choice:  # OpenRouter's completions
        message["reasoning"] = choice["reasoning"]
    return message


def _message(message: JsonObject) -> JsonObject:
    """The message of a choice, converted to the form that Langfuse renders.

    Reasoning becomes `thinking` and `redacted_thinking`, whichever member the provider sends it in.
    Audio becomes `output_audio` with a placeholder for its data; where there is no other content,
    its transcript or else the placeholder becomes the content. Tool calls are sorted by index, and
    empty members are left out.
    """
    rest = drop_empty(message)
    content = rest.pop("content", None)
    thoughts: list[JsonValue] = []
    if isinstance(content, list):
        content, thoughts = _content(content)
    rest |= take_reasoning(rest, thoughts)
    calls, audio = rest.get("tool_calls"), rest.get("audio")
    if isinstance(calls, list):
        rest["tool_calls"] = sorted(calls, key=_call_index)
    if isinstance(audio, dict):
        # Langfuse reserves the name "audio" for its own media references.
        del rest["audio"]
        output_audio = {name: audio[name] for name in audio if name != "transcript"}
        data = audio.get("data")
        if isinstance(data, str):
            output_audio["data"] = media_placeholder("audio", data)
        rest["output_audio"] = output_audio
        content = content or audio.get("transcript") or output_audio.get("data")
    message = {"role": rest.pop("role", "assistant"), "content": content or None, **rest}
    return renderable_message(message)


def _content(parts: list[JsonValue]) -> tuple[JsonValue, list[JsonValue]]:
    """Split content parts into (content, parts that are reasoning).

    `content` is the list of the other parts, in which consecutive text parts are joined. Where that
    is a single text part, `content` is its text.
    """
    content: list[JsonValue] = []
    thoughts: list[JsonValue] = []
    last: JsonObject = {}
    for part in parts:
        members = as_object(part)
        part_type = members.get("type")
        if part_type in PART_TYPES:
            thoughts.append(part)
        elif part_type == "text" and last.get("type") == "text":
            accumulate(last, {"text": as_text(members.get("text"))})
        else:
            last = dict(members)
            content.append(last if isinstance(part, dict) else part)
    content = finalize(content)
    if len(content) == 1 and as_object(content[0]).keys() == {"type", "text"}:
        return as_object(content[0])["text"], thoughts
    return content, thoughts


def _call_index(call: JsonValue) -> int:
    return choice_index(as_object(call))


DIALECT = Dialect(
    name="chat",
    read_request=read_request,
    read_reply=read_reply,
    fold=fold,
    is_finished=is_finished,
    has_output=has_output,
    has_text_deltas=True,
)
