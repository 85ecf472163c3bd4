"""The examples of docs/extending.md: they are applied to the source, the resulting Worker is
called, and their own tests are run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import httpx
import pytest
from aiohttp import web

from local.runtime import ROOT, Runtime, bundle
from local.server import Server
from tests.examples import changes

from .conftest import CHAT, TIMEOUT_SECONDS, Provider, Stage, record
from .deployment import PROVIDER_KEY, PUBLIC_KEY, SECRET_KEY

pytestmark = pytest.mark.long

RERANK = {"model": "acme-rank", "query": "Which one?", "documents": ["this", "that"], "top_n": 2}
RANKING = {
    "model": "acme-rank-2",
    "usage": {"total_tokens": 9},
    "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
}


def modules(*headings: str) -> dict[str, str]:
    """The Worker's modules, changed by the examples below these headings."""
    changed = bundle()
    for heading in headings:
        for path, text in changes(heading).items():
            if path.startswith("src/"):
                changed[path.removeprefix("src/")] = text
    return changed


def test_the_worker_with_a_new_dialect_and_a_new_provider(stage: Stage, provider: Provider):
    async def script(request):
        await record(provider, request)
        return web.json_response(RANKING)

    provider.script = script
    env = {**stage.gateway_env, "PROVIDERS": json.dumps({"acme": {"base_url": provider.url}})}
    with Runtime(env, modules=modules("A dialect", "A provider")) as gateway:
        headers = {"x-portkey-provider": "acme", "authorization": f"Bearer {PROVIDER_KEY}"}
        reply = httpx.post(
            f"{gateway.url}/v1/rerank", json=RERANK, headers=headers, timeout=TIMEOUT_SECONDS
        )
        assert reply.json() == RANKING
        refused = httpx.post(
            f"{gateway.url}/v1/responses", json={}, headers=headers, timeout=TIMEOUT_SECONDS
        )
        assert refused.status_code == 404
        observation = stage.observation()
    (request,) = provider.received
    headers = dict(request.headers)
    assert (request.target, headers["x-api-key"]) == ("/rerank", PROVIDER_KEY)
    assert headers["acme-version"] == "2026-11-01"
    assert observation["input"] == {"query": "Which one?", "documents": ["this", "that"]}
    assert observation["output"] == [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]
    assert observation["model"] == "acme-rank-2"
    assert observation["model_parameters"] == {"top_n": 2}
    assert observation["usage"] == {"input": 9, "total": 9}
    assert observation["metadata"]["provider"] == "acme"
    assert observation["metadata"]["request_type"] == "rerank"
    assert "notes" not in observation["metadata"]


@pytest.fixture
def collector() -> Iterator[tuple[str, SimpleQueue]]:
    """The URL of a server that accepts lines of JSON, and the requests that it received. Its first
    response is 503."""
    received: SimpleQueue = SimpleQueue()
    answers = [503, 204]

    async def take(request: web.Request) -> web.Response:
        received.put((dict(request.headers), await request.text()))
        return web.Response(status=answers.pop(0))

    app = web.Application()
    app.router.add_post("/observations", take)
    with Server(app) as server:
        yield server.url, received


def test_the_worker_with_a_new_export_protocol(stage: Stage, collector: tuple[str, SimpleQueue]):
    url, received = collector
    env = {**stage.gateway_env, "LANGFUSE_BASE_URL": url, "LANGFUSE_PROTOCOL": "lines"}
    with Runtime(env, modules=modules("An export protocol")) as gateway:
        headers = {"authorization": f"Bearer {PROVIDER_KEY}"}
        reply = httpx.post(
            f"{gateway.url}/v1/chat/completions",
            json=CHAT,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
        )
        assert reply.status_code == 200
        (first_headers, first), (_, again) = (
            received.get(timeout=TIMEOUT_SECONDS),
            received.get(timeout=TIMEOUT_SECONDS),
        )
        assert not [line for line in gateway.logs if "trace_not_delivered" in line]
    assert first == again
    (line,) = first.splitlines()
    observation = json.loads(line)
    assert json.loads(observation["input"]) == CHAT["messages"]
    assert "You said: Hello there" in observation["output"]
    assert observation["trace"]["id"] == reply.headers["x-portkey-trace-id"]
    assert first_headers["Authorization"].startswith("Basic ")
    assert not [key for key in (PUBLIC_KEY, SECRET_KEY, PROVIDER_KEY) if key in first]


@pytest.mark.parametrize(
    ("heading", "tests"),
    [
        ("A dialect", "tests/unit/dialects/test_recorded.py -k rerank"),
        ("A provider", "tests/unit/docs/test_tables.py tests/unit/upstream/test_target_request.py"),
        (
            "An export protocol",
            "tests/unit/export/test_exporter.py tests/unit/export/test_upload_results.py",
        ),
    ],
)
def test_the_examples_own_tests_pass(heading: str, tests: str, tmp_path: Path):
    """In a copy of the project, which ruff and the rules for imports check too."""
    for name in ("src", "local", "tests", "docs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for file in ROOT.glob("[!.]*.*"):
        shutil.copy(file, tmp_path)
    for path, text in changes(heading).items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    rules = "tests/unit/test_house_rules.py -k one_package or lead_down or heavy or short"
    for chosen in (tests, rules):
        paths, _, words = chosen.partition(" -k ")
        run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", *paths.split(), "-k", words)
    run(tmp_path, "ruff", "check", "--no-cache", "src")
    run(tmp_path, "ruff", "format", "--no-cache", "--check", "src")


def run(folder: Path, *command: str) -> None:
    # These tests must not have the options of this run.
    ours = ("PYTEST_", "HYPOTHESIS_")
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(ours)},
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
