"""Tests of `read_trace_context`: the headers that describe a trace, and their precedence."""

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.limits import MAX_VALUE_CHARS
from core.trace_context import CONTENT_MODES, TraceContext, read_trace_context, to_hex_id

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
HEX32 = "4bf92f3577b34da6a3ce929d0e0e4736"


def read_headers(**headers: str) -> TraceContext:
    return read_trace_context({name.replace("_", "-"): value for name, value in headers.items()})


def test_a_request_without_headers_gets_a_new_trace():
    first, second = read_headers(), read_headers()
    assert not first.is_existing
    assert len(first.trace_id) == 32
    assert len(first.observation_id) == 16
    assert first.trace_id != second.trace_id
    assert (first.user, first.tags, first.metadata, first.notes) == (None, (), {}, ())
    assert first.content_mode == "full"


@pytest.mark.parametrize(
    ("given_id", "hex_id"),
    [
        (HEX32, HEX32),
        (HEX32.upper(), HEX32),
        ("4bf92f35-77b3-4da6-a3ce-929d0e0e4736", HEX32),
        ("0" * 32, None),
        ("order 4711", None),
        ("ä", None),
    ],
)
def test_a_trace_id_is_normalised_to_32_hex_digits(given_id, hex_id):
    trace_context = read_headers(x_portkey_trace_id=given_id)
    assert trace_context.is_existing
    assert trace_context.trace_id == read_headers(x_portkey_trace_id=given_id).trace_id
    assert set(trace_context.trace_id) <= set("0123456789abcdef")
    assert len(trace_context.trace_id) == 32
    if hex_id:
        assert trace_context.trace_id == hex_id
    # The original id is kept as metadata where it differs from the normalised one.
    assert trace_context.metadata.get("x-portkey-trace-id") == (
        None if hex_id == given_id else given_id
    )


@given(st.text(), st.sampled_from([16, 32]))
def test_to_hex_id_returns_a_valid_id_and_is_idempotent(value, digits):
    assert len(to_hex_id(value, digits)) == digits
    assert to_hex_id(to_hex_id(value, digits), digits) == to_hex_id(value, digits)
    assert int(to_hex_id(value, digits), 16)


def test_span_headers_set_the_ids_and_the_name_of_the_observation():
    trace_context = read_headers(
        x_portkey_trace_id=HEX32,
        x_portkey_span_id=SPAN_ID,
        x_portkey_parent_span_id="step one",
        x_portkey_span_name="summarize",
    )
    assert trace_context.observation_id == SPAN_ID
    assert trace_context.parent_id == to_hex_id("step one", 16, HEX32)
    assert trace_context.name == "summarize"
    assert trace_context.metadata == {"x-portkey-parent-span-id": "step one"}


def test_the_same_span_id_in_two_traces_gives_two_observation_ids():
    first, second = (
        read_headers(x_portkey_trace_id=trace, x_portkey_span_id="step-1") for trace in ("a", "b")
    )
    assert first.observation_id != second.observation_id
    again = read_headers(x_portkey_trace_id="a", x_portkey_span_id="step-1")
    assert again.observation_id == first.observation_id


def test_a_parent_id_equal_to_the_observation_id_is_ignored():
    trace_context = read_headers(traceparent=TRACEPARENT, x_portkey_span_id=SPAN_ID)
    assert (trace_context.observation_id, trace_context.parent_id) == (SPAN_ID, None)
    assert trace_context.notes


def test_long_trace_ids_that_differ_at_the_end_stay_different():
    ids = [read_headers(x_portkey_trace_id="x" * 300 + end).trace_id for end in "ab"]
    assert ids[0] != ids[1]


def test_traceparent_sets_trace_and_parent():
    trace_context = read_headers(traceparent=TRACEPARENT)
    assert (trace_context.trace_id, trace_context.parent_id, trace_context.is_existing) == (
        TRACE_ID,
        SPAN_ID,
        True,
    )


@pytest.mark.parametrize(
    ("headers", "is_app_trace"),
    [
        ({}, False),
        ({"x_portkey_trace_id": HEX32}, False),
        ({"x_portkey_trace_id": HEX32, "x_portkey_span_id": SPAN_ID}, False),
        ({"x_portkey_trace_id": HEX32, "traceparent": TRACEPARENT}, False),
        ({"x_portkey_parent_span_id": SPAN_ID}, False),
        ({"traceparent": TRACEPARENT}, True),
        ({"traceparent": TRACEPARENT, "x_portkey_span_id": SPAN_ID}, True),
        ({"x_portkey_trace_id": HEX32, "x_portkey_parent_span_id": SPAN_ID}, True),
    ],
)
def test_a_trace_in_which_the_caller_names_a_parent_is_an_apps(headers, is_app_trace):
    assert read_headers(**headers).is_app_trace is is_app_trace


