import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.limits import MIN_SECRET_CHARS
from core.safe_regex import compile_patterns
from redaction.redactor import REDACTED, Redactor
from redaction.request_secrets import recorded_headers, secrets_of_request


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
def test_what_counts_as_a_credential(headers, query, found):
    assert found <= set(secrets_of_request(headers, query))
    assert bool(found) == bool(secrets_of_request(headers, query))


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
    clean, keyed = json.loads(Redactor([secret]).to_json([text, {text: 1}]))
    assert REDACTED in clean
    assert not any(secret in part for part in clean.split(REDACTED))
    assert clean == Redactor([secret]).redact(text)
    assert keyed == {clean: 1}


@example(secret="aaaaaaaaX", before="aa", kept=8)
@example(secret="000000000", before="00", kept=8)
@given(
    secret=st.text(min_size=9, max_size=40), before=st.text(max_size=20), kept=st.integers(8, 40)
)
def test_a_cut_leaves_no_beginning_of_a_secret(secret, before, kept):
    text = before + secret[:kept]
    clean = json.loads(Redactor([secret]).to_json(text))
    assert REDACTED in clean
    left = clean.rpartition(REDACTED)[2]
    assert not any(secret.startswith(left[i:]) for i in range(len(left) - MIN_SECRET_CHARS + 1))


def test_what_only_looks_like_the_secret_in_json_stays():
    value = {"text": "\n1234567"}
    assert json.loads(Redactor(["n1234567"]).to_json(value)) == value


def test_the_longer_secret_goes_first():
    redactor = Redactor(["key-12345678", "key-12345678-more"])
    assert redactor.redact("key-12345678-more") == REDACTED


def test_a_form_is_found_however_json_writes_its_beginning():
    redacted = Redactor(["ab/cd-0123456789"]).to_json({"said": "ab\\/cd-0123456789"})
    assert redacted == json.dumps({"said": REDACTED}, separators=(",", ":"))


def test_ordinary_text_stays():
    text = "The quick brown fox"
    assert (
        Redactor(secrets_of_request({"authorization": "Bearer none"}, "a=b")).redact(text) == text
    )


@pytest.mark.parametrize(
    "text", ["https://x.example/?k=a%2Fsecret%2Bkey", '{"k": "a\\/secret+key"}', "a/secret+key"]
)
def test_other_ways_to_write_a_secret(text):
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
def test_what_looks_like_a_key_goes(key):
    redactor = Redactor()
    assert json.loads(redactor.to_json({"text": f"my key:\n{key}\nis it"}))["text"].startswith(
        f"my key:\n{REDACTED}"
    )


@pytest.mark.parametrize("text", ["a task-based-approach-to-risk-management", "ask_live", "eyJ"])
def test_what_only_resembles_a_key_stays(text):
    assert Redactor().redact(text) == text


def test_the_deployers_patterns():
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
def test_members_that_hold_secrets(value):
    assert "mine" not in Redactor().to_json(value)
    assert "mine" not in str(Redactor().redact(value))


def test_members_that_only_speak_of_secrets_stay():
    value = {"properties": {"password": {"type": "string"}}, "max_tokens": 5, "token": "word"}
    assert json.loads(Redactor().to_json(value)) == value


def test_a_secret_in_pieces_is_found():
    events = [{"d": "sk-1"}, {"d": "2345"}, {"d": "6789"}]
    assert Redactor(["sk-123456789"]).found_across_texts(events)
    assert not Redactor(["sk-12345679"]).found_across_texts(events)
