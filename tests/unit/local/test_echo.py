"""Tests of the echo provider, with the official client SDKs."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from local import echo
from local.server import Server

# An SDK's client. It returns unions, which a type checker cannot narrow here.
Client = Any

MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "First."},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": [{"type": "text", "text": "Grüße, 😀!"}]},
]
ECHO = "You said: Grüße, 😀!"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Server(echo.app(delay_ms=0)) as server:
        yield server.url


# `verify=False`: loading the CA certificates takes longer than any of these tests.
@pytest.fixture(scope="module")
def raw_client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, verify=False) as client:
        yield client


@pytest.fixture(scope="module")
def openai_client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def anthropic_client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
        yield client


def events(reply: httpx.Response) -> list[dict[str, Any]]:
    """The JSON of each event of a stream, after a check that the events' names match it."""
    found = []
    for block in reply.text.removesuffix("\n\n").split("\n\n"):
        *names, data = block.split("\n")
        if data == "data: [DONE]":
            continue
        event = json.loads(data.removeprefix("data: "))
        assert names == ([f"event: {event['type']}"] if "type" in event else [])
        found.append(event)
    return found


class TestChat:
    def test_a_whole_reply(self, openai_client: Client):
        reply = openai_client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        assert reply.choices[0].message.content == ECHO
        assert reply.choices[0].finish_reason == "stop"
        assert reply.model == "gpt-4o-mini-2024-07-18"
        assert reply.id.startswith("chatcmpl-")
        assert reply.system_fingerprint
        assert reply._request_id
        assert reply.usage.model_dump(include={"prompt_tokens", "completion_tokens"}) == {
            "prompt_tokens": 6,
            "completion_tokens": 4,
        }
        assert reply.usage.total_tokens == 10

    def test_a_stream_with_usage(self, openai_client: Client):
        chunks = list(
            openai_client.chat.completions.create(
                model="gpt-4o-mini",
                messages=MESSAGES,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        *content_chunks, last = chunks
        deltas = [chunk.choices[0].delta for chunk in content_chunks]
        assert deltas[0].role == "assistant"
        assert [delta.content for delta in deltas[1:-1]] == ["You ", "said: ", "Grüße, ", "😀!"]
        assert content_chunks[-1].choices[0].finish_reason == "stop"
        assert all(
            chunk.usage is None and "usage" in chunk.model_fields_set for chunk in content_chunks
        )
        assert last.choices == []
        assert last.usage.total_tokens == 10
        assert len({chunk.id for chunk in chunks}) == 1

    def test_a_stream_without_usage(self, openai_client: Client):
        stream = openai_client.chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES, stream=True
        )
        chunks = list(stream)
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert all("usage" not in chunk.model_fields_set for chunk in chunks)

    def test_the_stream_helper_of_the_sdk(self, openai_client: Client):
        with openai_client.chat.completions.stream(
            model="gpt-4o-mini", messages=MESSAGES
        ) as stream:
            assert stream.get_final_completion().choices[0].message.content == ECHO


class TestCompletions:
    def test_a_whole_reply(self, openai_client: Client):
        reply = openai_client.completions.create(model="davinci", prompt="Grüße, 😀!")
        assert reply.choices[0].text == ECHO
        assert reply.usage.completion_tokens == 4

    def test_a_stream(self, openai_client: Client):
        stream = openai_client.completions.create(
            model="davinci",
            prompt=["one", "Grüße, 😀!"],
            stream=True,
            stream_options={"include_usage": True},
        )
        *content_chunks, last = list(stream)
        assert "".join(chunk.choices[0].text for chunk in content_chunks) == ECHO
        assert content_chunks[-1].choices[0].finish_reason == "stop"
        assert last.usage.prompt_tokens == 3


class TestEmbeddings:
    def test_floats_and_base64_agree(self, openai_client: Client):
        def create(**options):
            return openai_client.embeddings.create(
                model="text-embedding-3-small", input=["a", "b c"], **options
            )

        # Without a format the SDK requests base64 and decodes it.
        base64_reply, float_reply = create(), create(encoding_format="float")
        assert [item.index for item in base64_reply.data] == [0, 1]
        for one, other in zip(base64_reply.data, float_reply.data, strict=True):
            assert len(one.embedding) == 1536
            assert list(one.embedding) == pytest.approx(other.embedding)
        assert base64_reply.data[0].embedding != base64_reply.data[1].embedding
        assert base64_reply.usage.prompt_tokens == 3
        assert base64_reply.model == "text-embedding-3-small"

    @pytest.mark.parametrize(
        ("embedding_input", "count"), [("one", 1), ([1, 2], 1), ([[1], [2, 3]], 2)]
    )
    def test_every_form_of_input_has_its_number_of_embeddings(
        self, openai_client: Client, embedding_input, count: int
    ):
        reply = openai_client.embeddings.create(model="e", input=embedding_input, dimensions=8)
        assert [len(item.embedding) for item in reply.data] == [8] * count


class TestResponses:
    def test_a_whole_reply(self, openai_client: Client):
        reply = openai_client.responses.create(model="gpt-4o", input="Grüße, 😀!")
        assert reply.output_text == ECHO
        assert reply.status == "completed"
        assert reply.usage.total_tokens == 6

    def test_the_events_of_a_stream(self, openai_client: Client):
        events = list(
            openai_client.responses.create(
                model="gpt-4o",
                instructions="Be brief.",
                input=[{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
                stream=True,
            )
        )
        event_types = [event.type.removeprefix("response.") for event in events]
        assert event_types == [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            *["output_text.delta"] * 3,
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        text = "".join(
            event.delta for event in events if event.type == "response.output_text.delta"
        )
        assert text == events[-1].response.output_text == "You said: Hi"
        assert events[-1].response.usage.input_tokens == 3


class TestMessages:
    REQUEST = {  # noqa: RUF012 - never changed
        "model": "claude-sonnet-5-5",
        "max_tokens": 99,
        "system": "Be brief.",
        "messages": MESSAGES[1:],
    }

    def test_a_whole_reply(self, anthropic_client: Client):
        reply = anthropic_client.messages.create(**self.REQUEST)
        assert reply.content[0].text == ECHO
        assert reply.stop_reason == "end_turn"
        assert reply.model == "claude-sonnet-5-5-20250929"
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (6, 4)
        assert reply._request_id

    def test_a_stream(self, anthropic_client: Client):
        with anthropic_client.messages.stream(**self.REQUEST) as stream:
            assert "".join(stream.text_stream) == ECHO
            final = stream.get_final_message()
        assert final.stop_reason == "end_turn"
        assert (final.usage.input_tokens, final.usage.output_tokens) == (6, 4)

    def test_the_events_of_a_stream(self, raw_client: httpx.Client):
        reply = raw_client.post("/v1/messages", json=self.REQUEST | {"stream": True})
        stream_events = events(reply)
        assert stream_events[0]["message"]["usage"]["output_tokens"] == 1
        assert [event["type"] for event in stream_events] == [
            "message_start",
            "content_block_start",
            "ping",
            *["content_block_delta"] * 4,
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]

    def test_count_tokens(self, anthropic_client: Client):
        count = anthropic_client.messages.count_tokens(model="claude", messages=MESSAGES[1:])
        assert count.input_tokens == 4


def test_the_list_of_models_is_read_by_both_sdks(openai_client: Client, anthropic_client: Client):
    openai_models = list(openai_client.models.list())
    anthropic_models = list(anthropic_client.models.list())
    assert (
        [model.id for model in openai_models]
        == [model.id for model in anthropic_models]
        == list(echo.MODELS)
    )
    for model in (*openai_models, *anthropic_models):
        type(model).model_validate(model.model_dump(exclude_unset=True))


# The SDKs do not validate replies, but their models can.
CASES = {
    "/v1/chat/completions": ({"messages": MESSAGES}, ChatCompletion, ChatCompletionChunk),
    # Only the last event of a stream has a finish reason, which the model requires in all.
    "/v1/completions": ({"prompt": "hi"}, Completion, None),
    "/v1/embeddings": (
        {"input": "hi", "encoding_format": "float"},
        CreateEmbeddingResponse,
        None,
    ),
    "/v1/responses": ({"input": "hi"}, Response, ResponseStreamEvent),
    "/v1/messages": ({"messages": MESSAGES, "max_tokens": 9}, Message, RawMessageStreamEvent),
}


@pytest.mark.parametrize("path", CASES)
def test_replies_and_events_are_valid_for_the_models_of_the_sdks(
    raw_client: httpx.Client, path: str
):
    body, whole, event = CASES[path]
    reply = raw_client.post(path, json={"model": "m"} | body)
    assert issubclass(whole, BaseModel)
    whole.model_validate(reply.json(), strict=True)
    if event is not None:
        # A ping is part of the wire format, but not of the SDK's union of events.
        stream = raw_client.post(path, json={"model": "m", "stream": True} | body)
        stream_events = [each for each in events(stream) if each.get("type") != "ping"]
        assert len(stream_events) > 4
        for each in stream_events:
            TypeAdapter(event).validate_python(each)


class TestSettings:
    def streamed_texts(
        self, raw_client: httpx.Client, model: str = "m", headers=None, query: str = ""
    ) -> list[str]:
        body = {"model": model, "messages": MESSAGES, "stream": True}
        reply = raw_client.post(f"/v1/chat/completions{query}", json=body, headers=headers)
        deltas = [event["choices"][0]["delta"] for event in events(reply)]
        return [delta["content"] for delta in deltas if delta.get("content")]

    @pytest.mark.parametrize(
        "setting",
        [
            {"headers": {"x-echo-chunks": "5", "x-echo-length": "50"}},
            {"query": "?x-echo-chunks=5&x-echo-length=50"},
            {"model": "m?chunks=5&length=50"},
            {"model": "m?chunks=7", "query": "?x-echo-chunks=5&x-echo-length=50"},
            {"query": "?x-echo-chunks=7&x-echo-length=50", "headers": {"x-echo-chunks": "5"}},
        ],
    )
    def test_chunks_and_length_are_set_by_header_query_or_model(
        self, raw_client: httpx.Client, setting: dict
    ):
        texts = self.streamed_texts(raw_client, **setting)
        assert [len(text) for text in texts] == [10] * 5
        assert "".join(texts).startswith(ECHO)

    def test_more_chunks_make_a_longer_text(self, raw_client: httpx.Client):
        assert len(self.streamed_texts(raw_client, "m?chunks=200")) == 200

    def test_length_counts_characters(self, openai_client: Client):
        reply = openai_client.responses.create(model="m?length=3", input="hi")
        assert reply.output_text == "You"
        assert openai_client.responses.create(model="m?length=0", input="x").output_text == ""

    def test_the_model_of_a_reply_has_no_settings(self, openai_client: Client):
        reply = openai_client.responses.create(model="o3-2025-04-16?length=3", input="hi")
        assert reply.model == "o3-2025-04-16"

    def test_the_delay_comes_before_each_chunk_of_text(self, raw_client: httpx.Client):
        """The event with the role arrives, the first text only after ten minutes."""
        connection = http.client.HTTPConnection(raw_client.base_url.netloc.decode(), timeout=5)
        body = json.dumps({"model": "m?delay-ms=600000", "messages": MESSAGES, "stream": True})
        connection.request("POST", "/v1/chat/completions", body)
        reply = connection.getresponse()
        assert b'"role":"assistant"' in reply.readline()
        assert reply.readline() == b"\n"
        connection.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            reply.readline()
        connection.close()

    @pytest.mark.parametrize("value", ["-1", "x", "1.5", "99999999999", "²"])
    def test_an_invalid_setting_is_refused(self, raw_client: httpx.Client, value: str):
        reply = raw_client.post(
            "/v1/chat/completions",
            params={"x-echo-chunks": value},
            json={"model": "m", "messages": MESSAGES},
        )
        assert reply.status_code == 400
        assert "x-echo-chunks" in reply.json()["error"]["message"]


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (401, openai.AuthenticationError),
            (429, openai.RateLimitError),
            (500, openai.InternalServerError),
        ],
    )
    def test_an_error_status_raises_the_error_of_openais_sdk(
        self, openai_client: Client, status: int, error
    ):
        with pytest.raises(error) as raised:
            openai_client.chat.completions.create(model=f"m?status={status}", messages=MESSAGES)
        assert str(status) in raised.value.body["message"]
        assert raised.value.body.keys() == {"message", "type", "param", "code"}

    @pytest.mark.parametrize(
        ("status", "kind"),
        [(401, "authentication_error"), (529, "overloaded_error"), (500, "api_error")],
    )
    def test_an_error_status_raises_the_error_of_anthropics_sdk(
        self, anthropic_client: Client, status: int, kind: str
    ):
        with pytest.raises(anthropic.APIStatusError) as raised:
            anthropic_client.messages.create(
                model="m", max_tokens=1, messages=[], extra_headers={"x-echo-status": f"{status}"}
            )
        assert raised.value.status_code == status
        body = raised.value.response.json()
        assert body["type"] == "error"
        assert body["error"]["type"] == kind

    @pytest.mark.parametrize("path", CASES)
    @pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages":[]}', b'{"model":5}', b"\xff"])
    def test_a_malformed_body_is_refused(self, raw_client: httpx.Client, path: str, body: bytes):
        reply = raw_client.post(path, content=body)
        assert reply.status_code == 400
        assert reply.json()["error"]["type"] == "invalid_request_error"
        assert (reply.json().get("type") == "error") == (path == "/v1/messages")

    @pytest.mark.parametrize(
        ("path", "invalid"),
        [
            ("chat/completions", {"model": 5}),
            ("chat/completions", {"messages": "text"}),
            ("completions", {"prompt": 5}),
            ("responses", {"input": {}}),
            ("embeddings", {"input": 5}),
            ("embeddings", {"dimensions": "many"}),
        ],
    )
    def test_a_member_of_the_wrong_type_is_refused(
        self, raw_client: httpx.Client, path: str, invalid: dict[str, Any]
    ):
        body = {"model": "m", "messages": [], "prompt": "x", "input": "x"}
        assert raw_client.post(f"/v1/{path}", json=body).status_code == 200
        reply = raw_client.post(f"/v1/{path}", json=body | invalid)
        assert reply.status_code == 400
        assert repr(next(iter(invalid))) in reply.json()["error"]["message"]

    def test_an_unknown_path_or_method_is_refused(self, raw_client: httpx.Client):
        assert raw_client.get("/v1/nothing").json()["error"]["type"] == "invalid_request_error"
        assert raw_client.get("/v1/messages").json()["error"]["type"] == "invalid_request_error"
        assert raw_client.get("/v1/messages").status_code == 405

    def test_a_lone_surrogate_is_echoed_as_a_question_mark(self, raw_client: httpx.Client):
        body = b'{"model":"m","messages":[{"role":"user","content":"\\ud83d"}]}'
        reply = raw_client.post("/v1/chat/completions", content=body)
        assert reply.json()["choices"][0]["message"]["content"] == "You said: ?"
