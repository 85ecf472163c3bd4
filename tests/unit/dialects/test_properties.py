"""Property tests of all dialects: streamed and whole replies are equal, and nothing raises."""

import dataclasses
import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import strict_json
from dialects import chat, completions, embeddings, generic, messages, responses
from dialects.fields import Completion, Prompt
from dialects.registry import read_reply, read_request

# Ten thousand examples of a property take minutes.
pytestmark = pytest.mark.timeout(1800)

TEXT = st.text(max_size=30) | st.text('ab😀"\\\n data:{}[]', max_size=30)
SOME_TEXT = TEXT.filter(bool)
NAME = st.text("abcdefgh_", min_size=1, max_size=8)
COUNT = st.integers(0, 1000)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
FINISH = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
OPENAI_USAGE = st.fixed_dictionaries(
    {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    optional={
        "prompt_tokens_details": st.dictionaries(
            st.sampled_from(["cached_tokens", "audio_tokens"]), COUNT
        ),
        "completion_tokens_details": st.dictionaries(
            st.sampled_from(["reasoning_tokens", "audio_tokens"]), COUNT
        ),
        "cost": st.floats(0, 10),
    },
)


def split_text(draw: st.DrawFn, text: str) -> list[str]:
    """A text in random chunks, split at any UTF-16 code unit, as JavaScript servers do."""
    data = text.encode("utf-16-le")
    positions = draw(st.lists(st.integers(0, len(data) // 2), max_size=4))
    ends = [0, *sorted(2 * position for position in positions), len(data)]
    return [
        data[start:end].decode("utf-16-le", "surrogatepass")
        for start, end in itertools.pairwise(ends)
    ]


def encode_stream(draw: st.DrawFn, events: list[Any], has_done: bool) -> bytes:
    """The events as a body, with random line endings, comments and other fields."""
    line_ending = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines: list[str] = []
    for event in events:
        if draw(st.integers(0, 9)) == 0:
            lines += draw(st.sampled_from([[": ping"], [""], [": a", ""], ["id: 1"]]))
        if isinstance(event, dict) and isinstance(event.get("type"), str):
            lines.append(f"event: {event['type']}")
        lines += ["data: " + json.dumps(event), ""]
    if has_done:
        lines += ["data: [DONE]", ""]
    return line_ending.join([*lines, ""]).encode()


def interleave(draw: st.DrawFn, rows: list[list[Any]]) -> list[Any]:
    """The items of all rows in random order, while the items of each row keep their order."""
    order = draw(st.permutations([n for n, row in enumerate(rows) for _ in row]))
    iterators = [iter(row) for row in rows]
    return [next(iterators[n]) for n in order]


# --- OpenAI chat

TOOL_CALL = st.fixed_dictionaries(
    {
        "id": NAME,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": NAME, "arguments": TEXT}),
    }
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXT},
    optional={
        "refusal": st.none() | TEXT,
        "reasoning_content": TEXT,
        "tool_calls": st.lists(TOOL_CALL, max_size=3, unique_by=lambda call: str(call["id"])),
        "function_call": st.fixed_dictionaries({"name": NAME, "arguments": TEXT}),
        "annotations": st.lists(st.fixed_dictionaries({"type": NAME, "url": TEXT}), max_size=2),
    },
)


def chat_deltas(draw: st.DrawFn, message: dict[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": draw(st.sampled_from([None, ""]))}
    ]
    for name in ("reasoning_content", "content", "refusal"):
        deltas += [{name: chunk} for chunk in split_text(draw, message.get(name) or "")]
    for index, call in enumerate(message.get("tool_calls", [])):
        function = {"name": call["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{**call, "index": index, "function": function}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": chunk}}]}
            for chunk in split_text(draw, call["function"]["arguments"])
        ]
    if "function_call" in message:
        deltas.append({"function_call": {**message["function_call"], "arguments": ""}})
        arguments = message["function_call"]["arguments"]
        deltas += [{"function_call": {"arguments": chunk}} for chunk in split_text(draw, arguments)]
    return deltas + [{"annotations": [note]} for note in message.get("annotations", [])]


@st.composite
def chat_replies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    base = {"id": draw(NAME), "created": 1, "model": draw(NAME)}
    base |= draw(st.fixed_dictionaries({}, optional={"service_tier": NAME, "provider": NAME}))
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": draw(FINISH)}
        for index, message in enumerate(draw(st.lists(MESSAGE, min_size=1, max_size=3)))
    ]
    usage = draw(st.fixed_dictionaries({}, optional={"usage": OPENAI_USAGE}))
    rows = [
        [
            {**base, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]}
            for delta in chat_deltas(draw, choice["message"])
        ]
        + [
            {
                **base,
                "choices": [
                    {
                        "index": choice["index"],
                        "delta": {},
                        "finish_reason": choice["finish_reason"],
                    }
                ],
            }
        ]
        for choice in choices
    ]
    events = interleave(draw, rows)
    if usage:
        events.append({**base, "choices": [], **usage})
    whole = {**base, "choices": draw(st.permutations(choices)), **usage}
    return encode_stream(draw, events, draw(st.booleans())), json.dumps(whole).encode()


