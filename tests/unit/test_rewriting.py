import json

import pytest

from rewriting import with_stream_usage

ASKED = b'"stream_options":{"include_usage":true}'


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
def test_left_as_it_is(body):
    assert with_stream_usage(body) == body


@pytest.mark.parametrize(
    "body",
    [
        b'{ "stream":true, "x":1.0,"x":2,"u":"\\u00e9\xc3\xa9", "n":12345678901234567890 } \n',
        b'{"messages":[{"a":{}}],"stream":true}',
    ],
)
def test_only_the_member_is_added(body):
    changed = with_stream_usage(body)
    assert changed == body[: body.rindex(b"}")] + b"," + ASKED + body[body.rindex(b"}") :]
    assert json.loads(changed)["stream_options"] == {"include_usage": True}


def test_other_options_stay():
    body = b'{"stream": true, "stream_options": {"include_obfuscation": false}, "n": 1}'
    assert json.loads(with_stream_usage(body)) == {
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True},
        "n": 1,
    }
    assert json.loads(with_stream_usage(b'{"stream": true, "stream_options": null}')) == {
        "stream": True,
        "stream_options": {"include_usage": True},
    }