def test_the_parent_of_traceparent_is_used_in_its_own_trace_only():
    trace_context = read_headers(traceparent=TRACEPARENT, x_portkey_trace_id=HEX32)
    assert (trace_context.trace_id, trace_context.parent_id) == (HEX32, None)
    trace_context = read_headers(traceparent=TRACEPARENT, x_portkey_trace_id=TRACE_ID)
    assert (trace_context.trace_id, trace_context.parent_id) == (TRACE_ID, SPAN_ID)
    trace_context = read_headers(traceparent=TRACEPARENT, x_portkey_parent_span_id="f" * 16)
    assert (trace_context.trace_id, trace_context.parent_id) == (TRACE_ID, "f" * 16)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"00-{TRACE_ID}-{SPAN_ID}-01-",
    ],
)
def test_a_malformed_traceparent_is_ignored(header):
    assert not read_headers(traceparent=header).is_existing


def test_a_later_version_of_traceparent_may_have_more_fields():
    assert read_headers(traceparent=f"01-{TRACE_ID}-{SPAN_ID}-01-more").trace_id == TRACE_ID
    assert read_headers(traceparent=f"01-{TRACE_ID}-{SPAN_ID}-01").trace_id == TRACE_ID


PORTKEY_METADATA = json.dumps(
    {
        "_user": "portkey-metadata",
        "_session": "portkey-metadata",
        "_environment": "portkey-metadata",
        "_tags": ["portkey", "metadata"],
        "team": "search",
    }
)
BAGGAGE = (
    "other=1, langfuse_user_id=baggage,langfuse_session_id=baggage;p=1,"
    " langfuse_tags=baggage%2Ctag,"
    "langfuse_environment=baggage, langfuse_trace_name=from+baggage, langfuse_version=v2,"
    "langfuse_metadata_area=north%20west"
)
# In ascending order of precedence.
SOURCES = [
    {"baggage": BAGGAGE},
    {"x_portkey_metadata": PORTKEY_METADATA},
    {"x_portkey_user_id": "portkey", "x_portkey_session_id": "portkey"},
    {
        "langfuse_user_id": "langfuse",
        "langfuse_session_id": "langfuse",
        "langfuse_tags": "langfuse, tag, langfuse",
        "langfuse_environment": "langfuse-no",
        "langfuse_trace_name": "from langfuse",
        "langfuse_version": "v3",
        "langfuse_release": "r3",
        "langfuse_metadata": '{"team": "langfuse"}',
    },
]


def test_sources_have_an_order_of_precedence():
    headers: dict[str, str] = {}
    trace_context = read_headers()
    users, sessions, tags = [], [], []
    for source in SOURCES:
        headers |= source
        trace_context = read_headers(**headers)
        users.append(trace_context.user)
        sessions.append(trace_context.session)
        tags.append(trace_context.tags)
    assert users == sessions == ["baggage", "portkey-metadata", "portkey", "langfuse"]
    assert tags == [("baggage", "tag"), *[("portkey", "metadata")] * 2, ("langfuse", "tag")]
    assert trace_context.trace_name == "from langfuse"
    assert (trace_context.version, trace_context.release) == ("v3", "r3")
    assert trace_context.metadata == {"area": "north west", "team": "langfuse"}


def test_baggage_is_read():
    trace_context = read_headers(baggage=BAGGAGE)
    assert (trace_context.trace_name, trace_context.version, trace_context.environment) == (
        "from baggage",
        "v2",
        "baggage",
    )
    assert trace_context.metadata == {"area": "north west"}


def test_an_environment_that_langfuse_refuses_is_noted():
    trace_context = read_headers(langfuse_environment="Production!")
    assert trace_context.environment is None
    assert trace_context.notes
    assert read_headers(langfuse_environment="prod-1").environment == "prod-1"


@pytest.mark.parametrize(
    ("headers", "prompt"),
    [
        ({"langfuse_prompt_name": "greet", "langfuse_prompt_version": "3"}, ("greet", 3)),
        ({"baggage": "langfuse_prompt_name=g,langfuse_prompt_version=1"}, ("g", 1)),
        (
            {
                "langfuse_prompt_name": "greet",
                "baggage": "langfuse_prompt_name=b,langfuse_prompt_version=7",
            },
            ("b", 7),
        ),
        ({"langfuse_prompt_name": "g", "langfuse_prompt_version": "12345678901"}, (None, None)),
        ({"langfuse_prompt_name": "greet"}, (None, None)),
        ({"langfuse_prompt_version": "3"}, (None, None)),
        ({"langfuse_prompt_name": "greet", "langfuse_prompt_version": "three"}, (None, None)),
    ],
)
def test_a_prompt_needs_a_name_and_a_valid_version(headers, prompt):
    trace_context = read_headers(**headers)
    assert (trace_context.prompt_name, trace_context.prompt_version) == prompt
    assert prompt != (None, None) or trace_context.notes


