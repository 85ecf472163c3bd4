"""Faults of Langfuse, of a provider and of the gateway itself: what the client receives, and what
the log reports."""

import asyncio
import json

import httpx
import pytest
from aiohttp import web

from local.runtime import Runtime, bundle

from .conftest import CHAT, SCRIPTED, TIMEOUT_SECONDS, Provider, Stage

CHUNKS = [
    f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{letter}"}}}}]}}\n\n'
    for letter in "abc"
]


async def _closing(request):
    request.transport.abort()
    return web.Response()


async def _failing(request):
    return web.Response(status=500, text="oops")


async def _hanging(request):
    await asyncio.Event().wait()
    return web.Response()


async def _redirecting(request):
    return web.Response(status=302, headers={"location": "https://login.example/"})


async def _html(request):
    return web.Response(text="<html>Welcome</html>", content_type="text/html")


async def _unauthorized(request):
    return web.json_response({"message": "Invalid credentials"}, status=401)


async def _refusing(request):
    errors = [{"id": "x", "status": 400, "message": "Event type not accepted"}]
    return web.json_response({"successes": [], "errors": errors}, status=207)


async def _too_long(request):
    return web.Response(body=b"x" * 5_000_000)


async def _quoting(request):
    errors = [{"id": "x", "status": 400, "message": "\ud83d" + "the prompt " * 1000}]
    return web.json_response({"successes": [], "errors": errors}, status=207)


# Faults that are tried again until the time is over, and those that are not.
RETRIED = [
    (_closing, "could not be reached"),
    (_failing, "HTTP 500"),
    (_hanging, "could not be reached"),
    (_too_long, "more than 1048576 bytes"),
]
FINAL = [
    (_redirecting, "redirected to https://login.example/"),
    (_html, "not Langfuse's"),
    (_unauthorized, "HTTP 401"),
    (_quoting, "[cut: "),
    (_refusing, "Event type not accepted"),
]


def call(stage: Stage, streamed: bool) -> tuple[tuple[int, dict[str, str], bytes], str]:
    """What the client receives that is equal for each call, and the trace id, which is not."""
    with stage.http() as client:
        body = {**CHAT, "stream": streamed}
        response = client.post("/v1/chat/completions", json=body, headers=SCRIPTED)
    headers = {k: v for k, v in response.headers.items() if k not in ("date", "server")}
    trace_id = headers.pop("x-portkey-trace-id")
    return (response.status_code, headers, response.content), trace_id


@pytest.fixture
def with_ingestion(stage_with) -> Stage:
    return stage_with(LANGFUSE_PROTOCOL="ingestion")


@pytest.mark.parametrize(("fault", "reason"), FINAL)
def test_a_final_fault_of_langfuse_does_not_change_the_reply(
    with_ingestion: Stage, fault, reason: str
):
    check_replies(with_ingestion, with_ingestion, fault, reason)


@pytest.mark.long
@pytest.mark.parametrize(("fault", "reason"), RETRIED)
def test_a_fault_of_langfuse_that_is_retried_does_not_change_the_reply(
    stage: Stage, stage_with, fault, reason: str
):
    impatient = stage_with(LANGFUSE_PROTOCOL="ingestion", LANGFUSE_RETRY_SECONDS="1")
    check_replies(stage, impatient, fault, reason)


def check_replies(undisturbed: Stage, stage: Stage, fault, reason: str) -> None:
    """Compare the replies of two gateways, the second one with a fault of Langfuse."""

    async def script(request):
        if (await request.json())["stream"]:
            return web.Response(text="".join(CHUNKS), content_type="text/event-stream")
        return web.json_response({"choices": [{"message": {"content": "abc"}}]})

    stage.provider.script = script
    expected = [call(undisturbed, streamed)[0] for streamed in (False, True)]
    undisturbed.observations(2)
    stage.inbox.fault = fault
    whole, trace_id = call(stage, streamed=False)
    (line,) = stage.wait_for_logs("trace_not_delivered", trace_ids=trace_id)
    assert reason in line["reason"]
    assert len(line["reason"]) < 400
    streamed, trace_id = call(stage, streamed=True)
    assert [whole, streamed] == expected
    # The second upload must meet this fault completely, and not that of the next test. A
    # misconfiguration is not logged again.
    stage.inbox.wait_for_requests(
        1, TIMEOUT_SECONDS, where=lambda request: trace_id.encode() in request.body
    )
    if fault in [retried for retried, _ in RETRIED]:
        stage.wait_for_logs("trace_not_delivered", trace_ids=trace_id)


