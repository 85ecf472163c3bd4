"""What headers say about a trace, and which of them counts."""

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.limits import MAX_VALUE_CHARS
from core.trace_context import CONTENT_MODES, TraceContext, read_trace_context, to_hex_id

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
HEX32 = "4bf92f3577b34da6a3ce929d0e0e4736"


def read(**headers: str) -> TraceContext:
    return read_trace_context({name.replace("_", "-"): value for name, value in headers.items()})


def test_without_headers_it_is_a_trace_of_its_own():
    first, second = read(), read()
    assert not first.is_existing
    assert len(first.trace_id) == 32
    assert len(first.observation_id) == 16
    assert first.trace_id != second.trace_id
    assert (first.user, first.tags, first.metadata, first.notes) == (None, (), {}, ())
    assert first.content_mode == "full"


@pytest.mark.parametrize(
    ("given_id", "fitted"),
    [
        (HEX32, HEX32),
        (HEX32.upper(), HEX32),
        ("4bf92f35-77b3-4da6-a3ce-929d0e0e4736", HEX32),
        ("0" * 32, None),
        ("order 4711", None),
        ("ä", None),
    ],
)
def test_trace_ids_are_made_to_fit(given_id, fitted):
    said = read(x_portkey_trace_id=given_id)
    assert said.is_existing
    assert said.trace_id == read(x_portkey_trace_id=given_id).trace_id
    assert set(said.trace_id) <= set("0123456789abcdef")
    assert len(said.trace_id) == 32
    if fitted:
        assert said.trace_id == fitted
    # What was given is kept, unless it is what is used.
    assert said.metadata.get("x-portkey-trace-id") == (None if fitted == given_id else given_id)


@given(st.text(), st.sampled_from([16, 32]))
def test_any_text_fits_to_an_id_that_fits_to_itself(value, digits):
    assert len(to_hex_id(value, digits)) == digits
    assert to_hex_id(to_hex_id(value, digits), digits) == to_hex_id(value, digits)
    assert int(to_hex_id(value, digits), 16)


def test_spans():
    said = read(
        x_portkey_trace_id=HEX32,
        x_portkey_span_id=SPAN,
        x_portkey_parent_span_id="step one",
        x_portkey_span_name="summarize",
    )
    assert said.observation_id == SPAN
    assert said.parent_id == to_hex_id("step one", 16, HEX32)
    assert said.name == "summarize"
    assert said.metadata == {"x-portkey-parent-span-id": "step one"}


def test_the_same_step_of_two_traces_is_two_observations():
    first, second = (
        read(x_portkey_trace_id=trace, x_portkey_span_id="step-1") for trace in ("a", "b")
    )
    assert first.observation_id != second.observation_id
    again = read(x_portkey_trace_id="a", x_portkey_span_id="step-1")
    assert again.observation_id == first.observation_id


def test_an_observation_is_not_its_own_parent():
    said = read(traceparent=PARENT, x_portkey_span_id=SPAN)
    assert (said.observation_id, said.parent_id) == (SPAN, None)
    assert said.notes


def test_long_ids_are_told_apart_by_all_of_them():
    ids = [read(x_portkey_trace_id="x" * 300 + end).trace_id for end in "ab"]
    assert ids[0] != ids[1]


def test_traceparent_is_joined():
    said = read(traceparent=PARENT)
    assert (said.trace_id, said.parent_id, said.is_existing) == (TRACE, SPAN, True)


def test_a_parent_lies_in_its_own_trace():
    said = read(traceparent=PARENT, x_portkey_trace_id=HEX32)
    assert (said.trace_id, said.parent_id) == (HEX32, None)
    said = read(traceparent=PARENT, x_portkey_trace_id=TRACE)
    assert (said.trace_id, said.parent_id) == (TRACE, SPAN)
    said = read(traceparent=PARENT, x_portkey_parent_span_id="f" * 16)
    assert (said.trace_id, said.parent_id) == (TRACE, "f" * 16)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
    ],
)
def test_a_malformed_traceparent_is_no_parent(header):
    assert not read(traceparent=header).is_existing


def test_a_later_version_of_traceparent_may_say_more():
    assert read(traceparent=f"01-{TRACE}-{SPAN}-01-more").trace_id == TRACE
    assert read(traceparent=f"01-{TRACE}-{SPAN}-01").trace_id == TRACE


