"""What both protocols make of an answer, by its status; and that no answer is too much for them."""

import json
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.limits import MAX_LOGGED_REASON_CHARS
from core.types import HttpResponse
from export import ingestion, otlp
from export.encoding import inclusive_usage_counts, to_iso_time, to_milliseconds
from export.upload_results import Outcome, UploadResult
from tests.unit.samples import FULL, JOINED, OBSERVATIONS, VALUES

NOW = 1_795_436_099.25  # Mon, 23 Nov 2026 12:14:59 GMT
PROTOCOLS = [ingestion, otlp]
WRONG_URL = "is LANGFUSE_BASE_URL right?"


def read(protocol: ModuleType, status: int, text: str = "", **headers: str) -> UploadResult:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return protocol.read_response(HttpResponse(status, named, text), protocol.encode(FULL), NOW)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("status", "text", "fate", "reason"),
    [
        (301, "", Outcome.MISCONFIGURED, f"redirected to nowhere: {WRONG_URL}"),
        (400, "<html>", Outcome.MALFORMED, "HTTP 400"),
        (400, '{"message": "why", "error": "Bad"}', Outcome.MALFORMED, "HTTP 400: why"),
        (400, '{"message": ["why"], "error": "Bad"}', Outcome.MALFORMED, "HTTP 400: Bad"),
        (401, "", Outcome.MISCONFIGURED, "HTTP 401: are the Langfuse keys right?"),
        (403, "", Outcome.MISCONFIGURED, "HTTP 403: are the Langfuse keys right?"),
        (
            403,
            '{"message": "Ingestion suspended"}',
            Outcome.MISCONFIGURED,
            "HTTP 403: are the Langfuse keys right? Ingestion suspended",
        ),
        (404, "<html>", Outcome.UNSUPPORTED_PROTOCOL, "HTTP 404"),
        (405, "", Outcome.UNSUPPORTED_PROTOCOL, "HTTP 405"),
        (408, "", Outcome.RETRYABLE, "HTTP 408"),
        (413, "Body exceeded 4.5mb limit", Outcome.TOO_LARGE, "HTTP 413"),
        (418, "", Outcome.MISCONFIGURED, "HTTP 418"),
        (402, "", Outcome.MISCONFIGURED, "HTTP 402"),
        (422, "", Outcome.MALFORMED, "HTTP 422"),
        (425, "", Outcome.RETRYABLE, "HTTP 425"),
        (429, "", Outcome.RETRYABLE, "HTTP 429"),
        (500, "", Outcome.RETRYABLE, "HTTP 500"),
        (503, "<html>", Outcome.RETRYABLE, "HTTP 503"),
        (599, "", Outcome.RETRYABLE, "HTTP 599"),
        (101, "", Outcome.MISCONFIGURED, f"the answer is not Langfuse's: {WRONG_URL}"),
    ],
)
def test_statuses(protocol, status, text, fate, reason):
    assert read(protocol, status, text) == UploadResult(fate, reason)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_redirection_is_named_without_its_query(protocol):
    reason = read(protocol, 302, location="https://login.example/?to=prompt").reason
    assert reason == f"redirected to https://login.example/: {WRONG_URL}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "after"),
    [
        ("0", 0),
        (" 17 ", 17),
        ("Mon, 23 Nov 2026 12:15:09 GMT", 9.75),
        ("Mon, 23 Nov 2026 12:14:00 GMT", 0),
        ("Fri, 01 Jan 2027 00:00:00 GMT", 3_325_500.75),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("9" * 400, None),
        ("Mon, 31 Feb 2026 12:15:09 GMT", None),
        ("Mon, 23 Nov 2026 12:15:60 GMT", None),
        ("Mon, 23 Abc 2026 12:15:09 GMT", None),
        ("Mon, 23 Nov 2026 12:15:09 +0100", None),
    ],
)
def test_retry_after(protocol, status, value, after):
    assert read(protocol, status, retry_after=value).retry_after == after


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("text", ["<html>", "[]", "null", "7", '"x"', "[" * 100_000, "{", "{}{}"])
def test_what_langfuse_never_said_is_not_stored(protocol, text):
    verdict = read(protocol, 200, text)
    assert verdict == UploadResult(
        Outcome.MISCONFIGURED, f"the answer is not Langfuse's: {WRONG_URL}"
    )


ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "id": VALUES | st.sampled_from([part.id for part in ingestion.encode(JOINED)]),
        "status": VALUES | st.sampled_from([201, 400, 429, 500]),
        "message": VALUES | st.just("Event type not accepted" * 100),
    },
)
LISTS = st.lists(ITEMS | VALUES, max_size=5) | VALUES
BODIES = VALUES | st.fixed_dictionaries(
    {},
    optional={
        "successes": LISTS,
        "errors": LISTS,
        "message": VALUES,
        "partialSuccess": VALUES
        | st.fixed_dictionaries(
            {"rejectedSpans": VALUES | st.just("1")}, optional={"errorMessage": VALUES}
        ),
    },
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(
    status=st.sampled_from([200, 201, 202, 204, 207]) | st.integers(100, 599),
    text=BODIES.map(json.dumps) | st.text(st.characters()),
    headers=st.fixed_dictionaries(
        {}, optional={name: st.text() for name in ("location", "retry-after")}
    ),
)
def test_no_answer_is_too_much(protocol, status, text, headers):
    parts = protocol.encode(JOINED)
    verdict = protocol.read_response(HttpResponse(status, headers, text), parts, NOW)
    note = len("… [cut: 300 of 999999 characters]")
    for judged in (verdict, *verdict.item_results.values()):
        assert len(judged.reason) <= MAX_LOGGED_REASON_CHARS + note
        assert judged.reason or judged.outcome is Outcome.STORED
        assert judged.retry_after is None or judged.retry_after >= 0
    assert set(verdict.item_results) <= {part.id for part in parts}
    assert Outcome.STORED not in {judged.outcome for judged in verdict.item_results.values()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(OBSERVATIONS)
def test_whatever_is_observed_makes_a_body_and_always_the_same(protocol, observation):
    parts = protocol.encode(observation)
    assert parts == protocol.encode(observation)
    assert len({part.id for part in parts}) == len(parts)
    text = protocol.request_body(parts).decode()
    json.loads(text, parse_constant=lambda word: pytest.fail(word))
    for part in parts:
        json.loads(part.json)


def test_times_are_whole_milliseconds():
    for time in (1795436099.196, 1795436099.1959999, 1795436099.19649):
        assert to_milliseconds(time) == 1795436099196
        assert to_iso_time(time) == "2026-11-23T12:14:59.196+00:00"
    assert to_iso_time(1795436099.9996) == "2026-11-23T12:15:00.000+00:00"
    assert to_iso_time(None) is None


def test_sums_of_usage():
    assert inclusive_usage_counts({}) == {}
    assert inclusive_usage_counts(FULL.usage) == {"input": 10, "output": 2, "total": 12}
    assert inclusive_usage_counts({"output": 2}) == {"input": 0, "output": 2, "total": 2}
