"""Tests of the server side of the inbox's page: files, the list, one trace, the raw payload."""

import json
import re
import threading
from typing import Any

import httpx
import pytest

from local.inbox import Inbox
from local.inbox import views as inbox_views
from local.inbox.store import Part, Store
from local.inbox.views import PAGE

TIME = "2026-11-23T12:00:00.000Z"
FIRST_TOKEN_TIME = "2026-11-23T12:00:00.250Z"
LATER_TIME = "2026-11-23T12:00:01.500+00:00"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def event(kind: str, body: dict[str, Any], time: str = TIME) -> dict[str, Any]:
    return {"id": f"{kind}:{body['id']}", "type": kind, "timestamp": time, "body": body}


def generation(trace: str, **body: Any) -> dict[str, Any]:
    return event("generation-create", {"id": f"g-{trace}", "traceId": trace, **body})


def post(client: httpx.Client, *events: dict[str, Any]) -> None:
    # ASCII, so that a lone surrogate is sent as an escape.
    body, headers = json.dumps({"batch": events}), {"content-type": "application/json"}
    answer = client.post("/api/public/ingestion", content=body, headers=headers).json()
    assert answer["errors"] == []


def get_list(client: httpx.Client, **query: Any) -> dict[str, Any]:
    return client.get("/api/inbox", params=query, auth=None).json()


def ids(reply: dict[str, Any]) -> list[str]:
    return [trace["id"] for trace in reply["traces"]]


class TestFiles:
    def test_the_page_loads_only_its_own_files(self, client: httpx.Client):
        page = client.get("/", auth=None)
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        links = re.findall(r'(?:href|src)="(?!data:)([^"]+)"', page.text)
        assert len(links) == 3
        for file in PAGE.iterdir():
            reply = client.get(f"/page/{file.name}", auth=None)
            assert reply.headers["content-security-policy"] == policy
            assert reply.text == file.read_text()
        for path in links:
            assert client.get(path, auth=None).status_code == 200

    @pytest.mark.parametrize("file", sorted(PAGE.iterdir()), ids=lambda file: file.name)
    def test_a_page_file_inserts_no_html_loads_nothing_and_is_short(self, file):
        text = file.read_text()
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert sink not in text
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)\w", text)
        assert text.count("\n") <= 400

    @pytest.mark.parametrize("name", ["nothing.js", "..%2Finbox.py", "%2E%2E", ""])
    def test_no_other_file_is_served(self, client: httpx.Client, name: str):
        assert client.get(f"/page/{name}", auth=None).status_code == 404


HOSTS = {
    "127.0.0.1:8788": 200,
    "localhost:8788": 200,
    "[::1]:8788": 200,
    "127.8.8.8": 200,
    "rebound.example:8788": 403,
    "127.0.0.1.rebound.example": 403,
    "127evil": 403,
    "localhost.example": 403,
    "[::": 403,
    "": 403,
}


READABLE_PATHS = [
    *("/", "/page/main.js", "/api/inbox", "/api/inbox/raw?id=t1", "/api/inbox/trace?id=t1"),
    *("/api/public/traces", "/api/public/traces/t1"),
    *("/api/public/observations", "/api/public/v2/observations"),
]


@pytest.mark.parametrize("path", READABLE_PATHS)
@pytest.mark.parametrize(("host", "status"), HOSTS.items())
def test_a_host_name_other_than_loopback_is_refused(
    client: httpx.Client, path: str, host: str, status: int
):
    post(client, event("trace-create", {"id": "t1"}))
    assert client.get(path, headers={"host": host}).status_code == status


def test_the_readable_paths_include_every_route(inbox: Inbox):
    routes = {route.path.partition("{")[0] for route in inbox_views.routes(inbox)}
    assert all(any(path.startswith(route) for path in READABLE_PATHS) for route in routes)
    assert len(routes) == len(READABLE_PATHS)


