"""The examples in the docs do what they say."""

import json
import re
import subprocess

import pytest

from local.runtime import ROOT

from .conftest import Stage

EXAMPLES = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "tracing.md").read_text(), re.DOTALL)
DEFINITION, *CALLS = EXAMPLES


def run(stage: Stage, example: str) -> None:
    script = f"set -e\n{DEFINITION}\n{example}".replace("http://127.0.0.1:8787", stage.url)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "You said: Hello!" in done.stdout


@pytest.mark.parametrize("example", CALLS)
def test_each_call_of_the_tracing_page_is_traced(stage: Stage, example):
    run(stage, example)
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
