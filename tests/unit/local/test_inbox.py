"""Tests of the Langfuse inbox: validation, responses, stored records, and simulated faults."""

import asyncio
import gzip
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web
from langfuse.api.ingestion.types import IngestionResponse

from local.inbox import Inbox
from local.inbox.inbox import MAX_BATCH_BYTES
from local.inbox.store import Observation
from local.server import Server

KEYS = ("pk-lf-test", "sk-lf-test")
TIME = "2026-11-23T12:00:00.000Z"
EARLIER_TIME = "2026-11-23T11:59:59.000Z"
LATER_TIME = "2026-11-23T12:00:01+00:00"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(*KEYS)


# `verify=False`: loading the CA certificates takes longer than any of these tests.
@pytest.fixture
def client(inbox: Inbox) -> Iterator[httpx.Client]:
    with (
        Server(inbox.app()) as server,
        httpx.Client(base_url=server.url, auth=KEYS, verify=False) as client,
    ):
        yield client


def event(kind: str, body: dict[str, Any], event_id: str = "", time: str = TIME) -> dict[str, Any]:
    return {"id": event_id or f"{kind}:{body.get('id')}", "type": kind, "timestamp": time} | {
        "body": body
    }


def generation(event_id: str = "", time: str = TIME, **body: Any) -> dict[str, Any]:
    return event("generation-create", {"id": "g1", "traceId": "t1"} | body, event_id, time)


def post(client: httpx.Client, *events: Any) -> dict[str, Any]:
    reply = client.post("/api/public/ingestion", json={"batch": events})
    assert reply.status_code == 207
    response = reply.json()
    IngestionResponse.model_validate(response)
    return response


class TestIngestionBatch:
    def test_a_batch_is_answered_event_by_event(self, client: httpx.Client, inbox: Inbox):
        response = post(
            client,
            event("trace-create", {"id": "t1", "name": "chat", "userId": "u", "tags": ["a"]}),
            generation(level="error"),
            generation("good", model="gpt-4o", startTime=TIME),
            "nothing",
        )
        assert response["successes"] == [
            {"id": "trace-create:t1", "status": 201},
            {"id": "good", "status": 201},
        ]
        invalid, not_an_object = response["errors"]
        assert (invalid["id"], invalid["status"]) == ("generation-create:g1", 400)
        assert invalid["message"] == "Invalid request data"
        assert "level" in invalid["error"]
        assert not_an_object["id"] == "unknown"
        [stored] = inbox.observations()
        assert stored["type"] == "GENERATION"
        assert stored["model"] == "gpt-4o"
        assert (stored["trace_name"], stored["user_id"], stored["tags"]) == ("chat", "u", ["a"])
        assert stored["protocol"] == "ingestion"
        [trace] = inbox.traces()
        assert trace["name"] == "chat"
        assert trace["timestamp"] == TIME

    @pytest.mark.parametrize(
        "time", [TIME, LATER_TIME, "2026-11-23T12:00:00-05:30", "2026-11-23T12:00Z"]
    )
    def test_valid_times_are_accepted(self, client: httpx.Client, time: str):
        assert post(client, generation(time=time, startTime=time))["errors"] == []

    @pytest.mark.parametrize(
        "time", ["2026-11-23T12:00:00", "2026-13-23T12:00:00Z", "2026-11-23", "now", 5, None]
    )
    def test_invalid_times_are_refused(self, client: httpx.Client, time: Any):
        assert len(post(client, generation() | {"timestamp": time})["errors"]) == 1
        if time is not None:
            assert len(post(client, generation(startTime=time))["errors"]) == 1

    @pytest.mark.parametrize(
        "body",
        [
            {"modelParameters": {"a": "x", "b": 1, "c": True, "d": None, "e": ["x"]}},
            {"modelParameters": {"a": {"b": "x"}, "c": 0.5, "d": {}, "e": []}},
            {"usage": {"input": 1, "output": 2, "total": 3, "unit": "TOKENS"}},
            {"usageDetails": {"input": 1, "x": None}, "costDetails": {"total": 0.25}},
            {"usageDetails": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}},
            {"promptName": "p", "promptVersion": 1},
            {"level": "WARNING", "statusMessage": None, "endTime": None},
            {"traceId": "x" * 800},
            {"environment": "Not Allowed"},
            {"input": 5, "output": ["x"], "metadata": "text", "unknown": {}},
        ],
    )
    def test_valid_bodies_are_accepted(self, client: httpx.Client, body: dict[str, Any]):
        assert post(client, generation(**body))["errors"] == []

    @pytest.mark.parametrize(
        "body",
        [
            {"modelParameters": {"a": [1]}},
            {"modelParameters": {"response_format": {"schema": {"type": "object"}}}},
            {"modelParameters": "x"},
            {"usage": {"input": 1.5}},
            {"usageDetails": {"input": 1.5}},
            {"usageDetails": {"input": -1}},
            {"usageDetails": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}}},
            {"costDetails": {"total": "0.1"}},
            {"promptName": "p"},
            {"level": "Error"},
            {"traceId": "x" * 801},
            {"id": None},
            {"id": "a\rb"},
            {"name": 5},
            {"statusMessage": {}},
            {"model": ["gpt"]},
        ],
    )
    def test_invalid_bodies_are_refused(
        self, client: httpx.Client, body: dict[str, Any], inbox: Inbox
    ):
        [error] = post(client, generation(**body))["errors"]
        assert error["status"] == 400
        assert inbox.observations() == []

    @pytest.mark.parametrize(
        "body", [{"userId": 5}, {"sessionId": ["s"]}, {"tags": "a"}, {"public": "yes"}]
    )
    def test_invalid_traces_are_refused(self, client: httpx.Client, body: dict[str, Any]):
        assert len(post(client, event("trace-create", {"id": "t"} | body))["errors"]) == 1

    def test_the_event_type_sets_the_observation_type(self, client: httpx.Client, inbox: Inbox):
        kinds = ["generation", "span", "event", "tool", "agent", "embedding"]
        response = post(
            client,
            *[event(f"{kind}-create", {"id": kind, "traceId": "t"}) for kind in kinds],
            event("score-create", {"id": "s", "name": "x", "value": 1}),
            event("dream-create", {"id": "d"}),
        )
        assert [error["id"] for error in response["errors"]] == ["dream-create:d"]
        assert [o["type"] for o in inbox.observations()] == [kind.upper() for kind in kinds]

    def test_an_invalid_environment_becomes_the_default(self, client: httpx.Client, inbox: Inbox):
        names = ["staging-2", "Staging", "langfuse-x", "x" * 41, 5, None]
        post(client, *[generation(id=f"{name}", environment=name) for name in names])
        assert [o["environment"] for o in inbox.observations()] == ["staging-2"] + ["default"] * 5


