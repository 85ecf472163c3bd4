"""Langfuse in trouble: the client notices nothing, and the log says so once."""

import asyncio
import json

import httpx
import pytest
from aiohttp import web

from local.runtime import Runtime, bundle

from .conftest import CHAT, SCRIPTED, Provider, Stage

CHUNKS = [
    f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{letter}"}}}}]}}\n\n'
    for letter in "abc"
]


async def _down(request):
    request.transport.abort()
    return web.Response()


async def _failing(request):
    return web.Response(status=500, text="oops")


async def _hanging(request):
    await asyncio.Event().wait()
    return web.Response()


async def _elsewhere(request):
    return web.Response(status=302, headers={"location": "https://login.example/"})


async def _html(request):
    return web.Response(text="<html>Welcome</html>", content_type="text/html")


async def _unauthorized(request):
    return web.json_response({"message": "Invalid credentials"}, status=401)


async def _refusing(request):
    errors = [{"id": "x", "status": 400, "message": "Event type not accepted"}]
    return web.json_response({"successes": [], "errors": errors}, status=207)


async def _flooding(request):
    return web.Response(body=b"x" * 5_000_000)


async def _quoting(request):
    errors = [{"id": "x", "status": 400, "message": "\ud83d" + "the prompt " * 1000}]
    return web.json_response({"successes": [], "errors": errors}, status=207)


TROUBLES = [
    (_down, "could not be reached"),
    pytest.param(_failing, "HTTP 500", marks=pytest.mark.long),
    pytest.param(_hanging, "could not be reached", marks=pytest.mark.long),
    (_elsewhere, "redirected to https://login.example/"),
    (_html, "not Langfuse's"),
    (_unauthorized, "HTTP 401"),
    pytest.param(_flooding, "more than 1048576 bytes", marks=pytest.mark.long),
    (_quoting, "[cut: "),
    (_refusing, "Event type not accepted"),
]


def ask(stage: Stage, streamed: bool) -> tuple[tuple[int, dict[str, str], bytes], str]:
    """What the client sees that must not differ, and the trace id, which does."""
    with stage.http() as client:
        body = {**CHAT, "stream": streamed}
        response = client.post("/v1/chat/completions", json=body, headers=SCRIPTED)
    headers = {k: v for k, v in response.headers.items() if k not in ("date", "server")}
    trace_id = headers.pop("x-portkey-trace-id")
    return (response.status_code, headers, response.content), trace_id


@pytest.mark.parametrize(("fault", "reason"), TROUBLES)
def test_the_client_gets_the_same(stage_with, provider: Provider, fault, reason):
    stage = stage_with(LANGFUSE_PROTOCOL="ingestion", LANGFUSE_RETRY_SECONDS="1")

    async def script(request):
        if (await request.json())["stream"]:
            return web.Response(text="".join(CHUNKS), content_type="text/event-stream")
        return web.json_response({"choices": [{"message": {"content": "abc"}}]})

    provider.script = script
    undisturbed = [ask(stage, streamed)[0] for streamed in (False, True)]
    stage.observations(2)
    stage.inbox.fault = fault
    seen, trace_id = ask(stage, streamed=False)
    (line,) = stage.wait_for_logs("trace_not_delivered", trace_ids=trace_id)
    assert reason in line["reason"]
    assert len(line["reason"]) < 400
    streamed, trace_id = ask(stage, streamed=True)
    assert [seen, streamed] == undisturbed
    # It has met this fault to the end, and not the next test's, which would then be no news.
    stage.inbox.wait_for_requests(1, where=lambda request: trace_id.encode() in request.body)
    if fault in (_down, _failing, _hanging, _flooding):
        stage.wait_for_logs("trace_not_delivered", trace_ids=trace_id)


@pytest.mark.parametrize("streamed", [False, True])
def test_nothing_waits_for_langfuse(stage: Stage, provider: Provider, streamed):
    """A whole conversation takes place while Langfuse has not answered the first upload."""
    answering = asyncio.Event()

    async def hold(request):
        await answering.wait()

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
    # All three answers are complete, and not one upload has been answered.
    stage.inbox.wait_for_requests(3)
    assert stage.observations(0) == []
    stage.inbox_loop.call_soon_threadsafe(answering.set)
    assert len(stage.observations(3)) == 3