# --- legacy completions


@st.composite
def completion_replies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    base = {"id": draw(NAME), "model": draw(NAME)}
    choices = [
        {"index": index, "text": text, "logprobs": None, "finish_reason": draw(FINISH)}
        for index, text in enumerate(draw(st.lists(TEXT, min_size=1, max_size=3)))
    ]
    rows = [
        [
            {**base, "choices": [{"index": choice["index"], "text": chunk, "finish_reason": None}]}
            for chunk in split_text(draw, choice["text"])
        ]
        + [{**base, "choices": [{**choice, "text": ""}]}]
        for choice in choices
    ]
    usage = draw(st.fixed_dictionaries({}, optional={"usage": OPENAI_USAGE}))
    events = interleave(draw, rows) + ([{**base, "choices": [], **usage}] if usage else [])
    whole = {**base, "choices": choices, **usage}
    return encode_stream(draw, events, draw(st.booleans())), json.dumps(whole).encode()


# --- Anthropic messages

BLOCK = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("text"), "text": TEXT},
        optional={"citations": st.none() | st.lists(st.dictionaries(NAME, TEXT), max_size=2)},
    ),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": TEXT, "signature": TEXT}),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": TEXT}),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["tool_use", "server_tool_use"]),
            "id": NAME,
            "name": NAME,
            "input": st.dictionaries(TEXT, JSON, max_size=3),
        }
    ),
    st.fixed_dictionaries({"type": st.just("web_search_tool_result"), "content": JSON}),
    st.fixed_dictionaries({"type": st.just("of_tomorrow"), "value": JSON}),
)
DELTA_TYPE_BY_MEMBER = {
    "text": "text_delta",
    "thinking": "thinking_delta",
    "signature": "signature_delta",
}


def block_events(draw: st.DrawFn, index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    started, deltas = dict(block), []
    for name, delta_type in DELTA_TYPE_BY_MEMBER.items():
        if name in block:
            started[name] = ""
            deltas += [{"type": delta_type, name: chunk} for chunk in split_text(draw, block[name])]
    if block.get("citations"):
        started["citations"] = []
        deltas += [{"type": "citations_delta", "citation": note} for note in block["citations"]]
    if "input" in block:
        started["input"] = {}
        arguments = json.dumps(block["input"], ensure_ascii=draw(st.booleans()))
        if block["input"] or draw(st.booleans()):
            deltas += [
                {"type": "input_json_delta", "partial_json": chunk}
                for chunk in split_text(draw, arguments)
            ]
    return [
        {"type": "content_block_start", "index": index, "content_block": started},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


@st.composite
def message_replies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    counts = draw(
        st.fixed_dictionaries(
            {"input_tokens": COUNT, "output_tokens": COUNT},
            optional={
                "cache_read_input_tokens": COUNT,
                "cache_creation_input_tokens": COUNT,
                "cache_creation": st.dictionaries(
                    st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]),
                    COUNT,
                ),
                "service_tier": NAME,
            },
        )
    )
    base = {"id": draw(NAME), "type": "message", "role": "assistant", "model": draw(NAME)}
    end = {"stop_reason": draw(NAME), "stop_sequence": draw(st.none() | SOME_TEXT)}
    content = draw(st.lists(BLOCK, max_size=4))
    rows = [block_events(draw, index, block) for index, block in enumerate(content)]
    started = {**base, "content": [], "stop_reason": None, "usage": {**counts, "output_tokens": 1}}
    events = [
        {"type": "message_start", "message": started},
        {"type": "ping"},
        *interleave(draw, rows),
        {
            "type": "message_delta",
            "delta": end,
            "usage": {"output_tokens": counts["output_tokens"]},
        },
        {"type": "message_stop"},
    ]
    whole = {**base, "content": content, **end, "usage": counts}
    return encode_stream(draw, events, has_done=False), json.dumps(whole).encode()