class TestUsage:
    @pytest.mark.parametrize(
        ("body", "usage"),
        [
            ({"usageDetails": {"input": 2, "output": 3}}, {"input": 2, "output": 3, "total": 5}),
            (
                {"usage": {"input": 9}, "usageDetails": {"input": 2, "total": 7}},
                {"input": 2, "total": 7},
            ),
            ({"usage": {"input": 1, "output": 2, "unit": "TOKENS"}}, {"input": 1, "output": 2}),
            ({"usage": {"promptTokens": 1, "totalTokens": 1}}, {"input": 1, "total": 1}),
            (
                {
                    "usageDetails": {
                        "prompt_tokens": 9,
                        "completion_tokens": 4,
                        "total_tokens": 13,
                        "prompt_tokens_details": {"cached_tokens": 5},
                    }
                },
                {"input": 4, "input_cached_tokens": 5, "output": 4, "total": 13},
            ),
            # With an unknown key Langfuse keeps the counts as they are and adds up all of them.
            (
                {
                    "usageDetails": {
                        "input_tokens": 9,
                        "output_tokens": 4,
                        "total_tokens": 13,
                        "cost": 0,
                    }
                },
                {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13, "cost": 0, "total": 26},
            ),
        ],
    )
    def test_usage_is_stored_under_the_names_that_langfuse_prices_by(
        self, client: httpx.Client, inbox: Inbox, body: dict, usage: dict
    ):
        assert post(client, generation(**body))["errors"] == []
        assert inbox.observations()[0]["usage"] == usage


