import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import redaction
from redaction import REDACTED, credentials, recorded_headers, redact


def test_portkey_headers_are_recorded_by_an_allow_list():
    headers = {
        "authorization": "Bearer x",
        "user-agent": "y",
        "x-portkey-provider": "openai",
        "x-portkey-user-id": "ada",
        "x-portkey-config": "{}",
        "x-portkey-something-new": "who knows",
    }
    assert recorded_headers(headers) == {
        "x-portkey-provider": "openai",
        "x-portkey-user-id": "ada",
        "x-portkey-config": REDACTED,
        "x-portkey-something-new": REDACTED,
    }


@pytest.mark.parametrize(
    ("headers", "query", "found"),
    [
        ({"authorization": "Bearer sk-12345678"}, "", {"Bearer sk-12345678", "sk-12345678"}),
        ({"x-api-key": "sk-12345678"}, "", {"sk-12345678"}),
        ({"api-key": "none"}, "", set()),
        ({"user-agent": "a-long-user-agent/1.0"}, "", set()),
        ({"x-portkey-provider": "a-long-provider-name"}, "", set()),
        ({"x-portkey-virtual-key": "virtual-1"}, "", {"virtual-1"}),
        ({"x-portkey-config": '{"api_key": "sk-1234", "mode": "fallback"}'}, "", set()),
        ({"x-portkey-config": '{"api_key": "sk-12345678"}'}, "", {"sk-12345678"}),
        ({"x-portkey-config": '{"secrets": {"a": ["in-a-list"]}}'}, "", {"in-a-list"}),
        ({"x-portkey-config": "pc-config-id"}, "", {"pc-config-id"}),
        ({"x-portkey-config": "[" * 100_000}, "", {"[" * 100_000}),
        ({"cookie": "a=session-1234; b=x"}, "", {"a=session-1234; b=x", "session-1234"}),
        ({}, "key=AIza12345678&v=1", {"AIza12345678"}),
        ({}, "key=a%2Fb%2Fc12345", {"a%2Fb%2Fc12345", "a/b/c12345"}),
        ({}, "api-version=2024-10-21", set()),
        ({}, "x=0123456789abcdef", {"0123456789abcdef"}),
    ],
)
def test_what_counts_as_a_credential(headers, query, found):
    assert found <= set(credentials(headers, query))
    assert bool(found) == bool(credentials(headers, query))


@given(
    secret=st.text(min_size=8, max_size=40),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    levels=st.integers(0, 3),
)
@example(secret="n1234567", before="\n1234567", after="", levels=0)
def test_a_secret_goes_at_any_depth_of_escaping(secret, before, after, levels):
    text = before + secret + after
    for _ in range(levels):
        text = json.dumps({"message": text})
    clean, keyed = json.loads(redaction.to_json([text, {text: 1}], [secret]))
    assert REDACTED in clean
    assert not any(secret in part for part in clean.split(REDACTED))
    assert clean == redact(text, [secret])
    assert keyed == {clean: 1}


@example(secret="aaaaaaaaX", before="aa", kept=8)
@given(
    secret=st.text(min_size=9, max_size=40), before=st.text(max_size=20), kept=st.integers(8, 40)
)
def test_a_cut_leaves_no_beginning_of_a_secret(secret, before, kept):
    clean = json.loads(redaction.to_json(before + secret[:kept], [secret]))
    assert clean.endswith(REDACTED)


def test_what_only_looks_like_the_secret_in_json_stays():
    value = {"text": "\n1234567"}
    assert json.loads(redaction.to_json(value, ["n1234567"])) == value


def test_the_longer_secret_goes_first():
    assert redact("key-12345678-more", ["key-12345678", "key-12345678-more"]) == REDACTED


def test_ordinary_text_stays():
    text = "The quick brown fox"
    assert redact(text, credentials({"authorization": "Bearer none"}, "a=b")) == text
