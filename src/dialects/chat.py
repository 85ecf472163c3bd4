"""OpenAI chat completions, and the many providers that speak its wire format.

https://platform.openai.com/docs/api-reference/chat and .../chat-streaming
"""

from collections.abc import Set
from typing import Any

from dialects import usage
from dialects.deltas import grow, settle
from dialects.media import placeholder
from dialects.shapes import Completion, Prompt, Reader, read_completion, read_prompt, settings
from dialects.values import mapping, objects, present, text, to_json

NAME = "chat"
OBSERVATION_TYPE = "generation"


def read_request(body: Any) -> Prompt:
    """A chat request: its messages, with the tools where there are any."""
    return read_prompt(
        body,
        main="messages",
        beside=("tools", "tool_choice", "functions", "function_call", "prediction", "documents"),
    )


def fold(events: list[Any]) -> dict[str, Any]:
    """The chunks of a stream as one `chat.completion`, its choices kept apart by index."""
    reply: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        keep_members(reply, event, but={"choices"})
        for piece in objects(event.get("choices")):
            index = index_of(piece)
            choice = choices.get(index)
            if choice is None:
                choice = choices[index] = {"index": index, "message": {}}
            delta = piece.get("delta")
            if isinstance(delta, dict):
                grow(choice["message"], delta)
            elif isinstance(piece.get("message"), dict):  # some send the whole as one event
                choice["message"] = piece["message"]
            keep_members(choice, piece, but=NOT_KEPT)
    return {**reply, "choices": [settle(choice) for choice in choices.values()]}


# Members of a choice that grow, or that are not shown.
NOT_KEPT = frozenset({"index", "delta", "message", "text", "logprobs"})


def keep_members(whole: dict[str, Any], piece: dict[str, Any], but: Set[str]) -> None:
    """Let a piece of a stream replace all members of the whole but those named. The last chunk
    may repeat a member as null, and Azure's first one has an empty model: those don't count."""
    for name, value in piece.items():
        if value is not None and name not in but and value != "":
            whole[name] = value


def ended(reply: dict[str, Any]) -> bool:
    """Whether every choice of a folded reply came to its end."""
    choices = choices_of(reply)
    return bool(choices) and all(choice.get("finish_reason") for choice in choices)


def read_reply(reply: Any) -> Completion:
    """A `chat.completion` as one assistant message, or a list of them where n > 1."""
    return read_completion(reply, output=_output, **ABOUT)


def choices_of(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a reply in the order of their index."""
    return sorted(objects(reply.get("choices")), key=index_of)


def index_of(choice: dict[str, Any]) -> int:
    """The index of a choice; a provider with but one choice may leave it out."""
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _metadata(reply: dict[str, Any]) -> dict[str, Any]:
    reasons = [choice.get("finish_reason") for choice in choices_of(reply)]
    return present(
        {
            "finish_reason": reasons[0] if len(reasons) == 1 else reasons if any(reasons) else None,
            "response_id": reply.get("id"),
            "system_fingerprint": reply.get("system_fingerprint"),
            "upstream_provider": reply.get("provider"),  # the one OpenRouter chose
        }
    )


def _usage(reply: dict[str, Any]) -> Any:
    return reply.get("usage") or mapping(reply.get("x_groq")).get("usage")  # Groq's streams


# What legacy completions say about a reply in the same words.
ABOUT: dict[str, Reader] = {
    "metadata": _metadata,
    "usage": lambda reply: usage.openai(_usage(reply)),
    "cost": lambda reply: usage.cost(_usage(reply)),
    "parameters": lambda reply: settings(reply, "service_tier"),
}


def _output(reply: dict[str, Any]) -> Any:
    if not isinstance(reply["choices"], list):
        raise TypeError("choices is not a list")
    messages = [_message(mapping(choice.get("message"))) for choice in choices_of(reply)]
    if len(messages) != 1:
        return messages or None
    # Perplexity's sources stand beside its only choice.
    sources = {name: reply.get(name) for name in ("citations", "search_results")}
    return messages[0] | present(sources)


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """A message in one form, however a provider spelled it; Langfuse renders `thinking` of its
    own, and content in place of an audio's transcript."""
    rest = present(message)
    content, thoughts = rest.pop("content", None), []
    if isinstance(content, list):
        content, thoughts = _content(content)
    for name in ("reasoning_content", "reasoning"):
        if isinstance(rest.get(name), str):
            thoughts.append(rest.pop(name))
    if thoughts:
        # OpenRouter says the same again in parts, vLLM under its older name.
        rest.pop("reasoning_details", None)
        rest["thinking"] = [{"type": "thinking", "content": thoughts[0]}]
    if isinstance(rest.get("tool_calls"), list):
        rest["tool_calls"] = [_tool_call(call) for call in sorted(rest["tool_calls"], key=_order)]
    if isinstance(rest.get("audio"), dict):
        # The name "audio" is for Langfuse's own media references.
        audio = rest.pop("audio")
        content = content or audio.get("transcript")
        rest["output_audio"] = {name: audio[name] for name in audio if name != "transcript"}
        if isinstance(audio.get("data"), str):
            rest["output_audio"]["data"] = placeholder("audio", audio["data"])
    return {"role": rest.pop("role", "assistant"), "content": content or None, **rest}


def _content(parts: list[Any]) -> tuple[Any, list[str]]:
    """Content in parts, as Mistral's thinking models send it, and the thoughts among them. The
    parts of a text are joined; those of another kind stay as they are."""
    content: Any = []
    thoughts: list[str] = []
    for part in parts:
        kind, thought = mapping(part).get("type"), mapping(part).get("thinking")
        if kind == "thinking":
            thoughts += [thought] if isinstance(thought, str) else _texts(thought)
        elif kind == "text" and content and mapping(content[-1]).get("type") == "text":
            content[-1] = {**content[-1], "text": "".join(_texts([content[-1], part]))}
        else:
            content.append(part)
    if len(content) == 1 and mapping(content[0]).keys() == {"type", "text"}:
        content = content[0]["text"]
    return content, ["".join(thoughts)] if thoughts else []


def _texts(parts: Any) -> list[str]:
    return [part["text"] for part in objects(parts) if text(part.get("text"))]


def _order(call: Any) -> int:
    return index_of(mapping(call))


def _tool_call(call: Any) -> Any:
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