class TestMerging:
    def test_an_absent_field_is_kept_and_null_overwrites(self, client: httpx.Client, inbox: Inbox):
        post(client, generation("1", model="a", output="x", metadata={"a": 1, "b": 1}))
        post(client, generation("2", LATER_TIME, output=None, metadata={"b": 2}))
        [stored] = inbox.observations()
        assert stored["model"] == "a"
        assert stored["output"] is None
        assert stored["metadata"] == {"a": 1, "b": 2}
        assert [raw["id"] for raw in stored["raw"]] == ["1", "2"]

    def test_events_apply_in_order_of_time_and_updates_last(
        self, client: httpx.Client, inbox: Inbox
    ):
        post(client, event("generation-update", {"id": "g1", "model": "updated"}, "u"))
        post(client, generation("2", LATER_TIME, model="new", name="new"))
        post(client, generation("1", TIME, model="old", name="old"))
        [stored] = inbox.observations()
        assert (stored["model"], stored["name"]) == ("updated", "new")

    def test_a_repeated_batch_changes_nothing(self, client: httpx.Client, inbox: Inbox):
        batch = [generation("1", model="a"), generation("2", LATER_TIME, model="b")]
        responses = [post(client, *batch), post(client, *batch), post(client, batch[0])]
        assert all(response["errors"] == [] for response in responses)
        [stored] = inbox.observations()
        assert stored["model"] == "b"
        assert len(stored["raw"]) == 2
        assert stored["received"] == 5

    def test_trace_events_are_merged(self, client: httpx.Client, inbox: Inbox):
        post(client, event("trace-create", {"id": "t1", "name": "app", "tags": ["a", "b"]}, "1"))
        post(client, event("trace-create", {"id": "t1", "userId": "u", "tags": ["b", "c"]}, "2"))
        [trace] = inbox.traces()
        assert (trace["name"], trace["user_id"], trace["tags"]) == ("app", "u", ["a", "b", "c"])

    @pytest.mark.parametrize(
        ("version", "body", "expected"),
        [
            # Version 3 keeps the first event's, and takes the event's own time where it has none.
            ("3.120.0", {}, (LATER_TIME, "default")),
            ("3.120.0", {"environment": "gw"}, (LATER_TIME, "gw")),
            ("3.120.0", {"timestamp": EARLIER_TIME}, (EARLIER_TIME, "default")),
            # Version 2 has no environments, and takes the time of each event that has one.
            ("2.95.0", {"environment": "gw"}, (TIME, "default")),
        ],
    )
    def test_a_trace_keeps_time_and_environment_of_its_first_event(
        self, client: httpx.Client, inbox: Inbox, version: str, body: dict, expected: tuple
    ):
        inbox.version = version
        first = event("trace-create", {"id": "t1", "name": "later"} | body, "1", LATER_TIME)
        app = {"id": "t1", "name": "app", "timestamp": TIME, "environment": "production"}
        post(client, first)
        post(client, event("trace-create", app, "2", EARLIER_TIME))
        post(client, first)
        [trace] = inbox.traces()
        assert (trace["timestamp"], trace["environment"]) == expected
        assert trace["name"] == "later"


class TestRefusedRequests:
    @pytest.mark.parametrize(
        "auth", [None, ("pk-lf-test", "wrong"), ("wrong", "sk-lf-test"), ("", "")]
    )
    @pytest.mark.parametrize("path", ["ingestion", "otel/v1/traces"])
    def test_a_request_with_wrong_keys_is_unauthorized(
        self, client: httpx.Client, inbox: Inbox, auth, path: str
    ):
        reply = client.post(f"/api/public/{path}", json={"batch": [generation()]}, auth=auth)
        assert reply.status_code == 401
        assert reply.json()["message"]
        assert inbox.observations() == []
        assert client.get("/api/public/traces", auth=auth).status_code == 401
        assert client.get("/api/public/health", auth=auth).status_code == 200

    def test_a_malformed_basic_credential_is_unauthorized(self, client: httpx.Client):
        for value in ("Bearer x", "Basic", "Basic %%%", "Basic cGs="):
            headers = {"authorization": value}
            reply = client.get("/api/public/traces", headers=headers, auth=None)
            assert reply.status_code == 401

    def test_an_inbox_without_keys_accepts_any_key_pair(self, client: httpx.Client):
        with Server(Inbox().app()) as server:
            url = f"{server.url}/api/public/traces"
            assert client.get(url, auth=("any", "pair")).status_code == 200
            assert client.get(url, auth=("any", "")).status_code == 401
            assert client.get(url, auth=None).status_code == 401

    def test_a_body_over_the_limit_is_refused(self, client: httpx.Client, inbox: Inbox):
        head = b'{"batch":[],"x":"'
        for size, status in ((MAX_BATCH_BYTES, 207), (MAX_BATCH_BYTES + 1, 413)):
            body = head + b"x" * (size - len(head) - 2) + b'"}'
            reply = client.post(
                "/api/public/ingestion", content=body, headers={"content-type": "application/json"}
            )
            assert (len(body), reply.status_code) == (size, status)
        assert reply.headers["content-type"].startswith("text/plain")
        assert len(inbox.requests) == 2

    @pytest.mark.parametrize(
        ("content", "headers"),
        [
            (gzip.compress(b'{"batch":[]}', mtime=0), {"content-encoding": "gzip"}),
            (b"not gzip", {"content-encoding": "gzip"}),
            (b'{"batch":[]}', {"content-type": "text/plain"}),
            (b'{"batch":', {}),
            (b'{"batch":[NaN]}', {}),
            (b'{"batch":{}}', {}),
            (b"[]", {}),
            (b"", {}),
        ],
    )
    def test_a_malformed_request_is_refused(
        self, client: httpx.Client, content: bytes, headers: dict[str, str]
    ):
        headers = {"content-type": "application/json"} | headers
        reply = client.post("/api/public/ingestion", content=content, headers=headers)
        assert reply.status_code == 400


