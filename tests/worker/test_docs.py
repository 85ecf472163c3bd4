"""The examples in the docs do what they say."""

import json
import re
import subprocess

import pytest

from local.__main__ import everything_at
from local.runtime import ROOT

from .conftest import Stage


def examples(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)


DEFINITION, *CALLS = examples("tracing.md")
PROVIDERS_DEFINITION, *PROVIDERS_CALLS = examples("gateway.md")


def run(stage: Stage, definition: str, example: str) -> None:
    script = f"set -e\n{definition}\n{example}".replace("http://127.0.0.1:8787", stage.url)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "You said: Hello!" in done.stdout


@pytest.mark.parametrize("example", CALLS)
def test_each_call_of_the_tracing_page_is_traced(stage: Stage, example):
    run(stage, DEFINITION, example)
    calls = len(re.findall(r"^ask ", example, re.MULTILINE)) - example.count("trace: off")
    observations = stage.observations(calls)
    assert len(observations) == calls
    recorded = json.dumps(observations)
    # Every word of a header's value, but for those that steer, is found again.
    for name, value in re.findall(r"-H '([\w-]+): (.*?)'", example):
        if name in ("x-portkey-trace", "baggage", "traceparent"):
            continue
        for word in re.findall(r"[\w-]{3,}", value):
            assert word in recorded, (name, word)
    assert not any("notes" in o["metadata"] for o in observations)


def test_the_headers_of_the_page_are_all_that_there_are():
    page = (ROOT / "docs" / "tracing.md").read_text()
    source = (ROOT / "src" / "context.py").read_text()
    for name in re.findall(r'"((?:langfuse|x-portkey)-[a-z-]+)"', source):
        assert name in page


@pytest.mark.parametrize("example", PROVIDERS_CALLS)
def test_each_call_of_the_providers_page_goes_where_it_says(stage_with, environment, example):
    echo = json.loads(environment["PROVIDERS"])["openai"]["base_url"]
    stage = stage_with(PROVIDERS=everything_at(echo))
    run(stage, PROVIDERS_DEFINITION, example)
    provider = re.search(r"x-portkey-provider: ([\w-]+)|\"@([\w-]+)/", example)
    assert provider
    metadata = stage.observation()["metadata"]
    assert metadata["provider"] == (provider[1] or provider[2])
