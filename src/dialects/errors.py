"""Errors in the body of a reply, in the forms of all providers.

Many come with the HTTP status 200: a stream has its status before it fails, and some servers and
proxies use no other one.
"""

import re
from typing import NamedTuple, TypeGuard

from core import strict_json
from core.json_values import as_object, as_text, drop_empty, object_items
from core.limits import MAX_ERROR_CHARS, MAX_UNREADABLE_CHARS
from core.strict_json import JsonObject, JsonValue, to_json


class ReplyError(NamedTuple):
    """An error in a reply: `message` is "type: text (details)", cut to `MAX_ERROR_CHARS`, and
    `type` the type alone, None where the error has none."""

    message: str
    type: str | None = None


# Members of an error with its text, in order of preference. FastAPI sends `detail`, Baidu
# `error_msg`, MiniMax `status_msg`, Zhipu's gateway `msg`, AWS `errorMessage` or `Message`.
_TEXTS = (
    *("message", "msg", "error_message", "error_msg", "errorMessage", "error_description"),
    *("status_msg", "detail", "title", "Message"),
)

# Members of an error with its type, its code, and either, in order of preference. AWS sends
# `__type`.
_TYPE_NAMES = ("type", "error_type", "errorType", "__type")
_CODES = ("code", "error_code", "status_code", "statusCode")
_TYPES = (*_TYPE_NAMES, *_CODES, "status")

# Members that identify an error's request, or that add nothing to the text.
_IDS = (
    *("id", "object", "model", "created", "event", "param", "success", "request_id", "requestId"),
    *("trace_id", "sid", "timestamp", "path", "instance", "sequence_number", "statusText"),
)

# An object with no other members may be an error without a member `error`.
_ERROR_MEMBERS = {*_TEXTS, *_TYPES, *_IDS, "errors", "stackTrace"}

# Members with the content of an event, and of an event or a whole reply: an object that has one is
# not a bare error.
_EVENT_MEMBERS = ("choices", "delta", "item", "part", "content_block", "response")
_CONTENT_MEMBERS = {
    *_EVENT_MEMBERS,
    *("content", "output", "data", "embedding", "embeddings", "result", "results"),
}

# An object that is an error has one of these members.
_ERROR_SIGNS = {"error", "errors", "success", "base_resp", "x_groq", *_TEXTS}

_ERROR_TYPE = re.compile(
    r"(?i)error|exception|fail|invalid|denied|unavailable|timeout|not_?found|throttl|quota|exceed"
)
_DIGITS = re.compile(r"[0-9]{1,9}")
_SUCCESS = re.compile(r"(?i)\s*(?:ok|succe\w*|completed?|finish(?:ed)?|normal|done)\W*")

# Finish reasons of a reply that a failure ended. Mistral, OpenRouter and vLLM send `error`, z.AI
# `network_error`, DeepSeek `insufficient_system_resource`, vLLM and SGLang `abort`, Cohere
# `TIMEOUT`, Gemini "function_call_filter: MALFORMED_FUNCTION_CALL", Bedrock `malformed_tool_use`. A
# content filter is not among them: it is an answer that the API documents.
# https://openrouter.ai/docs/api/reference/errors-and-debugging
# https://api-docs.deepseek.com/api/create-chat-completion
# https://docs.z.ai/api-reference/llm/chat-completion
# https://docs.mistral.ai/api/#tag/chat
# https://ai.google.dev/api/generate-content#FinishReason
_FAILURE = re.compile(
    r"(?i)error(?![a-z])"
    r"|(?<![a-z])(?:abort|fail|time_?out|malformed|unexpected|insufficient|too_many|missing)"
)

_PAGE = re.compile(r"(?i)\s*<(?:!doctype|html|head|body|\?xml)\b")
_TITLE = re.compile(r"(?i)<title[^<>]{0,200}>([^<]{1,1000})")
_TAG = re.compile(r"<[^<>]*+>")


