"""Tests of what both protocols share: results by HTTP status, robust parsing, stable encoding."""

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
from tests.unit.samples import EMBEDDING_IN_EXISTING_TRACE, FULL, OBSERVATIONS, VALUES

NOW = 1_795_436_099.25  # Mon, 23 Nov 2026 12:14:59 GMT
PROTOCOLS = [ingestion, otlp]
WRONG_URL = "is LANGFUSE_BASE_URL right?"


def read_response_of(
    protocol: ModuleType, status: int, text: str = "", **headers: str
) -> UploadResult:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return protocol.read_response(HttpResponse(status, named, text), protocol.encode(FULL), NOW)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("status", "text", "outcome", "reason"),
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
def test_the_status_determines_outcome_and_reason(protocol, status, text, outcome, reason):
    assert read_response_of(protocol, status, text) == UploadResult(outcome, reason)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_reason_of_a_redirect_contains_the_location_without_query(protocol):
    reason = read_response_of(protocol, 302, location="https://login.example/?to=prompt").reason
    assert reason == f"redirected to https://login.example/: {WRONG_URL}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
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
def test_retry_after_is_parsed_to_seconds(protocol, status, value, seconds):
    assert read_response_of(protocol, status, retry_after=value).retry_after == seconds


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("text", ["<html>", "[]", "null", "7", '"x"', "[" * 100_000, "{", "{}{}"])
def test_a_200_with_an_unknown_body_is_not_from_langfuse(protocol, text):
    result = read_response_of(protocol, 200, text)
    assert result == UploadResult(
        Outcome.MISCONFIGURED, f"the answer is not Langfuse's: {WRONG_URL}"
    )


RESULT_OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "id": VALUES
        | st.sampled_from([item.id for item in ingestion.encode(EMBEDDING_IN_EXISTING_TRACE)]),
        "status": VALUES | st.sampled_from([201, 400, 429, 500]),
        "message": VALUES | st.just("Event type not accepted" * 100),
    },
)
RESULT_LISTS = st.lists(RESULT_OBJECTS | VALUES, max_size=5) | VALUES
RESPONSE_BODIES = VALUES | st.fixed_dictionaries(
    {},
    optional={
        "successes": RESULT_LISTS,
        "errors": RESULT_LISTS,
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
    text=RESPONSE_BODIES.map(json.dumps) | st.text(st.characters()),
    headers=st.fixed_dictionaries(
        {}, optional={name: st.text() for name in ("location", "retry-after")}
    ),
)
def test_any_response_is_read_without_an_exception(protocol, status, text, headers):
    items = protocol.encode(EMBEDDING_IN_EXISTING_TRACE)
    result = protocol.read_response(HttpResponse(status, headers, text), items, NOW)
    max_note_chars = len("… [cut: 300 of 999999 characters]")
    for each in (result, *result.item_results.values()):
        assert len(each.reason) <= MAX_LOGGED_REASON_CHARS + max_note_chars
        assert each.reason or each.outcome is Outcome.STORED
        assert each.retry_after is None or each.retry_after >= 0
    assert set(result.item_results) <= {item.id for item in items}
    assert Outcome.STORED not in {each.outcome for each in result.item_results.values()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(OBSERVATIONS)
def test_any_observation_is_encoded_as_valid_json_and_always_the_same(protocol, observation):
    items = protocol.encode(observation)
    assert items == protocol.encode(observation)
    assert len({item.id for item in items}) == len(items)
    text = protocol.request_body(items).decode()
    json.loads(text, parse_constant=lambda word: pytest.fail(word))
    for item in items:
        json.loads(item.json)


def test_times_are_rounded_to_milliseconds():
    for time in (1795436099.196, 1795436099.1959999, 1795436099.19649):
        assert to_milliseconds(time) == 1795436099196
        assert to_iso_time(time) == "2026-11-23T12:14:59.196+00:00"
    assert to_iso_time(1795436099.9996) == "2026-11-23T12:15:00.000+00:00"
    assert to_iso_time(None) is None


def test_inclusive_usage_counts_sum_up_input_and_output():
    assert inclusive_usage_counts({}) == {}
    assert inclusive_usage_counts(FULL.usage) == {"input": 10, "output": 2, "total": 12}
    assert inclusive_usage_counts({"output": 2}) == {"input": 0, "output": 2, "total": 2}