class TestList:
    def test_the_list_has_a_summary_of_each_trace(self, client: httpx.Client):
        post(
            client,
            event("trace-create", {"id": "t1", "name": "ask", "userId": "ada", "sessionId": "s1"}),
            generation(
                "t1",
                model="gpt-4o",
                startTime=TIME,
                completionStartTime=FIRST_TOKEN_TIME,
                endTime=LATER_TIME,
                usageDetails={"input": 2, "output": 3},
                metadata={"provider": "openai"},
                level="WARNING",
                input="secret",
            ),
        )
        [trace] = get_list(client)["traces"]
        assert trace == {
            "id": "t1",
            "number": 1,
            "time": 1795435200000,
            "name": "ask",
            "model": "gpt-4o",
            "models": ["gpt-4o"],
            "provider": "openai",
            "user": "ada",
            "session": "s1",
            "tokens": 5,
            "latency": 1500,
            "first": 250,
            "level": "WARNING",
            "steps": 1,
        }

    def test_missing_fields_are_null_in_the_list(self, client: httpx.Client):
        post(client, event("span-create", {"id": "s", "traceId": "t1"}))
        [trace] = get_list(client)["traces"]
        assert (trace["name"], trace["level"], trace["tokens"]) == ("t1", "DEFAULT", 0)
        for name in ("model", "provider", "user", "session", "latency", "first"):
            assert trace[name] is None

    @pytest.mark.parametrize(
        ("metadata", "first"),
        [
            ({"time_to_first_token_ms": 750}, 750),
            ({"time_to_first_token_ms": "soon"}, 250),
            ({"time_to_first_token_ms": True}, 250),
            ({}, 250),
        ],
    )
    def test_the_first_token_of_a_trace_is_that_of_the_request(
        self, client: httpx.Client, metadata: dict[str, Any], first: int
    ):
        """A request with attempts is a span, which has no time of its first token in Langfuse."""
        span = {"id": "s", "traceId": "t1", "startTime": "2026-11-23T11:59:59.500Z"}
        attempt = {"startTime": TIME, "completionStartTime": FIRST_TOKEN_TIME, "model": "m"}
        post(
            client,
            event("span-create", {**span, "metadata": metadata}),
            generation("t1", parentObservationId="s", **attempt),
        )
        assert get_list(client)["traces"][0]["first"] == first

    @pytest.mark.parametrize(
        "metadata",
        [
            {"provider": "groq", "attributes": {"gen_ai.provider.name": "other"}},
            {"attributes": {"gen_ai.provider.name": "groq"}},  # Langfuse 3
            {"attributes.gen_ai.provider.name": "groq"},  # Langfuse 4
        ],
    )
    def test_the_provider_is_that_of_the_gateway_or_of_another_tracer(
        self, client: httpx.Client, metadata: dict[str, Any]
    ):
        post(client, generation("t1", metadata=metadata))
        assert get_list(client)["traces"][0]["provider"] == "groq"

    @pytest.mark.parametrize(
        ("bodies", "main"),
        [
            ([{"model": "a"}, {"model": "b"}], "1"),
            ([{"model": "a"}, {"model": "b", "level": "ERROR"}], "0"),
            ([{"model": "a", "level": "ERROR"}, {}], "0"),
            ([{"model": "a", "startTime": LATER_TIME}, {"model": "b", "startTime": TIME}], "0"),
            ([{}], "0"),
        ],
        ids=["last", "well", "model", "by time", "only"],
    )
    def test_the_last_successful_generation_is_the_main_one(
        self, client: httpx.Client, bodies: list[dict], main: str
    ):
        times = [{"startTime": f"2026-11-23T12:00:0{n}Z"} for n in range(len(bodies))]
        post(
            client,
            *(
                event("generation-create", {"id": str(n), "traceId": "t1", **times[n], **body})
                for n, body in enumerate(bodies)
            ),
            event("span-create", {"id": "s", "traceId": "t1", "startTime": TIME}),
        )
        assert client.get("/api/inbox/trace?id=t1", auth=None).json()["main"] == main
        assert get_list(client)["traces"][0]["model"] == bodies[int(main)].get("model")

    def test_a_cycle_of_parents_has_a_level(self, client: httpx.Client):
        fields = {"traceId": "t1", "level": "ERROR"}
        post(
            client,
            event("span-create", {"id": "a", "parentObservationId": "b", **fields}),
            event("span-create", {"id": "b", "parentObservationId": "a", **fields}),
        )
        assert get_list(client)["traces"][0]["level"] == "ERROR"

    def test_an_update_contains_only_changed_traces(self, client: httpx.Client):
        post(client, generation("t1"), generation("t2", model="a", sessionId="x"))
        first = get_list(client)
        assert (ids(first), first["whole"], first["total"]) == (["t2", "t1"], True, 2)
        post(client, generation("t3", model="b"))
        second = get_list(client, since=first["revision"])
        assert (ids(second), second["whole"], second["total"]) == (["t3"], False, 3)
        assert (second["models"], second["levels"]) == (["b"], ["DEFAULT"])
        post(client, event("span-update", {"id": "s", "traceId": "t1"}))
        third = get_list(client, since=second["revision"])
        assert ids(third) == ["t1"]
        # A changed trace keeps its number.
        assert (third["traces"][0]["number"], third["traces"][0]["steps"]) == (1, 2)
        assert ids(get_list(client, since=first["revision"])) == ["t3", "t1"]

    @pytest.mark.parametrize("since", ["", "nonsense", "other-7", "-", "other-x"])
    def test_an_unknown_revision_returns_the_whole_list(self, client: httpx.Client, since: str):
        post(client, generation("t1"))
        assert get_list(client, since=since)["whole"] is True

    def test_a_cleared_inbox_returns_a_whole_empty_list(self, client: httpx.Client, inbox: Inbox):
        post(client, generation("t1"))
        before = get_list(client)["revision"]
        inbox.clear()
        after = get_list(client, since=before)
        assert (after["whole"], after["total"], ids(after)) == (True, 0, [])

    def test_a_list_request_is_held_until_a_trace_changes(self, client: httpx.Client, inbox: Inbox):
        """A request that changes no trace does not end it."""
        revision = get_list(client)["revision"]
        replies = []
        request_thread = threading.Thread(
            target=lambda: replies.append(get_list(client, since=revision))
        )
        request_thread.start()
        # Both requests notify the held one, but the first contains no trace.
        client.get("/api/public/health")
        assert replies == []
        post(client, generation("t1"))
        request_thread.join(10)
        assert [ids(reply) for reply in replies] == [["t1"]]

    def test_a_held_list_request_ends_after_a_time_limit(self, client: httpx.Client, monkeypatch):
        monkeypatch.setattr(inbox_views, "HOLD_SECONDS", 0.01)
        post(client, generation("t1"))
        revision = get_list(client)["revision"]
        after = get_list(client, since=revision)
        assert (after["revision"], ids(after), after["whole"]) == (revision, [], False)

    def test_the_limit_keeps_the_newest_traces(self, client: httpx.Client):
        post(client, *(generation(f"t{n}") for n in range(7)))
        reply = get_list(client, limit=3)
        assert (ids(reply), reply["total"], reply["matching"]) == (["t6", "t5", "t4"], 7, 7)

    def test_version_2_lists_only_traces_with_a_trace_create(
        self, client: httpx.Client, inbox: Inbox
    ):
        inbox.version = "2.95.0"
        post(client, generation("t1"), event("trace-create", {"id": "t2"}))
        assert ids(get_list(client)) == ["t2"]

    def test_attribute_values_that_are_not_text_are_listed_as_text(self, client: httpx.Client):
        attributes = [
            {"key": "langfuse.observation.model.name", "value": {"arrayValue": {"values": []}}},
            {"key": "gen_ai.response.model", "value": {"intValue": "7"}},
            {"key": "session.id", "value": {"intValue": "42"}},
        ]
        span = {"traceId": "1" * 32, "spanId": "2" * 16, "name": "s", "attributes": attributes}
        times = {"startTimeUnixNano": "1000000", "endTimeUnixNano": "3000000"}
        export = {"resourceSpans": [{"scopeSpans": [{"spans": [span | times]}]}]}
        assert client.post("/api/public/otel/v1/traces", json=export).status_code == 200
        [trace] = get_list(client)["traces"]
        assert (trace["model"], trace["session"], trace["latency"]) == ("7", "42", 2)
        assert ids(get_list(client, session="42", model="7")) == ["1" * 32]