@pytest.mark.parametrize("streamed", [False, True])
def test_clients_do_not_wait_for_langfuse(stage: Stage, provider: Provider, streamed):
    """Three calls end while Langfuse has not responded to the first upload."""
    released = asyncio.Event()

    async def hold(request):
        await released.wait()

    async def script(request):
        if not streamed:
            return web.json_response({"choices": [{"message": {"content": "abc"}}]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for n, chunk in enumerate(CHUNKS):
            await provider.gate(f"client has {n}").wait()
            await response.write(chunk.encode())
        return response

    provider.script = script
    stage.inbox.fault = hold
    for _ in range(3):
        provider.gates.clear()
        body = {**CHAT, "stream": streamed}
        with (
            stage.http() as client,
            client.stream("POST", "/v1/chat/completions", json=body, headers=SCRIPTED) as response,
        ):
            provider.open("client has 0")
            for n, _ in enumerate(response.iter_raw(), 1):
                provider.open(f"client has {n}")
    # All three replies are complete, and no upload has a response.
    stage.inbox.wait_for_requests(3, TIMEOUT_SECONDS)
    assert stage.observations_now() == []
    stage.inbox_loop.call_soon_threadsafe(released.set)
    assert len(stage.observations(3)) == 3


def test_an_unreachable_provider(stage: Stage):
    with stage.http() as client:
        headers = {**SCRIPTED, "x-portkey-provider": "offline"}
        response = client.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert response.status_code == 502
        assert "offline could not be reached" in response.json()["error"]["message"]
        assert client.get("/v1/models", headers=headers).status_code == 502
    observation = stage.observation()
    assert observation["level"] == "ERROR"
    assert observation["status_message"].startswith("The provider could not be reached")
    assert observation["metadata"]["ending"] == "unreachable"
    assert observation["trace_id"] == response.headers["x-portkey-trace-id"]
    assert observation["input"] == CHAT["messages"]


def test_without_langfuse_keys_replies_are_the_same(
    stage: Stage, untraced: Stage, provider: Provider
):
    async def script(request):
        body = await request.json()
        if body.get("stream"):
            return web.Response(text="".join(CHUNKS), content_type="text/event-stream")
        return web.json_response({"choices": []}, headers={"x-thing": "1"})

    provider.script = script
    for streamed in (False, True):
        with untraced.http() as client:
            body = {**CHAT, "stream": streamed}
            response = client.post("/v1/chat/completions", json=body, headers=SCRIPTED)
        (status, headers, content), _ = call(stage, streamed)
        assert (response.status_code, response.content) == (status, content)
        assert headers.items() <= response.headers.items()
        assert "x-portkey-trace-id" not in response.headers
    assert len(stage.traced_so_far()) == 2


def test_that_tracing_is_off_is_logged_once(untraced: Stage):
    for _ in range(2):
        assert untraced.openai().chat.completions.create(**CHAT).choices
    assert sum("tracing_off" in line for line in untraced.gateway.logs) == 1
    assert untraced.observations_now() == []


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [{"LANGFUSE_TRACING_ENABLED": "false"}, {"LANGFUSE_BASE_URL": "http://langfuse.example"}],
)
def test_variables_that_turn_tracing_off(stage_with, changes):
    test_that_tracing_is_off_is_logged_once(stage_with(**changes))


def test_an_exception_in_the_gateway_is_a_clear_error(environment, provider: Provider):
    """In the code before the response, and in the code after it."""
    broken = "\n\ndef effective_content_mode(*_):\n    raise ValueError('a text with content')\n"
    modules = bundle()
    with Runtime(
        environment, modules={**modules, "tracing.py": modules["tracing.py"] + broken}
    ) as r:
        response = httpx.post(f"{r.url}/v1/messages", json=CHAT, headers=SCRIPTED)
        assert response.status_code == 500
        assert response.json()["error"]["type"] == "api_error"
        r.wait_for_logs(
            lambda lines: any("request_failed" in line for line in lines), TIMEOUT_SECONDS
        )
        (line,) = (json.loads(line) for line in r.logs if "request_failed" in line)
        assert line["request_id"] == response.headers["request-id"]
        assert "a text with content" not in "".join(r.logs)
    broken = broken.replace("effective_content_mode", "observe")
    with Runtime(
        environment, modules={**modules, "tracing.py": modules["tracing.py"] + broken}
    ) as r:
        response = httpx.post(f"{r.url}/v1/messages", json=CHAT, headers=SCRIPTED)
        assert response.status_code == 200
        r.wait_for_logs(lambda lines: any("job_failed" in line for line in lines), TIMEOUT_SECONDS)
        assert "a text with content" not in "".join(r.logs)


def test_langfuse_host_environment_and_release(with_variables: Stage):
    client = with_variables.openai(default_headers={"x-portkey-provider": "openai"})
    client.chat.completions.create(**CHAT)
    observation = with_variables.observation()
    assert observation["output"]["content"] == "You said: Hello there"
    assert (observation["environment"], observation["release"]) == ("staging", "r7")


def test_deep_json_does_not_end_the_interpreter(stage: Stage, provider: Provider):
    """It would overflow the stack of WebAssembly, which no `except` catches."""
    deep = "[" * 8000

    async def script(request):
        return web.Response(text=deep, content_type="application/json")

    provider.script = script
    headers = {**SCRIPTED, "x-portkey-metadata": deep}
    with stage.http() as client:
        response = client.post("/v1/chat/completions", content=deep, headers=headers)
        assert response.text == deep
        headers["x-portkey-config"] = '{"a":' * 2000
        response = client.post("/v1/chat/completions", content=deep, headers=headers)
        assert response.status_code == 400
    assert (
        "request: ValueError: JSON is nested too deep" in stage.observation()["metadata"]["notes"]
    )

    async def fault(request):
        return web.Response(text="[" * 200_000, status=207, content_type="application/json")

    stage.inbox.fault = fault
    assert stage.openai().chat.completions.create(**CHAT).choices
    stage.wait_for_logs("trace_not_delivered")
    assert stage.openai().chat.completions.create(**CHAT).choices


def test_a_body_that_is_not_json_is_sent_to_the_provider(stage: Stage):
    with stage.http() as client:
        response = client.post("/v1/chat/completions", content=b"{not json")
    assert response.status_code == 400
    observation = stage.observation()
    assert observation["input"] == "{not json"
    assert observation["level"] == "ERROR"
    assert json.loads(response.text)["error"]["message"] in observation["status_message"]