def test_a_provider_that_is_not_there(stage: Stage):
    with stage.http() as client:
        headers = {**SCRIPTED, "x-portkey-provider": "nobody"}
        response = client.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert response.status_code == 502
        assert "nobody could not be reached" in response.json()["error"]["message"]
        assert client.get("/v1/models", headers=headers).status_code == 502
    observation = stage.observation()
    assert observation["level"] == "ERROR"
    assert observation["status_message"].startswith("The provider could not be reached")
    assert observation["metadata"]["ending"] == "unreachable"
    assert observation["trace_id"] == response.headers["x-portkey-trace-id"]
    assert observation["input"] == CHAT["messages"]


def test_without_langfuse_credentials_only_tracing_is_missing(stage_with, provider: Provider):
    async def script(request):
        body = await request.json()
        if body.get("stream"):
            return web.Response(text="".join(CHUNKS), content_type="text/event-stream")
        return web.json_response({"choices": []}, headers={"x-thing": "1"})

    provider.script = script
    stage, off = stage_with(), stage_with(LANGFUSE_PUBLIC_KEY=None, LANGFUSE_SECRET_KEY=None)
    for streamed in (False, True):
        with off.http() as client:
            body = {**CHAT, "stream": streamed}
            response = client.post("/v1/chat/completions", json=body, headers=SCRIPTED)
        (status, headers, content), _ = ask(stage, streamed)
        assert (response.status_code, response.content) == (status, content)
        assert headers.items() <= response.headers.items()
        assert "x-portkey-trace-id" not in response.headers
    assert len(stage.traced_so_far()) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"LANGFUSE_TRACING_ENABLED": "false"},
        {"LANGFUSE_SECRET_KEY": None},
        {"LANGFUSE_BASE_URL": "http://langfuse.example"},
    ],
)
def test_tracing_off_is_said_once(stage_with, changes):
    stage = stage_with(**changes)
    for _ in range(2):
        assert stage.openai().chat.completions.create(**CHAT).choices
    assert sum("tracing_off" in line for line in stage.gateway.logs) == 1
    assert stage.inbox.requests == []


def test_a_fault_of_our_own_is_a_clear_error(environment, provider: Provider):
    """Planted in two places: in the answer's way, and in the trace's."""
    broken = "\n\ndef effective_content_mode(*_):\n    raise ValueError('a text with content')\n"
    modules = bundle()
    with Runtime(
        environment, modules={**modules, "tracing.py": modules["tracing.py"] + broken}
    ) as r:
        response = httpx.post(f"{r.url}/v1/messages", json=CHAT, headers=SCRIPTED)
        assert response.status_code == 500
        assert response.json()["error"]["type"] == "api_error"
        r.wait_for_logs(lambda lines: any("request_failed" in line for line in lines))
        (line,) = (json.loads(line) for line in r.logs if "request_failed" in line)
        assert line["request_id"] == response.headers["request-id"]
        assert "a text with content" not in "".join(r.logs)
    broken = broken.replace("effective_content_mode", "observe")
    with Runtime(
        environment, modules={**modules, "tracing.py": modules["tracing.py"] + broken}
    ) as r:
        response = httpx.post(f"{r.url}/v1/messages", json=CHAT, headers=SCRIPTED)
        assert response.status_code == 200
        r.wait_for_logs(lambda lines: any("job_failed" in line for line in lines))
        assert "a text with content" not in "".join(r.logs)


def test_langfuse_host_is_understood(stage_with, environment):
    url = environment["LANGFUSE_BASE_URL"]
    stage = stage_with(LANGFUSE_BASE_URL=None, LANGFUSE_HOST=url + "/")
    stage.openai().chat.completions.create(**CHAT)
    assert stage.observation()["output"]["content"] == "You said: Hello there"


def test_environment_and_release(stage_with):
    stage = stage_with(LANGFUSE_TRACING_ENVIRONMENT="staging", LANGFUSE_RELEASE="r7")
    stage.openai().chat.completions.create(**CHAT)
    observation = stage.observation()
    assert (observation["environment"], observation["release"]) == ("staging", "r7")


def test_deep_json_does_not_end_the_interpreter(stage: Stage, provider: Provider):
    """In WebAssembly it would overflow the stack, which no `except` catches."""
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


def test_a_body_that_is_no_json_is_the_providers_to_refuse(stage: Stage):
    with stage.http() as client:
        response = client.post("/v1/chat/completions", content=b"{not json")
    assert response.status_code == 400
    observation = stage.observation()
    assert observation["input"] == "{not json"
    assert observation["level"] == "ERROR"
    assert json.loads(response.text)["error"]["message"] in observation["status_message"]
