"""The first thing a newcomer does: `make demo`, and the commands that it prints."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from local.__main__ import curl_lines
from local.runtime import ROOT


@pytest.fixture(scope="module")
def demo() -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """The demo's gateway URL, its inbox URL, and its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local", "demo", "--port=0", "--inbox-port=0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    urls: dict[str, str] = {}
    printed = []
    for line in process.stdout:
        printed.append(line)
        if found := re.match(r"  (gateway|inbox) +(http://\S+)", line):
            urls[found[1]] = found[2]
        if "Ctrl-C" in line:
            break
    assert urls.keys() == {"gateway", "inbox"}, "".join(printed)
    yield urls["gateway"], urls["inbox"], process
    if process.poll() is None:
        process.kill()
    process.wait()


def traces(inbox: str) -> list[dict]:
    return json.load(urllib.request.urlopen(f"{inbox}/api/inbox"))["traces"]


def test_each_printed_command_shows_an_answer_and_a_trace(demo):
    gateway, inbox, _ = demo
    for command in curl_lines(gateway):
        before = len(traces(inbox))
        done = subprocess.run(
            ["bash", "-c", f"{command} --silent --show-error --fail-with-body"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        streamed = '"stream": true' in command
        assert ("data: " in done.stdout) == streamed
        assert "Hello!" in done.stdout
        while len(traces(inbox)) == before:
            # The upload follows the answer; asking again is the page's own way of waiting.
            continue
        (observation,) = traces(inbox)[0]["observations"]
        assert "You said: Hello!" in json.dumps(observation["output"])
        assert observation["metadata"]["streamed"] is streamed
        assert observation["level"] == "DEFAULT"


def test_the_readme_shows_the_same_commands():
    readme = (ROOT / "README.md").read_text()
    for command in curl_lines("http://127.0.0.1:8787"):
        assert command in readme


def test_ctrl_c_stops_everything(demo):
    gateway, inbox, process = demo
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    for url in (gateway, inbox):
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url)
