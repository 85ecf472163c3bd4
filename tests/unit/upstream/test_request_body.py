"""Tests of `request_body`: the provider prefix of a model, and the requested changes to a body."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settings.load import Settings
from tests.unit.fake_body import json_body
from upstream.request_body import (
    may_name_provider,
    prefixed_model,
    strip_provider_prefix,
    with_stream_usage,
)

STREAM_OPTIONS = b'"stream_options":{"include_usage":true}'


def add_stream_usage(body: bytes) -> bytes:
    return with_stream_usage(json_body(body), Settings()).read()


def strip_prefix(body: bytes) -> bytes:
    """The changed bytes, of which the JSON value is known."""
    changed = strip_provider_prefix(json_body(body))
    assert changed.known_value == json_body(changed.read()).parse()
    return changed.read()


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m"}',
        b'{"model": "m", "stream": false}',
        b'{"stream": "yes"}',
        b'{"stream": true, "stream_options": {"include_usage": false}}',
        b'{"stream": true, "stream_options": 7}',
        b"[1]",
        b"{",
        b"",
        b"\xff",
        b"[" * 5000,
    ],
)
def test_a_body_without_need_for_stream_usage_is_unchanged(body):
    assert add_stream_usage(body) == body


@pytest.mark.parametrize(
    "body",
    [
        b'{ "stream":true, "x":1.0,"x":2,"u":"\\u00e9\xc3\xa9", "n":12345678901234567890 } \n',
        b'{"messages":[{"a":{}}],"stream":true}',
    ],
)
def test_stream_options_are_added_without_other_changes(body):
    changed = add_stream_usage(body)
    assert changed == body[: body.rindex(b"}")] + b"," + STREAM_OPTIONS + body[body.rindex(b"}") :]
    assert json.loads(changed)["stream_options"] == {"include_usage": True}


def test_other_stream_options_are_kept():
    body = b'{"stream": true, "stream_options": {"include_obfuscation": false}, "n": 1}'
    assert json.loads(add_stream_usage(body)) == {
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True},
        "n": 1,
    }
    assert json.loads(add_stream_usage(b'{"stream": true, "stream_options": null}')) == {
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("body", "model", "changed"),
    [
        (b'{"model":"@groq/llama","x":1.0}', "@groq/llama", b'{"model":"llama","x":1.0}'),
        (
            b' {"u":"\\u00e9\xc3\xa9", "x":1,"x":2, "model" :\t"@groq/openai/oss" , "n":1e400}\n',
            "@groq/openai/oss",
            b' {"u":"\\u00e9\xc3\xa9", "x":1,"x":2, "model" :\t"openai/oss" , "n":1e400}\n',
        ),
        # PHP escapes slashes.
        (b'{"model":"@groq\\/a\\/b"}', "@groq/a/b", b'{"model":"a\\/b"}'),
        (b'{"model":"@a/@b/c"}', "@a/@b/c", b'{"model":"@b/c"}'),
        (b'{"model":"@a/"}', "@a/", b'{"model":""}'),
        (b'\xef\xbb\xbf{"model":"@a/b"}', "@a/b", b'\xef\xbb\xbf{"model":"b"}'),
        (b'{"model":"@a/b","x":"\xff"}', "@a/b", b'{"model":"b","x":"\xff"}'),
        # Other members that look the same come first.
        (
            b'{"tools":[{"model":"@a/b"}],"a\\"model":"@a/b","model":"@a/b"}',
            "@a/b",
            b'{"tools":[{"model":"@a/b"}],"a\\"model":"@a/b","model":"b"}',
        ),
        # Of duplicate members, the last counts, as for a JSON parser.
        (b'{"model":"@a/b","model":"@c/d"}', "@c/d", b'{"model":"@a/b","model":"d"}'),
    ],
)
def test_the_provider_prefix_is_removed_without_other_changes(body, model, changed):
    assert may_name_provider(body)
    assert prefixed_model(json_body(body)) == model
    assert strip_prefix(body) == changed


def test_only_the_top_level_model_is_changed_among_many():
    body = b'{"a":[' + b",".join([b'{"model":"@a/b"}'] * 9) + b'],"model":"@a/b"}'
    changed = json.loads(strip_prefix(body))
    assert changed["model"] == "b"
    assert changed["a"] == json.loads(body)["a"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4o"}',
        b'{"model":"openai/gpt-4o"}',
        b'{"model":"@groq"}',
        b'{"model":7,"x":"@a/b"}',
        b'{"x":"\\"model\\":\\"@a/b\\""}',
        b'"@a/b"',
        b"",
        b"\xff",
    ],
)
def test_a_body_without_a_provider_prefix_is_recognised_without_parsing(body):
    assert not may_name_provider(body)


@pytest.mark.parametrize(
    "body", [b'{"x":{"model":"@a/b"}}', b'[{"model":"@a/b"}]', b'{"model":"@a/b","model":null}']
)
def test_a_nested_or_overwritten_model_has_no_prefix(body):
    assert may_name_provider(body)
    assert prefixed_model(json_body(body)) == ""


@pytest.mark.parametrize(
    "body", [b'{"model":"@a/b"', b'{"model":"@a/b"}}', b"[" * 101 + b'{"model":"@a/b"']
)
def test_a_malformed_body_raises_an_error(body):
    with pytest.raises(ValueError, match=r"Expecting|JSON"):
        prefixed_model(json_body(body))


@given(
    st.dictionaries(
        st.sampled_from(["model", 'a"model', "x", "\\", ""]),
        st.recursive(
            st.sampled_from(["@a/b", '"model":"@a/b', "m", 1, None]),
            lambda inner: st.lists(inner) | st.dictionaries(st.just("model"), inner),
            max_leaves=5,
        ),
    ),
    st.sampled_from(["@a/b", "@a/b/c", "@/x", '@a/"']),
)
def test_strip_provider_prefix_changes_only_the_model_of_any_body(members, model):
    request = {**members, "model": model}
    body = json.dumps(request).encode()
    assert may_name_provider(body)
    changed = json.loads(strip_prefix(body))
    assert changed == {**request, "model": model.partition("/")[2]}