@pytest.mark.parametrize(
    ("header", "mode", "is_noted"),
    [
        ("full", "full", False),
        ("usage", "usage", False),
        (" OFF ", "off", False),
        ("", "full", False),
        ("none", "usage", True),
    ],
)
def test_the_content_mode_is_read_and_an_invalid_one_is_noted(header, mode, is_noted):
    trace_context = read_headers(x_portkey_trace=header)
    assert (trace_context.content_mode, bool(trace_context.notes)) == (mode, is_noted)


@pytest.mark.parametrize("header", ["x-portkey-metadata", "langfuse-metadata"])
@pytest.mark.parametrize("value", ["not json", "[]", "7", '{"a":' * 200, "null"])
def test_metadata_that_is_not_a_json_object_is_noted(header, value):
    trace_context = read_trace_context({header: value})
    assert trace_context.metadata == {}
    assert trace_context.notes == (f"{header}: not a JSON object",)


@pytest.mark.parametrize("tags", ["[]", "", " , "])
def test_empty_tags_are_ignored(tags):
    assert read_headers(langfuse_tags=tags).tags == ()


def test_values_without_a_name_are_no_fields():
    headers = {"x-portkey-metadata": '{"": "ada"}', "baggage": "langfuse_=ada"}
    trace_context = read_trace_context(headers)
    assert (trace_context.user, trace_context.name, trace_context.release) == (None, None, None)


def test_a_boolean_is_not_read_as_a_user():
    trace_context = read_headers(x_portkey_metadata='{"_user": true, "_session": 7}')
    assert (trace_context.user, trace_context.session) == (None, "7")


def test_long_values_are_truncated_and_noted():
    trace_context = read_headers(langfuse_user_id="u" * 300, langfuse_tags="t" * 300)
    assert trace_context.user == "u" * 200
    assert trace_context.tags == ("t" * 200,)
    assert trace_context.notes == ("user: cut to 200 characters",)


@given(
    st.dictionaries(
        st.sampled_from(
            sorted(
                {
                    "traceparent",
                    "baggage",
                    "x-portkey-metadata",
                    "x-portkey-trace-id",
                    "x-portkey-span-id",
                    "x-portkey-trace",
                    "langfuse-tags",
                    "langfuse-metadata",
                    "langfuse-prompt-version",
                    "langfuse-environment",
                }
            )
        ),
        st.text(),
    )
)
def test_any_header_value_gives_a_valid_trace_context(headers):
    trace_context = read_trace_context(headers)
    assert len(trace_context.trace_id) == 32
    assert trace_context.content_mode in CONTENT_MODES


@pytest.mark.parametrize(
    "tags",
    [
        ["search"],
        ["search", "two words"],
        ["it's, so to say", 'a "quote"', "both ' and \"", "back\\slash", "ä+b"],
    ],
)
def test_tags_in_baggage_are_read_in_the_formats_of_both_sdks(tags: list[str]):
    """The Python SDK writes the `str` of a list, the JavaScript SDK joins tags with commas."""
    assert read_trace_context({"baggage": f"langfuse_tags={quote_plus(str(tags))}"}).tags == tuple(
        tags
    )
    plain = [tag for tag in tags if "," not in tag]
    joined = quote(",".join(plain), safe="")
    assert read_trace_context({"baggage": f"langfuse_tags={joined}"}).tags == tuple(plain)


@pytest.mark.parametrize("text", ["['a'", "['a' 'b']", "['a\\']", "[a, b]", "['a', 5]", "[" * 9000])
def test_tags_that_are_not_a_python_list_are_split_at_commas(text: str):
    expected = tuple(tag.strip()[:MAX_VALUE_CHARS] for tag in text.split(","))
    assert read_trace_context({"langfuse-tags": text}).tags == expected


def test_a_parent_header_takes_precedence_over_traceparent():
    trace_context = read_headers(
        traceparent=TRACEPARENT, x_portkey_parent_span_id="00f067aa0ba902b7"
    )
    assert (trace_context.trace_id, trace_context.parent_id) == (TRACE_ID, "00f067aa0ba902b7")
