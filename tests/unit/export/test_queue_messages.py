"""Queue messages: their schema, and which versions of it are read."""

import base64
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from core import strict_json
from core.limits import MAX_MESSAGE_JSON_DEPTH
from core.observation import ModelCall, Observation, Trace
from core.platform import MessageBody
from core.strict_json import to_json
from export.message_schema import (
    MODEL_CALL_MEMBERS,
    OBSERVATION_MEMBERS,
    TRACE_MEMBERS,
    VERSION,
    Member,
    from_message,
    to_message,
)
from export.queue_messages import read_message
from tests.unit import virtual_time
from tests.unit.langfuse import FakeLangfuse
from tests.unit.samples import EMBEDDING_IN_EXISTING_TRACE, EMPTY, FULL, OBSERVATIONS

DESTINATIONS = {FULL.destination.name: FULL.destination}
# Messages by the version of their schema. The ones of version 0 were recorded with gateway 0.1.0
# (commit 03b4413), as text and gzipped. The other one is that of `FULL`.
RECORDED = Path(__file__).parent
MESSAGES_0 = json.loads((RECORDED / "queue_messages_0.json").read_text())
MESSAGE_1 = json.loads((RECORDED / "queue_message_1.json").read_text())
MEMBERS = {
    "": (Observation, OBSERVATION_MEMBERS),
    "trace": (Trace, TRACE_MEMBERS),
    "model_call": (ModelCall, MODEL_CALL_MEMBERS),
}
EVERY_MEMBER = [
    pytest.param(inside, member, id=f"{inside}.{member.name}")
    for inside, (_, members) in MEMBERS.items()
    for member in members
]


def read(message: Any) -> Observation:
    return from_message(json.loads(json.dumps(message)), DESTINATIONS)


def changed(inside: str, **members: Any) -> dict[str, Any]:
    """The message of `FULL` with these members, in the object `inside`; "" for the message itself.
    A member that is ... is left out."""
    content = {**(MESSAGE_1[inside] if inside else MESSAGE_1), **members}
    content = {name: value for name, value in content.items() if value is not ...}
    return {**MESSAGE_1, inside: content} if inside else content


def part(observation: Observation, inside: str) -> Any:
    return getattr(observation, inside) if inside else observation


# Versions.


def test_the_messages_of_gateway_0_1_0_are_read():
    bodies: list[MessageBody] = [MESSAGES_0["text"], base64.b64decode(MESSAGES_0["base64"])]
    text, gzipped = (
        virtual_time.run(read_message(body, DESTINATIONS, FakeLangfuse())) for body in bodies
    )
    assert text.destination == FULL.destination
    assert text.output == '{"role":"assistant","content":"Hallo, Grüße ✓"}'
    assert text.trace.user == gzipped.trace.user == "ada"
    assert text.started_at == text.trace.started_at == json.loads(MESSAGES_0["text"])["started"]
    assert text.usage == {"input": 7, "input_cached_tokens": 3, "output": 2, "total": 12}
    assert (text.model_call, text.error_type, text.trace.is_existing) == (None, None, False)
    assert len(gzipped.input or "") > 140_000
    assert text.metadata["team"] == "search"


def test_an_unversioned_message_in_an_existing_trace_is_read():
    message = to_message(EMBEDDING_IN_EXISTING_TRACE)
    del message["schema"]
    assert read(message) == EMBEDDING_IN_EXISTING_TRACE


def test_the_form_of_version_1_is_fixed():
    """A change of this message needs a new version, unless it adds an optional member."""
    assert VERSION == 1
    assert json.loads(to_json(to_message(FULL))) == MESSAGE_1
    assert read(MESSAGE_1) == FULL


@pytest.mark.parametrize("version", [-1, 2, 17, "1", 1.0, True, None, [1]])
def test_an_unknown_version_is_not_read(version: Any):
    with pytest.raises(ValueError, match="its schema has version"):
        read({**MESSAGE_1, "schema": version})


