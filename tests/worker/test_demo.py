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

import keys
from local import runtime
from local.__main__ import curl_lines
from local.runtime import ROOT
from vocabulary import Call


@pytest.fixture(scope="module")
def demo() -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """The demo's gateway URL, its inbox URL, and its process."""
    process = local("demo", "--port=0", "--inbox-port=0")
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


def local(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "local", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_dev_runs_the_gateway_alone():
    process = local("dev", "--port=0")
    assert process.stdout
    printed = []
    try:
        for line in process.stdout:
            printed.append(line)
            if "tracing" in line and not line.startswith("{"):
                break
        (gateway,) = re.findall(r"gateway +(http://\S+)", "".join(printed))
        health = json.load(urllib.request.urlopen(f"{gateway}/health"))
        assert health["status"] == "ok"
        assert f"tracing  {'on' if health['tracing'] else 'off'}" in printed[-1]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_a_new_gateway_key_is_let_in():
    process = local("key", "alice")
    printed, _ = process.communicate(timeout=30)
    (key,) = re.findall(r"gw_\S+", printed)
    (entry,) = re.findall(r"\{.*\}", printed)
    call = Call("GET", "/v1/models", "", {"x-portkey-api-key": key})
    caller = keys.identify(call, keys.read(json.loads(entry)))
    assert isinstance(caller, keys.GatewayKey)
    assert caller.name == "alice"


def test_secrets_of_a_local_run_stand_in_dev_vars(monkeypatch, tmp_path):
    (tmp_path / "wrangler.toml").write_text('[vars]\nA = "from toml"\nB = "from toml"\n')
    (tmp_path / ".dev.vars").write_text('B="from dev"\nC=secret\nEMPTY=\n')
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    assert runtime.environment() == {"A": "from toml", "B": "from dev", "C": "secret"}