# --- Responses

OUTPUT_PART = st.one_of(
    st.fixed_dictionaries({"type": st.just("output_text"), "text": TEXT}),
    st.fixed_dictionaries({"type": st.just("refusal"), "refusal": TEXT}),
)
ITEM = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("message"),
            "role": st.just("assistant"),
            "content": st.lists(OUTPUT_PART, max_size=2),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("reasoning"),
            "summary": st.lists(
                st.fixed_dictionaries({"type": st.just("summary_text"), "text": TEXT}), max_size=2
            ),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("function_call"), "call_id": NAME, "name": NAME, "arguments": TEXT}
    ),
    st.fixed_dictionaries(
        {"type": st.just("custom_tool_call"), "call_id": NAME, "name": NAME, "input": TEXT}
    ),
    st.fixed_dictionaries({"type": st.just("web_search_call"), "action": JSON}),
)


def item_events(draw: st.DrawFn, index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    position = {"output_index": index, "item_id": f"item_{index}"}
    started = {**item}
    events: list[dict[str, Any]] = []
    for name, event_type in (
        ("arguments", "response.function_call_arguments.delta"),
        ("input", "response.custom_tool_call_input.delta"),
    ):
        if name in item:
            started[name] = ""
            events += [
                {"type": event_type, **position, "delta": chunk}
                for chunk in split_text(draw, item[name])
            ]
    for part_index, part in enumerate(item.get("content", [])):
        name = "text" if "text" in part else "refusal"
        event_type = f"response.{part['type']}.delta"
        events += [
            {"type": event_type, **position, "content_index": part_index, "delta": chunk}
            for chunk in split_text(draw, part[name])
        ]
    for part_index, part in enumerate(item.get("summary", [])):
        events += [
            {
                "type": f"response.reasoning_{part['type']}.delta",
                **position,
                "summary_index": part_index,
                "delta": chunk,
            }
            for chunk in split_text(draw, part["text"])
        ]
    for name in ("content", "summary"):
        if name in item:
            started[name] = []
    done = {"type": "response.output_item.done", **position, "item": item}
    return [
        {"type": "response.output_item.added", **position, "item": started},
        *events,
        *([done] if draw(st.booleans()) else []),
    ]


@st.composite
def response_replies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    items = draw(st.lists(ITEM, max_size=4))
    usage = {"input_tokens": draw(COUNT), "output_tokens": draw(COUNT)}
    whole = {"id": draw(NAME), "status": "completed", "model": draw(NAME), "output": items}
    whole |= {"usage": usage, "service_tier": "default", "error": None}
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    final = draw(st.sampled_from([whole, {**whole, "output": []}]))
    events = [
        {"type": "response.created", "response": started},
        *interleave(draw, [item_events(draw, index, item) for index, item in enumerate(items)]),
        {"type": "response.completed", "response": final},
    ]
    return encode_stream(draw, events, has_done=False), json.dumps(whole).encode()


REPLIES = {
    "/v1/chat/completions": chat_replies(),
    "/v1/completions": completion_replies(),
    "/v1/messages": message_replies(),
    "/v1/responses": response_replies(),
}


@pytest.mark.parametrize("path", REPLIES)
@given(data=st.data())
def test_a_streamed_reply_gives_the_same_completion_as_the_whole_one(
    path: str, data: st.DataObject
) -> None:
    streamed, whole = data.draw(REPLIES[path])
    from_stream = read_reply(path, streamed, "text/event-stream", complete=True)
    from_whole = read_reply(path, whole, "application/json", complete=True)
    assert from_stream == dataclasses.replace(from_whole, is_streamed=True)
    assert from_whole.is_finished
    assert from_whole.notes == ()


# --- nothing ever raises

WORDS = re.findall(
    r"[\w.]+",
    """choices delta message content role index finish_reason text type tool_calls function
    arguments id name usage prompt_tokens prompt_tokens_details cached_tokens total_tokens model
    error code messages tools system input instructions output item output_index content_index
    summary part thinking tool_use tool_result content_block content_block_start
    content_block_delta message_start message_delta input_json_delta partial_json citations
    citation stop_reason response response.created response.output_text.delta
    response.output_item.added response.completed response.output_text.annotation.added
    annotation data embedding object metadata user audio transcript reasoning_content reasoning
    function_call x_groq cost service_tier status events source base64 media_type result
    image_generation_call format prompt stream tool_choice mcp_servers headers input_schema
    parameters output_config image_url""",
)
WORD = st.sampled_from(WORDS)
WIRE_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | WORD | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORD, inner, max_size=5),
    max_leaves=25,
)
WIRE_OBJECT = st.dictionaries(WORD, WIRE_VALUE, max_size=6)
PATH = st.sampled_from([*REPLIES, "/v1/embeddings", "/other"])