class TestFilters:
    @pytest.fixture(autouse=True)
    def _traces(self, client: httpx.Client):
        post(
            client,
            generation("t1", model="gpt", level="ERROR", statusMessage="Rate limit reached"),
            generation("t2", model="gpt", input=[{"role": "user", "content": "Straße 4711"}]),
            event("trace-create", {"id": "t3", "sessionId": "s1", "tags": ["winter"]}),
            generation("t3", model="claude", output={"deep": [{"er": "a needle"}]}),
            event("generation-create", {"id": "g-3", "traceId": "t3", "model": "llama"}),
        )

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"model": "gpt"}, ["t2", "t1"]),
            ({"model": "llama"}, ["t3"]),
            ({"level": "ERROR"}, ["t1"]),
            ({"session": "s1"}, ["t3"]),
            ({"text": "NEEDLE"}, ["t3"]),
            ({"text": "rate reached"}, ["t1"]),
            ({"text": "strasse"}, ["t2"]),
            ({"text": "4711"}, ["t2"]),
            ({"text": "winter"}, ["t3"]),
            ({"text": "t1"}, ["t1"]),
            ({"text": "content"}, []),  # the name of a member is not searched
            ({"text": "  "}, ["t3", "t2", "t1"]),
            ({"model": "gpt", "level": "DEFAULT", "text": "4711"}, ["t2"]),
            ({"model": "gpt", "session": "s1"}, []),
        ],
    )
    def test_filters_apply_alone_and_combined(
        self, client: httpx.Client, query: dict, found: list[str]
    ):
        reply = get_list(client, **query)
        assert (ids(reply), reply["matching"], reply["total"]) == (found, len(found), 3)
        # The choices of a filter include all traces.
        assert reply["models"] == ["claude", "gpt", "llama"]

    def test_a_trace_that_no_longer_matches_is_listed_as_gone(self, client: httpx.Client):
        before = get_list(client, level="DEFAULT")
        post(client, event("generation-update", {"id": "g-t2", "level": "ERROR", "traceId": "t2"}))
        after = get_list(client, level="DEFAULT", since=before["revision"])
        assert (ids(after), after["gone"], after["matching"]) == ([], ["t2"], 1)


