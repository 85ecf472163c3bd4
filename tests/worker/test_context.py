"""Headers and body members that set a trace's fields, from the client to the inbox."""

import json

import httpx

from .conftest import CHAT, PUBLIC_KEY, SECRET_KEY, Stage

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def chat(stage: Stage, headers: dict[str, str], **body):
    create = stage.openai().chat.completions.with_raw_response.create
    return create(**{**CHAT, **body}, extra_headers=headers)


def test_portkey_headers(stage: Stage):
    response = chat(
        stage,
        {
            "x-portkey-trace-id": "checkout 42",
            "x-portkey-span-name": "summarize",
            "x-portkey-parent-span-id": SPAN,
            "x-portkey-metadata": json.dumps(
                {
                    "_user": "ada",
                    "_session": "s1",
                    "_environment": "staging",
                    "_tags": ["a", "b"],
                    "team": "search",
                }
            ),
        },
    )
    observation = stage.observation()
    assert observation["trace_id"] == response.headers["x-portkey-trace-id"]
    assert observation["name"] == "summarize"
    assert observation["parent_id"] == SPAN
    assert (observation["user_id"], observation["session_id"]) == ("ada", "s1")
    assert sorted(observation["tags"]) == ["a", "b"]
    assert observation["environment"] == "staging"
    assert observation["metadata"]["team"] == "search"
    assert observation["metadata"]["x-portkey-trace-id"] == "checkout 42"


def test_calls_of_one_trace_id_are_one_trace(stage: Stage):
    for name in ("first", "second"):
        chat(stage, {"x-portkey-trace-id": "one order", "x-portkey-span-name": name})
    observations = stage.observations(2)
    assert {o["name"] for o in observations} == {"first", "second"}
    assert len({o["trace_id"] for o in observations}) == 1


def test_an_existing_trace_is_not_overwritten(stage: Stage):
    body = {"id": TRACE, "name": "of the app", "input": "question", "output": "answer"}
    event = {"id": "e1", "type": "trace-create", "timestamp": "2026-01-01T00:00:00Z", "body": body}
    url = stage.gateway_env["LANGFUSE_BASE_URL"] + "/api/public/ingestion"
    httpx.post(url, json={"batch": [event]}, auth=(PUBLIC_KEY, SECRET_KEY)).raise_for_status()
    chat(stage, {"traceparent": f"00-{TRACE}-{SPAN}-01", "langfuse-user-id": "ada"})
    observation = stage.observation()
    assert (observation["trace_id"], observation["parent_id"]) == (TRACE, SPAN)
    trace = stage.trace_of(observation)
    assert (trace["name"], trace["input"], trace["output"]) == (
        "of the app",
        "question",
        "answer",
    )
    assert trace["user_id"] == "ada"


def test_langfuse_headers_and_baggage(stage: Stage):
    chat(
        stage,
        {
            "langfuse-trace-name": "my trace",
            "langfuse-prompt-name": "greeting",
            "langfuse-prompt-version": "3",
            "langfuse-release": "r9",
            "langfuse-tags": "x,y",
            "baggage": "langfuse_user_id=grace,langfuse_session_id=s9",
        },
    )
    observation = stage.observation()
    assert observation["trace_name"] == "my trace"
    assert (observation["prompt_name"], observation["prompt_version"]) == ("greeting", 3)
    assert observation["release"] == "r9"
    assert sorted(observation["tags"]) == ["x", "y"]
    assert (observation["user_id"], observation["session_id"]) == ("grace", "s9")


def test_user_session_and_metadata_may_be_in_the_body(stage: Stage):
    chat(stage, {}, user="body", metadata={"session_id": "body", "topic": "greeting"})
    observation = stage.observation()
    assert (observation["user_id"], observation["session_id"]) == ("body", "body")
    assert observation["metadata"]["topic"] == "greeting"


def test_a_malformed_header_is_noted_and_the_rest_is_recorded(stage: Stage):
    response = chat(stage, {"x-portkey-metadata": "{oops", "langfuse-environment": "NO"})
    assert response.parse().choices[0].message.content == "You said: Hello there"
    observation = stage.observation()
    assert len(observation["metadata"]["notes"]) == 2
    assert observation["output"]["content"] == "You said: Hello there"