def find_error(reply: JsonObject, is_known_format: bool = True) -> ReplyError | None:
    """The error in a whole reply or in an event of a stream, None where there is none.

    It is the member `error`, MiniMax's `base_resp`, Groq's `x_groq.error`, an error or the finish
    reason of a failure in a choice, or the reply itself, such as `{"code": 500, "message": …}`. A
    reply with content is never an error itself. Where `is_known_format` is False, for an endpoint
    without a dialect, one with other members than those of errors is not either.
    """
    stated = reply.get("error") or as_object(reply.get("x_groq")).get("error")
    if _is_stated(stated):
        return _describe_stated(stated, reply)
    status = as_object(reply.get("base_resp"))
    if _is_failure(status.get("status_code")):
        return describe_error(status)
    for choice in object_items(reply.get("choices")):
        stated = choice.get("error") or as_object(choice.get("message")).get("error")
        if _is_stated(stated):
            return describe_error(stated)
        if error := _finish_error(choice.get("finish_reason"), choice):
            return error
    if error := _finish_error(reply.get("stop_reason"), reply):
        return error
    is_response = reply.get("object") == "response" or (is_known_format and "output" in reply)
    if is_response and reply.get("status") == "failed":
        return ReplyError("The response has failed.", "failed")
    return describe_error(reply) if _is_bare_error(reply, is_known_format) else None


def has_content(event: JsonValue) -> bool:
    """Whether an event of a stream has a member for content of the model, or for a part of it."""
    event = as_object(event)
    return any(map(event.get, _EVENT_MEMBERS)) or isinstance(event.get("message"), dict)


def first_error(events: list[JsonValue], is_known_format: bool) -> ReplyError | None:
    """The first error in the events of a stream that have no content. An error beside content
    becomes part of the folded reply.

    Before an event with content, an event with only a `message` is no error: it may be a status.
    """
    last_content = -1
    for position, event in enumerate(events):
        if isinstance(event, list) and len(event) == 1:
            event = event[0]  # Gemini sends an error in a list
        # Nearly all events are passed over here: they have content, or no member of an error.
        if isinstance(event, dict) and (
            "error" in event
            or "base_resp" in event
            or not (event.keys().isdisjoint(_ERROR_SIGNS) or any(map(event.get, _EVENT_MEMBERS)))
        ):
            if is_known_format and last_content < 0:
                found = (p for p in reversed(range(len(events))) if has_content(events[p]))
                last_content = next(found, 0)
            error = find_error(event, is_known_format and position >= last_content)
            if error:
                return error
    return None


def describe_error(error: JsonValue, default_type: str | None = None) -> ReplyError:
    """The error that a JSON value describes: an object with a text, a list of such objects, or a
    text. Any other value is represented by its JSON text.

    What else an object has, such as OpenRouter's `metadata.raw`, Groq's `failed_generation` or
    Azure's `innererror`, is added to the text, since often only this is the reason.
    """
    if object_items(error):
        found = [describe_error(item, default_type) for item in object_items(error)[:3]]
        return ReplyError("; ".join(e.message for e in found)[:MAX_ERROR_CHARS], found[0].type)
    members = drop_empty(as_object(error))
    kind = _first_text(members, _TYPES) or default_type
    text = next((members[name] for name in _TEXTS if name in members), None)
    inner = text if text is not None else members.get("error", members.get("errors"))
    if isinstance(inner, dict) or object_items(inner):
        return describe_error(inner, kind)
    details = _details(members) if text is not None else ""
    message = _to_text(inner or error) + (f" ({details})" if details else "")
    return ReplyError((f"{kind}: {message}" if kind else message)[:MAX_ERROR_CHARS], kind)


def error_in_text(text: str, is_known_format: bool = True) -> ReplyError | None:
    """The error that is sent as a text in place of a reply or an event: a page, JSON, or words.
    None where the text is blank, and for anything but a page where `is_known_format` is False: some
    endpoints reply with a text."""
    text = text.strip()
    if _PAGE.match(text):
        title = _TITLE.search(text[:MAX_UNREADABLE_CHARS])
        words = title[1] if title else _TAG.sub(" ", text[:MAX_UNREADABLE_CHARS])
        page = f"A page in place of a reply: {' '.join(words.split())}"
        return ReplyError(page[:MAX_ERROR_CHARS])
    if not is_known_format:
        return None
    try:
        value = strict_json.parse(text)
    except ValueError:
        return ReplyError(text[:MAX_ERROR_CHARS]) if text else None
    return (find_error(value) if isinstance(value, dict) else None) or describe_error(value)


def _is_stated(error: JsonValue) -> bool:
    """Whether the value of a member `error` is an error. Fine-tuning jobs, for example, always have
    this member, with a null for each of its members."""
    if not isinstance(error, dict):
        return bool(error)
    text = _first_text(error, _TEXTS)
    return any(error.values()) and not (text and _SUCCESS.fullmatch(text))