PORTKEY = json.dumps(
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
# From the last that counts to the first.
SOURCES = [
    {"baggage": BAGGAGE},
    {"x_portkey_metadata": PORTKEY},
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


def test_the_order_of_precedence():
    headers: dict[str, str] = {}
    said = read()
    users, sessions, tags = [], [], []
    for source in SOURCES:
        headers |= source
        said = read(**headers)
        users.append(said.user)
        sessions.append(said.session)
        tags.append(said.tags)
    assert users == sessions == ["baggage", "portkey-metadata", "portkey", "langfuse"]
    assert tags == [("baggage", "tag"), *[("portkey", "metadata")] * 2, ("langfuse", "tag")]
    assert said.trace_name == "from langfuse"
    assert (said.version, said.release) == ("v3", "r3")
    assert said.metadata == {"area": "north west", "team": "langfuse"}


def test_baggage_alone():
    said = read(baggage=BAGGAGE)
    assert (said.trace_name, said.version, said.environment) == ("from baggage", "v2", "baggage")
    assert said.metadata == {"area": "north west"}


def test_an_environment_that_langfuse_refuses_is_noted():
    said = read(langfuse_environment="Production!")
    assert said.environment is None
    assert said.notes
    assert read(langfuse_environment="prod-1").environment == "prod-1"


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
def test_prompts(headers, prompt):
    said = read(**headers)
    assert (said.prompt_name, said.prompt_version) == prompt
    assert prompt != (None, None) or said.notes


@pytest.mark.parametrize(
    ("header", "mode", "noted"),
    [
        ("full", "full", False),
        ("usage", "usage", False),
        (" OFF ", "off", False),
        ("", "full", False),
        ("none", "usage", True),
    ],
)
def test_content_modes(header, mode, noted):
    said = read(x_portkey_trace=header)
    assert (said.content_mode, bool(said.notes)) == (mode, noted)


@pytest.mark.parametrize("header", ["x-portkey-metadata", "langfuse-metadata"])
@pytest.mark.parametrize("value", ["not json", "[]", "7", '{"a":' * 200, "null"])
def test_metadata_that_is_no_object_is_noted(header, value):
    said = read_trace_context({header: value})
    assert said.metadata == {}
    assert said.notes == (f"{header}: not a JSON object",)


@pytest.mark.parametrize("tags", ["[]", "", " , "])
def test_tags_that_are_none(tags):
    assert read(langfuse_tags=tags).tags == ()


def test_a_switch_is_no_name():
    said = read(x_portkey_metadata='{"_user": true, "_session": 7}')
    assert (said.user, said.session) == (None, "7")


def test_values_have_a_length():
    said = read(langfuse_user_id="u" * 300, langfuse_tags="t" * 300)
    assert said.user == "u" * 200
    assert said.tags == ("t" * 200,)
    assert said.notes == ("user: cut to 200 characters",)


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
def test_no_header_stops_it(headers):
    said = read_trace_context(headers)
    assert len(said.trace_id) == 32
    assert said.content_mode in CONTENT_MODES


@pytest.mark.parametrize(
    "tags",
    [
        ["search"],
        ["search", "two words"],
        ["it's, so to say", 'a "quote"', "both ' and \"", "back\\slash", "ä+b"],
    ],
)
def test_tags_in_the_baggage_as_the_sdks_write_them(tags: list[str]):
    """Python's as it shows a list, JavaScript's with commas."""
    assert read_trace_context({"baggage": f"langfuse_tags={quote_plus(str(tags))}"}).tags == tuple(
        tags
    )
    plain = [tag for tag in tags if "," not in tag]
    joined = quote(",".join(plain), safe="")
    assert read_trace_context({"baggage": f"langfuse_tags={joined}"}).tags == tuple(plain)


@pytest.mark.parametrize("text", ["['a'", "['a' 'b']", "['a\\']", "[a, b]", "['a', 5]", "[" * 9000])
def test_what_is_no_list_is_split_at_its_commas(text: str):
    pieces = tuple(piece.strip()[:MAX_VALUE_CHARS] for piece in text.split(","))
    assert read_trace_context({"langfuse-tags": text}).tags == pieces


def test_a_named_parent_counts_before_that_of_the_traceparent():
    said = read(traceparent=PARENT, x_portkey_parent_span_id="00f067aa0ba902b7")
    assert (said.trace_id, said.parent_id) == (TRACE, "00f067aa0ba902b7")