class TestTrace:
    def test_an_infinite_number_is_returned_as_text(self, client: httpx.Client):
        body = json.dumps({"batch": [generation("t1", output="much")]}).replace('"much"', "1e999")
        headers = {"content-type": "application/json"}
        client.post("/api/public/ingestion", content=body, headers=headers)
        reply = client.get("/api/inbox/trace?id=t1", auth=None)
        assert reply.json()["observations"][0]["output"] == "inf"

    def test_a_trace_is_returned_with_its_observations(self, client: httpx.Client):
        post(client, generation("t1", input={"deep": [1]}), generation("t2"))
        trace = client.get("/api/inbox/trace?id=t1", auth=None).json()
        [observation] = trace["observations"]
        assert (trace["id"], observation["input"]) == ("t1", {"deep": [1]})
        assert "raw" not in observation
        assert client.get("/api/inbox/trace?id=t9", auth=None).status_code == 404
        assert client.get("/api/inbox/trace", auth=None).status_code == 404

    def test_the_raw_payload_is_returned_unchanged(self, client: httpx.Client):
        sent = [event("trace-create", {"id": "t1"}), generation("t1", input=[2**70, "\ud83d", "ß"])]
        post(client, *sent, generation("t2"))
        payload = client.get("/api/inbox/raw?id=t1", auth=None)
        assert payload.json() == sent
        assert str(2**70) in payload.text
        assert "ß" in payload.text
        assert client.get("/api/inbox/raw", auth=None).json() == []

    def test_an_observation_may_move_to_another_trace(self, client: httpx.Client):
        post(client, generation("t1"))
        post(client, event("generation-update", {"id": "g-t1", "traceId": "t2"}, time=LATER_TIME))
        assert ids(get_list(client)) == ["t2"]
        assert client.get("/api/inbox/trace?id=t1", auth=None).status_code == 404


def part(trace_id: str, name: str) -> Part:
    fields = {"trace_id": trace_id, "type": "SPAN", "name": name}
    return Part(name, (False, 0.0), fields, {"name": name}, "ingestion")


def test_the_store_drops_the_oldest_records():
    store = Store(limit=2)
    for name in ("a", "b", "c"):
        store.add_observation(name, part(f"trace of {name}", name))
    assert [trace["id"] for trace in store.traces(implied=True)] == ["trace of b", "trace of c"]
    assert (store.trace("trace of a"), store.raw("trace of a"), store.count) == (None, [], 2)
    for name in ("trace of b", "y", "z"):
        store.add_trace(name, part(name, name))
    # Of the first one, only its observation is left.
    assert [trace["id"] for trace in store.traces(implied=False)] == ["y", "z"]
    assert next(trace["id"] for trace in store.traces(implied=True)) == "trace of b"
    assert store.raw("trace of b") == [{"name": "b"}]
    store.clear()
    assert (store.traces(implied=True), store.count) == ([], 0)