OTLP = "/api/public/otel/v1/traces"
SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "chat",
    "startTimeUnixNano": "1795435200123000000",
    "endTimeUnixNano": "1795435201000000000",
}
EXPORT = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]}


class TestVersions:
    def test_health_contains_the_version(self, client: httpx.Client, inbox: Inbox):
        assert client.get("/api/public/health").json() == {"status": "OK", "version": "3.120.0"}
        inbox.version = "4.16.0"
        assert client.get("/api/public/health").json()["version"] == "4.16.0"

    def test_version_4_refuses_trace_events_with_207(self, client: httpx.Client, inbox: Inbox):
        inbox.version = "4.16.0"
        response = post(
            client,
            event("trace-create", {"id": "t1"}),
            generation(),
            event("score-create", {"id": "s", "name": "x", "value": 1}),
        )
        assert [success["id"] for success in response["successes"]] == ["score-create:s"]
        assert {(e["status"], e["message"]) for e in response["errors"]} == {
            (400, "Event type not accepted")
        }
        assert inbox.observations() == []
        assert client.post(OTLP, json=EXPORT).status_code == 200
        assert len(inbox.observations()) == 1

    def test_version_2_has_no_otlp_embeddings_or_usage_details(
        self, client: httpx.Client, inbox: Inbox
    ):
        inbox.version = "2.95.0"
        assert client.post(OTLP, json=EXPORT).status_code == 404
        response = post(
            client,
            event("embedding-create", {"id": "e"}),
            generation(
                usage={"input": 1, "output": 2, "total": 3},
                usageDetails={"input": 9},
                costDetails={"total": 1.0},
                environment="staging",
            ),
        )
        assert [error["id"] for error in response["errors"]] == ["embedding-create:e"]
        [stored] = inbox.observations()
        assert stored["usage"] == {"input": 1, "output": 2, "total": 3}
        assert stored["cost"] == {}
        assert stored["environment"] == "default"
        # Version 2 returns a trace only after a trace-create event.
        assert inbox.traces() == []
        assert client.get("/api/public/traces/t1").status_code == 404
        post(client, event("trace-create", {"id": "t1"}))
        assert client.get("/api/public/traces/t1").status_code == 200

    def test_both_protocols_store_the_same_fields(self, client: httpx.Client, inbox: Inbox):
        client.post(OTLP, json=EXPORT)
        post(client, generation())
        first, second = inbox.observations()
        assert first.keys() == second.keys()

    def test_a_span_replaces_the_observation_of_a_batch(self, client: httpx.Client, inbox: Inbox):
        post(client, generation(time=LATER_TIME, id=SPAN["spanId"], model="m"))
        client.post(OTLP, json=EXPORT)
        [stored] = inbox.observations()
        assert (stored["model"], stored["protocol"], stored["received"]) == (None, "otlp", 2)


