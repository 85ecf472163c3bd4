"""Tests of redaction: which values of a request are secret, and their removal from texts."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.limits import MIN_SECRET_CHARS
from core.safe_regex import compile_patterns
from redaction.redactor import REDACTED, Redactor
from redaction.request_secrets import recorded_headers, secrets_of_request


def test_recorded_headers_have_an_allow_list_of_values():
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
        # A JSON value that is neither an object nor a list is a value like any other.
        ({"x-portkey-api-key": "12345678901234567890"}, "", {"12345678901234567890"}),
        ({"x-portkey-new": "12345678901234567890"}, "", {"12345678901234567890"}),
        ({"x-portkey-new": '"a-long-value-in-quotes"'}, "", {"a-long-value-in-quotes"}),
        ({"x-portkey-config": '{"api_key": 1234567890}'}, "", {"1234567890"}),
        ({"authorization": "Bearer sk-12345678"}, "", {"Bearer sk-12345678", "sk-12345678"}),
        ({"x-api-key": "sk-12345678"}, "", {"sk-12345678"}),
        ({"api-key": "none"}, "", set()),
        ({"user-agent": "a-long-user-agent/1.0"}, "", set()),
        ({"x-portkey-provider": "a-long-provider-name"}, "", set()),
        ({"x-portkey-virtual-key": "virtual-1"}, "", {"virtual-1"}),
        ({"x-portkey-config": '{"api_key": "sk-1234", "mode": "fallback"}'}, "", set()),
        ({"x-portkey-config": '{"api_key": "sk-12345678"}'}, "", {"sk-12345678"}),
        ({"x-portkey-config": '{"secrets": {"a": ["in-a-list"]}}'}, "", {"in-a-list"}),
        ({"x-portkey-config": "pc-config-id"}, "", set()),
        ({"x-portkey-config": "pc-config-0123456789"}, "", set()),
        ({"x-portkey-azure-deployment-id": "gpt-4o-mini-2024-07-18"}, "", set()),
        ({"x-portkey-config": "[" * 100_000}, "", {"[" * 100_000}),
        ({"cookie": "a=session-1234; b=x"}, "", {"a=session-1234; b=x", "session-1234"}),
        (
            {"authorization": "Basic dXNlcjpwYXNzd29yZC0x"},
            "",
            {"dXNlcjpwYXNzd29yZC0x", "user:password-1", "password-1"},
        ),
        ({"authorization": "Basic /////"}, "", {"Basic /////"}),
        (
            {"authorization": "Bearer first-key-1, Bearer second-key-2"},
            "",
            {"first-key-1", "second-key-2"},
        ),
        ({"authorization": "Bearer\ttabbed-key"}, "", {"tabbed-key"}),
        ({"authorization": 'Token token="quoted-key"'}, "", {"quoted-key"}),
        ({"x-api-key": "first-key-1, second-key-2"}, "", {"first-key-1", "second-key-2"}),
        ({"cookie": 'a="quoted-value"'}, "", {"quoted-value"}),
        (
            {"x-portkey-config": '{"headers": {"Authorization": "Bearer nested-key"}}'},
            "",
            {"nested-key"},
        ),
        ({}, "sk-without-a-name", {"sk-without-a-name"}),
        ({}, "%6bey=hidden-name", {"hidden-name"}),
        ({}, "a=1;key=semicolon-1", {"semicolon-1"}),
        ({}, "key=AIza12345678&v=1", {"AIza12345678"}),
        ({}, "key=a%2Fb%2Fc12345", {"a%2Fb%2Fc12345", "a/b/c12345"}),
        ({}, "api-version=2024-10-21", set()),
        ({}, "x=0123456789abcdef", {"0123456789abcdef"}),
    ],
)
def test_the_credentials_of_a_request_are_found(headers, query, found):
    assert found <= set(secrets_of_request(headers, query))
    assert bool(found) == bool(secrets_of_request(headers, query))


@given(
    secret=st.text(min_size=8, max_size=40),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    levels=st.integers(0, 3),
)
@example(secret="n1234567", before="\n1234567", after="", levels=0)
def test_a_secret_is_redacted_at_any_depth_of_escaping(secret, before, after, levels):
    text = before + secret + after
    for _ in range(levels):
        text = json.dumps({"message": text})
    redacted, redacted_key = json.loads(Redactor([secret]).to_json([text, {text: 1}]))
    assert REDACTED in redacted
    assert not any(secret in part for part in redacted.split(REDACTED))
    assert redacted == Redactor([secret]).redact(text)
    assert redacted_key == {redacted: 1}


@example(secret="aaaaaaaaX", before="aa", kept_chars=8)
@example(secret="000000000", before="00", kept_chars=8)
@given(
    secret=st.text(min_size=9, max_size=40),
    before=st.text(max_size=20),
    kept_chars=st.integers(8, 40),
)
def test_the_beginning_of_a_secret_at_the_end_of_a_text_is_redacted(secret, before, kept_chars):
    text = before + secret[:kept_chars]
    redacted = json.loads(Redactor([secret]).to_json(text))
    assert REDACTED in redacted
    rest = redacted.rpartition(REDACTED)[2]
    assert not any(secret.startswith(rest[i:]) for i in range(len(rest) - MIN_SECRET_CHARS + 1))


def test_a_text_that_equals_a_secret_only_when_escaped_is_kept():
    value = {"text": "\n1234567"}
    assert json.loads(Redactor(["n1234567"]).to_json(value)) == value


def test_the_longer_of_two_overlapping_secrets_is_redacted_first():
    redactor = Redactor(["key-12345678", "key-12345678-more"])
    assert redactor.redact("key-12345678-more") == REDACTED


def test_a_secret_with_escaped_slashes_is_redacted():
    redacted = Redactor(["ab/cd-0123456789"]).to_json({"said": "ab\\/cd-0123456789"})
    assert redacted == json.dumps({"said": REDACTED}, separators=(",", ":"))


def test_ordinary_text_is_kept():
    text = "The quick brown fox"
    assert (
        Redactor(secrets_of_request({"authorization": "Bearer none"}, "a=b")).redact(text) == text
    )


@pytest.mark.parametrize(
    "text", ["https://x.example/?k=a%2Fsecret%2Bkey", '{"k": "a\\/secret+key"}', "a/secret+key"]
)
def test_an_encoded_secret_is_redacted(text):
    assert "secret" not in Redactor(["a/secret+key"]).redact(text)


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefghijklmnopqrstuvwx",
        "sk-ant-api03-abcdefghijklmnopqrstuvwx",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1" * 18,
        "xoxb-123456789012-abcdef",
        "AIza" + "a" * 35,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_keys_of_known_formats_are_redacted(key):
    redactor = Redactor()
    assert json.loads(redactor.to_json({"text": f"my key:\n{key}\nis it"}))["text"].startswith(
        f"my key:\n{REDACTED}"
    )


@pytest.mark.parametrize("text", ["a task-based-approach-to-risk-management", "ask_live", "eyJ"])
def test_texts_similar_to_a_key_are_kept(text):
    assert Redactor().redact(text) == text


def test_matches_of_the_deployers_patterns_are_redacted():
    redactor = Redactor(patterns=compile_patterns([r"\d{3}-\d{4}", "(?i)project x"]))
    value = {"Project X": ["call 555-1234", 7, None]}
    assert json.loads(redactor.to_json(value)) == {REDACTED: [f"call {REDACTED}", 7, None]}


@pytest.mark.parametrize(
    "value",
    [
        {"tools": [{"type": "mcp", "authorization": "mine"}]},
        [{"api_key": "mine"}],
        {"extra_headers": {"Authorization": "mine"}},
        '{"model": "m", "api_key": "mine", "messa',
        '{"tools": [{"authorization" : "mine',
        '{\\"password\\":\\"mine\\"}',
    ],
)
def test_members_with_secret_names_are_redacted(value):
    assert "mine" not in Redactor().to_json(value)
    assert "mine" not in str(Redactor().redact(value))


def test_members_with_secret_names_that_are_not_texts_are_kept():
    value = {"properties": {"password": {"type": "string"}}, "max_tokens": 5, "token": "word"}
    assert json.loads(Redactor().to_json(value)) == value


def test_a_secret_split_over_several_texts_is_found():
    events = [{"d": "sk-1"}, {"d": "2345"}, {"d": "6789"}]
    assert Redactor(["sk-123456789"]).found_across_texts(events)
    assert not Redactor(["sk-12345679"]).found_across_texts(events)