def check_fields(fields: Prompt | Completion) -> None:
    """Check that all fields have the declared types and can be serialised."""
    json.dumps(dataclasses.asdict(fields), allow_nan=False, ensure_ascii=False).encode()
    for value in fields.parameters.values():
        assert isinstance(value, str | int | float | list)
        assert not isinstance(value, list) or all(isinstance(item, str) for item in value)
    if isinstance(fields, Completion):
        assert all(type(count) is int and count >= 0 for count in fields.usage.values())
        assert fields.error is None or isinstance(fields.error, str)
    assert fields.model is None or isinstance(fields.model, str)


@given(path=PATH, body=WIRE_OBJECT | WIRE_VALUE)
def test_any_json_request_is_read(path: str, body: Any) -> None:
    text = json.dumps(body)
    prompt = read_request(path, text.encode())
    check_fields(prompt)
    # A value that was parsed before is read the same way, and not changed.
    value = strict_json.parse(text)
    assert read_request(path, text.encode(), value=value) == prompt
    assert value == strict_json.parse(text)


@given(path=PATH, reply=WIRE_OBJECT | WIRE_VALUE)
def test_any_json_reply_is_read(path: str, reply: Any) -> None:
    check_fields(read_reply(path, json.dumps(reply).encode(), "application/json", True))


@given(path=PATH, events=st.lists(WIRE_OBJECT | WIRE_VALUE, max_size=6))
def test_any_stream_of_json_events_is_read(path: str, events: list[Any]) -> None:
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
    check_fields(read_reply(path, body, "text/event-stream", True))


@given(path=PATH, body=st.binary(), streamed=st.booleans(), complete=st.booleans())
def test_any_bytes_are_read(path: str, body: bytes, streamed: bool, complete: bool) -> None:
    check_fields(read_request(path, body))
    content_type = "text/event-stream" if streamed else "application/json"
    check_fields(read_reply(path, body, content_type, complete))


@given(events=st.lists(WIRE_OBJECT | WIRE_VALUE, max_size=6))
def test_each_dialect_folds_and_reads_any_events(events: list[Any]) -> None:
    """The dialects themselves, without the registry, which catches their exceptions."""
    for module in (chat, completions, messages, embeddings, responses, generic):
        dialect = module.DIALECT
        dialect.read_reply(dialect.fold(events))
        for event in events:
            dialect.read_reply(event)
            dialect.read_request(event)
