"""The examples in the docs, run against a gateway with the echo provider."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from local.__main__ import CONFIGS, everything_at
from local.runtime import ROOT
from tests.pages import OWN_TESTS, PAGES, Block, blocks, text_of

from .conftest import TIMEOUT_SECONDS, Stage
from .deployment import PROVIDER_KEY

pytestmark = pytest.mark.long

KEY = "gw_of-an-example-0123456789abcdef"
# Commands that are replaced by a function without effect, with the reason.
LEFT_OUT = {
    "make": "installs; test_demo runs what `make demo` and `make key` do",
    "wrangler": "needs an account at Cloudflare, which test_dry_run does without",
    "cp": "would write into the project",
    "git": "would write into the project",
    "jq": "need not be installed; test_deploy_page runs it where it is",
    "npm": "would change what is installed",
    "pip": "would fetch from a registry",
}
# A path of Langfuse's API that the inbox does not have.
MISSING_PATH = "/api/public/projects"
# Addresses that stand for this stage's gateway.
GATEWAY = re.compile(r"http://127\.0\.0\.1:8787|https://[\w.-]*YOUR-[\w.-]+\.workers\.dev")


@dataclass(frozen=True)
class Example:
    """A block of code, and the definitions of functions in its page."""

    block: Block
    definitions: str

    @property
    def page(self) -> str:
        return self.block.page

    @property
    def code(self) -> str:
        return self.block.code

    def __str__(self) -> str:
        return f"{self.block.heading}-{self.block.number}"


def examples(page: str, language: str = "sh") -> list[Example]:
    found = blocks(page, language)
    definitions = "\n".join(block.code for block in found if "() {" in block.code)
    return [Example(block, definitions) for block in found if "() {" not in block.code]


COVERED = [page for page in PAGES if page not in OWN_TESTS]
EVERY = [example for page in COVERED for example in examples(page)]
GATEWAY_PAGE = [e for e in EVERY if e.page == "docs/gateway.md" and re.search(r"ask", e.code)]


def run(stage: Stage, example: Example, **env: str) -> str:
    """Run an example. Returns what it prints."""
    curl = f"""curl() {{
      case "$*" in *{MISSING_PATH}*) return; esac
      command curl --silent --show-error --fail-with-body "$@"
    }}"""
    left_out = "\n".join(f"{command}() {{ :; }}" for command in LEFT_OUT)
    script = GATEWAY.sub(stage.url, f"{example.definitions}\n{example.code}")
    done = subprocess.run(
        ["bash", "-c", f"set -e\n{curl}\n{left_out}\n{script}"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        cwd=ROOT,
        # An example may run tests, which must not have the options of this run.
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "HYPOTHESIS_"))},
            **env,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def demo(stage_with, environment) -> Stage:
    """The gateway of `make demo`."""
    echo = json.loads(environment["PROVIDERS"])["openai"]["base_url"]
    return stage_with(PROVIDERS=everything_at(echo), CONFIGS=json.dumps(CONFIGS))


@pytest.fixture
def deployment(stage_with, environment) -> Stage:
    """A gateway with the keys and configs of the page about the gateway."""
    echo = json.loads(environment["PROVIDERS"])["openai"]["base_url"]
    page = (ROOT / "docs" / "gateway.md").read_text()
    configs = re.search(r"CONFIGS = '''(.*?)'''", page, re.DOTALL)
    assert configs
    return stage_with(
        PROVIDERS=everything_at(echo),
        CONFIGS=configs[1],
        GATEWAY_API_KEYS=json.dumps({"alice": hashlib.sha256(KEY.encode()).hexdigest()}),
        OPENAI_API_KEY="sk-stored-0123456789abcdefghij",
        ANTHROPIC_API_KEY="sk-ant-stored-0123456789abcdef",
        AZURE_OPENAI_API_KEY_EU="stored-eu-0123456789abcdefghij",
    )


@pytest.mark.parametrize("example", examples("docs/tracing.md"), ids=str)
def test_each_call_of_the_tracing_page_is_traced(stage: Stage, example: Example):
    assert "You said: Hello!" in run(stage, example)
    calls = len(re.findall(r"^ask ", example.code, re.MULTILINE))
    calls -= example.code.count("trace: off")
    observations = stage.observations(calls)
    assert len(observations) == calls
    recorded = json.dumps(observations)
    # Every word of a header's value is recorded, but for headers without content.
    for name, value in re.findall(r"-H '([\w-]+): (.*?)'", example.code):
        if name in ("x-portkey-trace", "baggage", "traceparent"):
            continue
        for word in re.findall(r"[\w-]{3,}", value):
            assert word in recorded, (name, word)
    assert not any("notes" in o["metadata"] for o in observations)


# The providers that an example with a config calls, in this order; None for a random one.
CALLED: dict[str, list[str] | None] = {
    "Fallback-0": ["openai"],
    "Fallback-1": ["openai", "groq"],
    "Load balancing-0": None,
    "Conditions-0": ["anthropic"],
    "Retries-0": ["openai"],
    "Named configs-0": ["openai"],
    "Cache-0": ["openai", "openai"],
}


@pytest.mark.parametrize("example", GATEWAY_PAGE, ids=str)
def test_each_call_of_the_gateway_page_reaches_the_named_provider(demo: Stage, example: Example):
    printed = run(demo, example)
    assert "You said: Hello!" in printed
    assert ("ask_by" in example.code) == (str(example) in CALLED)
    if "ask_by" not in example.code:
        provider = re.search(r"x-portkey-provider: ([\w-]+)|\"@([\w-]+)/", example.code)
        metadata = demo.observation()["metadata"]
        assert metadata["provider"] == (provider[1] or provider[2] if provider else "openai")
        return
    spans = len(re.findall(r"^ask_by ", example.code, re.MULTILINE))
    called = CALLED[str(example)]
    observations = demo.observations(spans + len(called or ["one"]))
    assert [o["type"] for o in observations].count("SPAN") == spans
    attempts = [o for o in observations if o["type"] != "SPAN"]
    providers = [o["metadata"]["provider"] for o in attempts]
    assert providers == called if called else providers[0] in ("openai", "groq")
    if example.block.heading == "Cache":
        statuses = [o["metadata"]["cache_status"] for o in observations if o["type"] == "SPAN"]
        assert statuses == ["MISS", "REFRESH"]
    if "--include" in example.code:
        assert "x-portkey-last-used-option-index: config.targets[1]" in printed


@pytest.mark.parametrize("example", [e for e in GATEWAY_PAGE if "GATEWAY_KEY" in e.code], ids=str)
def test_calls_with_a_gateway_key_use_the_stored_keys(deployment: Stage, example: Example):
    printed = run(deployment, example, GATEWAY=deployment.url, GATEWAY_KEY=KEY)
    assert "You said: Hello!" in printed
    assert deployment.observations(1)[0]["metadata"]["gateway_key"] == "alice"


def test_the_demo_has_the_configs_of_the_page():
    page = (ROOT / "docs" / "gateway.md").read_text()
    configs = re.search(r"CONFIGS = '''(.*?)'''", page, re.DOTALL)
    assert configs
    assert json.loads(configs[1]).items() >= CONFIGS.items()


@pytest.mark.parametrize(
    "example",
    [e for e in EVERY if e.page != "docs/tracing.md" and e not in GATEWAY_PAGE],
    ids=lambda e: f"{e.page}-{e}",
)
def test_every_other_example_runs(demo: Stage, deployment: Stage, environment, example: Example):
    stage = demo if "http://127.0.0.1:8787" in example.code else deployment
    run(stage, example, **keys_of(environment))


def keys_of(environment: dict[str, Any]) -> dict[str, str]:
    """The variables that the examples expect in the shell."""
    settings = ("LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")
    keys = {"GATEWAY_KEY": KEY, "OPENAI_API_KEY": PROVIDER_KEY}
    return {**keys, **{name: environment[name] for name in settings}}


@pytest.mark.parametrize(
    "example",
    [e for page in COVERED for e in examples(page, "python")],
    ids=lambda e: f"{e.page}-{e}",
)
def test_every_example_in_python(demo: Stage, environment, example: Example):
    """In a process of its own, since some imports change what clients do."""
    code = GATEWAY.sub(demo.url, example.code)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(reply.model_dump_json())"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, **keys_of(environment)},
    )
    assert done.returncode == 0, done.stderr
    assert "You said: Hello!" in done.stdout
    # The placeholder of a key must not be a word of the metadata, which would be redacted.
    observations = demo.observations(2 if "get_client" in example.code else 1)
    assert any(o["metadata"].get("provider") for o in observations)
    assert not any("[redacted]" in o["metadata"] for o in observations)


def test_a_wrong_base_url_gives_the_errors_of_the_troubleshooting_page(demo: Stage):
    page = text_of("docs/troubleshooting.md")
    with demo.http() as client:
        reply = client.post("/chat/completions", json={})
        assert (reply.status_code, "x-portkey-provider" in reply.headers) == (404, False)
        assert reply.json()["error"]["message"] in re.sub(r"\s+", " ", page)
        reply = client.post("/v1/v1/messages", json={})
        assert (reply.status_code, reply.headers["x-portkey-provider"]) == (404, "openai")
        assert "`/v1/v1/messages`" in page


@pytest.mark.parametrize("command", LEFT_OUT)
def test_every_replaced_command_occurs_in_the_docs(command: str):
    assert any(re.search(rf"(?m)(?:^|[`|;(]) *{command} ", text_of(page)) for page in COVERED)