def _describe_stated(error: JsonValue, reply: JsonObject) -> ReplyError:
    """The error in a reply's member `error`. Where that is no object, text and type may be beside
    it: `{"error": "Bad Request", "message": …, "statusCode": 400}`."""
    if isinstance(error, dict):
        return describe_error(error)
    beside = {name: reply[name] for name in (*_TEXTS, *_TYPES[1:-1]) if reply.get(name)}
    if beside.keys() & _TEXTS:
        return describe_error({"type": as_text(error), **beside})
    return describe_error(error, _first_text(beside, _TYPES))


def _is_bare_error(reply: JsonObject, is_known_format: bool) -> bool:
    """Whether an object without a member `error` is itself an error, as vLLM, DashScope, FastAPI,
    Cloudflare, Baidu and many gateways send them."""
    members = drop_empty(reply)
    if reply.get("success") is False:
        return True
    if members.keys() & _CONTENT_MEMBERS:
        return False
    if "error" in (members.get(name) for name in ("object", "type", "event", "status")):
        return True
    has_only_errors = members.keys() <= _ERROR_MEMBERS
    if (has_only_errors or is_known_format) and isinstance(members.get("errors"), list):
        return reply.get("success") is not True
    texts = {name for name in _TEXTS if name in members}
    text, status = members.get("message", members.get("msg", "")), members.get("status")
    codes = [members[name] for name in _CODES if name in members]
    codes += [status] if isinstance(status, int) else []
    if not texts or not isinstance(text, str):
        return False
    if any(_SUCCESS.fullmatch(as_text(members[name]) or "") for name in texts):
        return False
    if not all(map(_is_failure, codes)):
        return False
    types = (*(members.get(name) for name in _TYPE_NAMES), status)
    if any(isinstance(value, str) and _ERROR_TYPE.search(value) for value in (*types, *codes)):
        return is_known_format or has_only_errors
    if codes:
        # Another text may be a code in another sense, such as source code.
        has_number = any(_is_number(code) for code in codes)
        return is_known_format or (has_only_errors and has_number)
    if members.keys() <= _ERROR_MEMBERS - {*_TYPES, "event"}:
        return is_known_format or not texts <= {"message", "msg", "title", "Message"}
    return False


def _finish_error(reason: JsonValue, members: JsonObject) -> ReplyError | None:
    """The error of a finish reason, None where it is not the reason of a failure. The provider's
    own reason, which OpenRouter sends beside it, is added."""
    if not isinstance(reason, str) or not _FAILURE.search(reason):
        return None
    native = as_text(members.get("native_finish_reason"))
    reasons = f"{reason} ({native})" if native and native != reason else reason
    return ReplyError(f"The finish reason is {reasons}."[:MAX_ERROR_CHARS], reason)


def _is_failure(code: JsonValue) -> bool:
    """Whether a code is that of a failure: any number but 0 and 200 to 299, and any text but words
    such as "success". A text of digits is a number."""
    if isinstance(code, str) and not _is_number(code):
        return bool(code) and not _SUCCESS.fullmatch(code)
    return _is_number(code) and int(code) != 0 and not 200 <= int(code) < 300


def _is_number(code: JsonValue) -> TypeGuard[int | str]:
    return type(code) is int or (isinstance(code, str) and bool(_DIGITS.fullmatch(code)))


def _first_text(members: JsonObject, names: tuple[str, ...]) -> str | None:
    """The first of the named members that has a value, as text. The type "error", which is that of
    all errors, is passed over, and LiteLLM's "None"."""
    empty = (None, "", 0, "error", "None")
    values = (members[name] for name in names if members.get(name) not in empty)
    return next(map(_to_text, values), None)


def _details(members: JsonObject) -> str:
    """The members of an error besides text, type and ids, as "name: text; name: text". Those of an
    object in it are named by their path."""
    details: list[str] = []
    for name in members.keys() - {*_TEXTS, *_TYPES, *_IDS}:
        value = members[name]
        if isinstance(value, dict):
            details += [f"{name}.{inner}: {_to_text(value[inner])}" for inner in drop_empty(value)]
        else:
            details.append(f"{name}: {_to_text(value)}")
    return "; ".join(sorted(details))


def _to_text(value: JsonValue) -> str:
    return value if isinstance(value, str) else to_json(value)
