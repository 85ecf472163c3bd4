"""Tests of `merge_text_deltas`: merging events before they are parsed changes no completion."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects import registry
from dialects.deltas import merge_text_deltas
from dialects.registry import read_reply

TEXT = st.sampled_from([None, "", "a", " b", 'c"', "\\", "\n", "é", "\ud83d", "\ude00", "{", "]}"])
TOOL_CALL = st.fixed_dictionaries(
    {"index": st.integers(0, 1), "function": st.fixed_dictionaries({"arguments": TEXT})},
    optional={"id": st.just("c")},
)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("content", "reasoning", "refusal"), TEXT),
        "role": st.sampled_from(["assistant", "", None]),
        "tool_calls": st.lists(TOOL_CALL, max_size=2),
    },
)
TEXT_DELTA = st.fixed_dictionaries({"content": TEXT})
CHOICE = st.fixed_dictionaries(
    {"index": st.sampled_from([0, 0, 0, 1]), "delta": TEXT_DELTA | DELTA},
    optional={"finish_reason": st.none(), "text": st.just("t"), "logprobs": st.none()},
)
CHUNK = st.fixed_dictionaries(
    {"id": st.just("x"), "choices": st.lists(CHOICE, min_size=1, max_size=2)},
    optional={"usage": st.none(), "obfuscation": st.sampled_from(["q", "w3"])},
)
BLOCK_DELTA = st.fixed_dictionaries(
    {
        "type": st.just("content_block_delta"),
        "index": st.integers(0, 1),
        "delta": st.fixed_dictionaries({"type": st.just("text_delta"), "text": TEXT.filter(bool)})
        | st.fixed_dictionaries({"type": st.just("thinking_delta"), "thinking": st.just("t")})
        | st.fixed_dictionaries({"type": st.just("input_json_delta"), "partial_json": TEXT}),
    }
)
BROKEN_PAYLOAD = st.sampled_from(
    [
        '{"id":"x","choices":[{"index":0,"delta":{"content":"\t"}}]}',
        '{"id":"x","choices":[{"index":0,"delta":{"content":"\\x"}}]}',
        '{"id":"x","choices":[{"index":0,"delta":{"content":"a}}]}',
        '{"id":"x","choices":[{"index":0,"delta":{"content":"a","content":"b"}}]}',
        '{"id":"x","choices":[{"index":0,"delta":{"content":"a"}}',
        "[DONE]",
        "",
    ]
)


def read_merged_and_unmerged(
    path: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """The completions of a stream, read with merged events and without."""
    merged = read_reply(path, body, "text/event-stream", complete=True)
    with monkeypatch.context() as patched:
        patched.setattr(registry, "merge_text_deltas", str)
        return merged, read_reply(path, body, "text/event-stream", complete=True)


@pytest.mark.parametrize(
    ("path", "events"), [("/v1/chat/completions", CHUNK), ("/v1/messages", BLOCK_DELTA)]
)
@given(data=st.data())
def test_merged_events_give_the_same_completion(
    path: str, events: Any, data: st.DataObject
) -> None:
    payloads = data.draw(st.lists(events.map(json.dumps) | BROKEN_PAYLOAD, min_size=1, max_size=3))
    lines = data.draw(st.lists(st.sampled_from(payloads), min_size=1, max_size=12))
    prefix = data.draw(st.sampled_from(["", "event: content_block_delta\n", ": ping\n", "data:\n"]))
    body = "".join(f"{prefix}data: {line}\n\n" for line in lines)
    if data.draw(st.booleans()):
        body = body.replace(": ", ":").replace(", ", ",")
    cut = data.draw(st.sampled_from([None, -1, -2, -9, -40]))
    with pytest.MonkeyPatch.context() as monkeypatch:
        merged, unmerged = read_merged_and_unmerged(
            path, body.encode("utf-8", "replace")[:cut], monkeypatch
        )
    assert merged == unmerged


def test_an_incomplete_event_and_a_malformed_one_are_both_noted() -> None:
    # If the two malformed events were merged, they would be the last event, noted as cut only.
    good, broken = (
        f'data: {{"id":"x","choices":[{{"index":0,"delta":{{"content":{text}}}}}]}}'
        for text in ("null", '"\t"')
    )
    body = f"{good}\n\n{broken}\n\n{broken}\n\nda".encode()
    completion = read_reply("/v1/chat/completions", body, "text/event-stream", complete=False)
    assert "stream: 1 of 3 events could not be read" in completion.notes
    assert "stream: cut inside its last event" in completion.notes


@pytest.mark.parametrize(
    "delta",
    [
        '{"content":"§"}',
        '{"role":"assistant","content":"§","refusal":null}',
        '{"content":"","reasoning":"§"}',
        '{"tool_calls":[{"index":0,"function":{"arguments":"§"}}]}',
        '{"type":"text_delta","text":"§"}',
    ],
)
def test_text_deltas_of_one_field_are_merged(delta: str) -> None:
    line = f'data: {{"id":"x","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}'
    stream = "".join(f"\n{line}\n".replace("§", text) for text in ("a", "b", "c"))
    assert merge_text_deltas(stream + "\n") == "\n" + line.replace("§", "abc") + "\n\n"


def test_events_with_escapes_and_padding_are_merged_to_one() -> None:
    def event(text: str, padding: str) -> str:
        choice = f'{{"index":0,"delta":{{"content":"{text}"}},"logprobs":null}}'
        return f'\ndata: {{"id":"x","choices":[{choice}],"obfuscation":"{padding}"}}\n'

    stream = event("a", "") + event(r"\"b\\", "3xY") + event("", "w") + event("é{", "2")
    merged = event(r"a\"b\\é{", "").replace(',"obfuscation":""', "")
    assert merge_text_deltas(stream + "\n") == merged + "\n"


@pytest.mark.parametrize(
    "texts",
    [
        # An incomplete escape, and the digits that would complete it.
        ('{"content":"\\u12"}', '{"content":"34"}'),
        # A member that looks like OpenAI's padding, but is part of an argument.
        ('{"a":{"x":1,"obfuscation":"3x"}}', '{"a":{"x":1,"obfuscation":"q"}}'),
    ],
)
def test_events_that_cannot_be_merged_safely_are_kept(texts: tuple[str, str]) -> None:
    stream = "".join(
        f'\ndata: {{"id":"x","choices":[{{"index":0,"delta":{delta}}}]}}\n' for delta in texts
    )
    assert merge_text_deltas(stream + "\n") == stream + "\n"


@pytest.mark.parametrize(
    "line",
    [
        '"delta":{' * 300_000,
        '{"delta":{' + '"content":"a",' * 300_000,
        '{"delta":{"content":"' + '\\"' * 500_000,
        '{"a":1,' * 300_000 + '"delta":{"content":"a"}}',
        '{"choices":[{' + '"delta"' * 300_000,
        '{"delta":{' + '"a":null,' * 300_000,
        '{"delta":{"content":"a"' + ',"a":null' * 300_000,
        '\n\ndata: {"delta":{"content":"a"}}' * 100_000,
        "\nevent: \nevent: " * 200_000,
        '{"delta":{"content":"a"},"obfuscation":"' * 50_000,
    ],
    ids=range(10),
)
@pytest.mark.timeout(20)
def test_merging_takes_linear_time(line: str) -> None:
    assert merge_text_deltas(f"\ndata: {line}\n\ndata: {line}\n\n")