# Members.


@pytest.mark.parametrize("inside", MEMBERS)
def test_every_field_of_an_observation_has_a_member(inside: str):
    kind, members = MEMBERS[inside]
    written_separately = {"destination", *MEMBERS}
    names = {field.name for field in fields(kind)} - written_separately
    assert {member.field for member in members} == names
    assert {member.name for member in members} <= {*part_of_message(inside)}


def part_of_message(inside: str) -> Mapping[str, Any]:
    return MESSAGE_1[inside] if inside else MESSAGE_1


@given(OBSERVATIONS)
def test_a_message_is_read_as_it_was_written(observation: Observation):
    text = to_json(to_message(observation))
    assert (
        from_message(strict_json.parse(text, MAX_MESSAGE_JSON_DEPTH), DESTINATIONS) == observation
    )


@pytest.mark.parametrize("inside", MEMBERS)
def test_an_unknown_member_is_ignored(inside: str):
    assert read(changed(inside, colour="red")) == FULL


def test_optional_members_may_be_missing():
    required: dict[str, Any] = {
        inside: {member.name: part_of_message(inside)[member.name] for member in members}
        for inside, (_, all_members) in MEMBERS.items()
        if (members := [member for member in all_members if member.is_required])
    }
    message = {
        "schema": 1,
        "destination": "default",
        **required[""],
        "trace": required["trace"],
        "model_call": required["model_call"],
    }
    trace = replace(EMPTY.trace, id=FULL.trace.id, started_at=None)
    call = ModelCall(request_type="messages", provider="google")
    expected = replace(EMPTY, level="ERROR", trace=trace, model_call=call)
    assert read(message) == expected
    assert read({**message, "model_call": None}) == replace(expected, model_call=None)


@pytest.mark.parametrize(("inside", "member"), EVERY_MEMBER)
@pytest.mark.parametrize("value", [..., None])
def test_a_member_that_is_missing_or_null(inside: str, member: Member, value: Any):
    message = changed(inside, **{member.name: value})
    if member.is_required:
        with pytest.raises(ValueError, match=f"{member.name} is not of the type {member.type}"):
            read(message)
    else:
        expected = replace(part(FULL, inside), **{member.field: member.default})
        assert part(read(message), inside) == expected


@pytest.mark.parametrize(("inside", "member"), EVERY_MEMBER)
def test_a_member_of_another_type_is_refused(inside: str, member: Member):
    values = ["x", 1, 1.5, True, ["x"], [1], {"a": 1}, {"a": "x"}]
    accepted = {
        "text": ["x"],
        "integer": [1],
        "number": [1, 1.5],
        "boolean": [True],
        "texts": [["x"]],
        "numbers": [{"a": 1}],
        "object": [{"a": 1}, {"a": "x"}],
    }[member.type]
    # By their JSON, since 1 and True are equal in Python.
    accepted_texts = [json.dumps(value) for value in accepted]
    for value in values:
        message = changed(inside, **{member.name: value})
        if json.dumps(value) in accepted_texts:
            read(message)
        else:
            with pytest.raises(ValueError, match=f"{member.name} is not of the type"):
                read(message)


@pytest.mark.parametrize("value", [..., None, "other", ["default"], {}])
def test_a_message_for_another_project_is_refused(value: Any):
    with pytest.raises(ValueError, match=r"the destination .* is unknown"):
        read(changed("", destination=value))


@pytest.mark.parametrize("message", [None, [], "text", 5])
def test_anything_but_an_object_is_refused(message: Any):
    with pytest.raises(ValueError, match="message is not an object"):
        read(message)
    with pytest.raises(ValueError, match="trace is not an object"):
        read(changed("", trace=message))
    if message is not None:
        with pytest.raises(ValueError, match="model_call is not an object"):
            read(changed("", model_call=message))