class TestReading:
    def test_wait_for_checks_its_condition_at_each_arrival(
        self, client: httpx.Client, inbox: Inbox
    ):
        """It checks at its start, when a request arrives, and when an event is stored.

        The request is held until the second check is over, so that only the third one succeeds.
        """
        post(client, generation())
        checks = threading.Semaphore(0)

        def is_second(observation: Observation) -> bool:
            checks.release()
            return observation["id"] == "g2"

        async def hold(request: web.Request) -> None:
            assert await asyncio.to_thread(checks.acquire, timeout=5)

        def send() -> None:
            assert checks.acquire(timeout=5)
            post(client, generation(id="g2"))

        inbox.fault = hold
        sender = threading.Thread(target=send)
        sender.start()
        # Longer than any test may take: a timeout would be one more check.
        assert [o["id"] for o in inbox.wait_for(where=is_second, timeout=600)] == ["g2"]
        sender.join()
        assert [o["id"] for o in inbox.wait_for(2)] == ["g1", "g2"]

    def test_the_timeout_of_wait_for_lists_the_stored_observations(
        self, client: httpx.Client, inbox: Inbox
    ):
        post(client, generation(name="chat"))
        with pytest.raises(TimeoutError, match="GENERATION chat DEFAULT"):
            inbox.wait_for(2, timeout=0.01)

    def test_requests_are_recorded_unchanged(self, client: httpx.Client, inbox: Inbox):
        client.post("/api/public/ingestion?x=1", content=b"bad", headers={"X-Leak": "yes"})
        [request] = inbox.wait_for_requests()
        assert (request.method, request.path, request.body) == (
            "POST",
            "/api/public/ingestion?x=1",
            b"bad",
        )
        assert ("x-leak", "yes") in [(name.lower(), value) for name, value in request.headers]

    def test_the_oldest_requests_are_dropped(self, client: httpx.Client):
        inbox = Inbox(keep_requests=2)
        with Server(inbox.app()) as server:
            for number in range(3):
                client.get(f"{server.url}/api/public/health?{number}")
        assert [request.path[-1] for request in inbox.requests] == ["1", "2"]

    def test_clear_removes_everything(self, client: httpx.Client, inbox: Inbox):
        post(client, generation(), event("trace-create", {"id": "t1"}))
        inbox.clear()
        assert (inbox.observations(), inbox.traces(), inbox.requests) == ([], [], [])

    def test_the_public_api_returns_traces_and_observations(self, client: httpx.Client):
        post(
            client,
            event("trace-create", {"id": "t1", "userId": "u"}),
            generation(usageDetails={"input": 1}, completionStartTime=TIME),
            generation(id="g2", traceId="t2"),
        )
        trace = client.get("/api/public/traces/t1").json()
        assert (trace["userId"], [o["id"] for o in trace["observations"]]) == ("u", ["g1"])
        assert trace["observations"][0]["completionStartTime"] == TIME
        assert trace["observations"][0]["usageDetails"] == {"input": 1, "total": 1}
        listed = client.get("/api/public/traces?limit=1").json()
        assert [found["id"] for found in listed["data"]] == ["t2"]
        assert listed["meta"]["totalItems"] == 2
        found = client.get("/api/public/observations?traceId=t2").json()["data"]
        assert [observation["id"] for observation in found] == ["g2"]
        assert client.get("/api/public/traces/nothing").status_code == 404


class TestFaults:
    def test_a_fault_may_return_a_response(self, client: httpx.Client, inbox: Inbox):
        async def fail(request: web.Request) -> web.StreamResponse | None:
            if request.path.endswith("/health"):
                return None
            return web.Response(status=503, text="down")

        inbox.fault = fail
        assert client.get("/api/public/health").status_code == 200
        reply = client.post("/api/public/ingestion", json={"batch": [generation()]})
        assert (reply.status_code, reply.text) == (503, "down")
        assert len(inbox.wait_for_requests()) == 1
        assert inbox.observations() == []
        inbox.fault = None
        assert post(client, generation())["errors"] == []

    def test_a_fault_may_close_the_connection(self, client: httpx.Client, inbox: Inbox):
        async def cut(request: web.Request) -> web.StreamResponse | None:
            assert request.transport
            request.transport.close()
            return None

        inbox.fault = cut
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/api/public/ingestion", json={"batch": []})

    def test_a_hanging_fault_does_not_block_the_shutdown(self, inbox: Inbox):
        async def hang(request: web.Request) -> web.StreamResponse | None:
            return await asyncio.Future()

        inbox.fault = hang
        server = Server(inbox.app())
        with httpx.Client(base_url=server.url, verify=False) as client:
            request_thread = threading.Thread(target=lambda: _expect_disconnect(client))
            request_thread.start()
            inbox.wait_for_requests(where=lambda request: request.method == "GET")
            server.close()
            request_thread.join(5)
        assert not request_thread.is_alive()


def _expect_disconnect(client: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/api/public/health")
