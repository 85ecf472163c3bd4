"""`make demo` and the commands that it prints, `make dev`, and `make key`."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.types import Call
from local import echo
from local.__main__ import curl_lines, environment
from local.runtime import ROOT
from local.server import Server
from settings.gateway_keys import GatewayKey, authenticate, parse_gateway_keys

from .conftest import TIMEOUT_SECONDS


@pytest.fixture(scope="module")
def demo() -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """The demo's gateway URL, its inbox URL, and its process."""
    process = start_local("demo", "--port=0", "--inbox-port=0")
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


def inbox_api(inbox: str, path: str = "") -> Any:
    """A response to a request that the inbox's page makes."""
    return json.load(urllib.request.urlopen(f"{inbox}/api/inbox{path}"))


def next_trace(inbox: str, listed: dict[str, Any]) -> dict[str, Any]:
    """The first trace after those of a list, with its observations."""
    changed = {"traces": [], **listed}
    while not (changed := inbox_api(inbox, f"?since={changed['revision']}"))["traces"]:
        continue
    return inbox_api(inbox, f"/trace?id={changed['traces'][0]['id']}")


def test_each_printed_command_shows_a_reply_and_a_trace(demo):
    gateway, inbox, _ = demo
    for command in curl_lines(gateway):
        before = inbox_api(inbox)
        done = subprocess.run(
            ["bash", "-c", f"{command} --silent --show-error --fail-with-body"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        streamed = '"stream": true' in command
        assert ("data: " in done.stdout) == streamed
        assert "Hello!" in done.stdout
        (observation,) = next_trace(inbox, before)["observations"]
        assert "You said: Hello!" in json.dumps(observation["output"])
        assert observation["metadata"]["streamed"] is streamed
        assert observation["level"] == "DEFAULT"


def test_the_readme_shows_the_first_command():
    command, *_ = curl_lines("http://127.0.0.1:8787")
    assert command in (ROOT / "README.md").read_text()


def test_the_empty_page_shows_a_command_that_works(demo):
    gateway, inbox, _ = demo
    assert inbox_api(inbox)["example"] in curl_lines(gateway)


def assert_stopped(*urls: str) -> None:
    for url in urls:
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url)


def test_ctrl_c_stops_everything(demo):
    gateway, inbox, process = demo
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_SECONDS) == 0
    assert_stopped(gateway, inbox)


def start_local(*arguments: str) -> subprocess.Popen[str]:
    return start_python("-m", "local", *arguments)


def start_python(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@contextmanager
def make_dev(
    folder: Path, variables: str, ending: signal.Signals = signal.SIGINT
) -> Iterator[dict[str, str]]:
    """Run `make dev` with these lines in `.dev.vars`. Returns what it prints: the rest of each line
    by its first word."""
    for name in ("local", "src", "node_modules", "python_modules", "wrangler.toml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".dev.vars").write_text(f"LANGFUSE_BASE_URL=http://127.0.0.1:1\n{variables}")
    code = (
        "import sys; from pathlib import Path; from local import __main__; "
        f"__main__.ROOT = Path({str(folder)!r}); "
        "sys.argv[1:] = ['dev', '--port=0', '--inbox-port=0']; "
        "__main__.main()"
    )
    process = start_python("-c", code)
    assert process.stdout
    printed: list[str] = []
    try:
        for line in process.stdout:
            printed.append(line)
            if line.startswith("  tracing"):
                break
        found = re.findall(r"(?m)^  (\w+) +(.*)$", "".join(printed))
        assert "gateway" in dict(found), "".join(printed)
        yield dict(found)
        process.send_signal(ending)
        assert process.wait(TIMEOUT_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_dev_without_langfuse_keys_has_an_inbox(tmp_path):
    with Server(echo.app(delay_ms=0)) as provider:
        base = json.dumps({"openai": {"base_url": f"{provider.url}/v1"}})
        with make_dev(tmp_path, f"PROVIDERS='{base}'\nLANGFUSE_PUBLIC_KEY=\n") as printed:
            assert printed["tracing"] == "on"
            inbox, _, note = printed["inbox"].partition("      ")
            assert "no Langfuse keys" in note
            before = inbox_api(inbox)
            assert printed["gateway"] in before["example"]
            done = subprocess.run(
                ["bash", "-c", f"{before['example']} --silent --show-error --fail-with-body"],
                env={**os.environ, "OPENAI_API_KEY": "sk-local-0123456789"},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
            )
            assert "Hello!" in done.stdout, done.stderr
            (observation,) = next_trace(inbox, before)["observations"]
            assert "You said: Hello!" in json.dumps(observation["output"])


@pytest.mark.long
def test_dev_ends_with_its_terminal(tmp_path):
    with make_dev(tmp_path, "", ending=signal.SIGHUP) as printed:
        urls = [printed["gateway"], printed["inbox"].partition(" ")[0]]
    assert_stopped(*urls)


@pytest.mark.long
@pytest.mark.parametrize("variables", ["", "GATEWAY_API_KEYS='{}'"])
def test_dev_prints_a_gateway_key_for_the_provider_keys_in_dev_vars(tmp_path, variables: str):
    gateway_key = "gw_of-a-test-0123456789"
    digest = hashlib.sha256(gateway_key.encode()).hexdigest()
    variables = variables.format(json.dumps({"ada": digest}))
    with Server(echo.app(delay_ms=0)) as provider:
        base = json.dumps({"openai": {"base_url": f"{provider.url}/v1"}})
        lines = f"PROVIDERS='{base}'\nOPENAI_API_KEY=sk-stored-0123456789\n{variables}\n"
        with make_dev(tmp_path, lines) as printed:
            inbox = printed["inbox"].partition(" ")[0]
            before = inbox_api(inbox)
            assert ("key" in printed) == (not variables)
            if not variables:
                assert printed["key"].partition(" ")[0] in before["example"]
            done = subprocess.run(
                ["bash", "-c", f"{before['example']} --silent --show-error --fail-with-body"],
                env={**os.environ, "GATEWAY_KEY": gateway_key},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
            )
            assert "Hello!" in done.stdout, done.stderr
            (observation,) = next_trace(inbox, before)["observations"]
            assert observation["metadata"]["gateway_key"] == ("ada" if variables else "dev")


@pytest.mark.parametrize(
    "variables",
    [
        "LANGFUSE_PUBLIC_KEY=pk-lf-1\nLANGFUSE_SECRET_KEY=sk-lf-1\n",
        pytest.param(
            """LANGFUSE_PROJECTS='{"a": {"public_key": "pk-lf-1", "secret_key": "sk-lf-1"}}'\n""",
            marks=pytest.mark.long,
        ),
    ],
)
def test_dev_with_langfuse_keys_has_no_inbox(tmp_path, variables: str):
    with make_dev(tmp_path, variables) as printed:
        assert printed.keys() == {"gateway", "tracing"}
        health = json.load(urllib.request.urlopen(f"{printed['gateway']}/health"))
        assert printed["tracing"].startswith("on" if health["tracing"] else "off")


def test_dev_names_the_status_of_a_misconfigured_gateway(tmp_path):
    with make_dev(tmp_path, "GATEWAY_API_KEYS=nonsense\n") as printed:
        assert printed["status"].startswith("misconfigured")


def test_a_printed_gateway_key_is_valid():
    process = start_local("key", "alice")
    printed, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    (key,) = re.findall(r"gw_\S+", printed)
    (entry,) = re.findall(r"\{.*\}", printed)
    call = Call("GET", "/v1/models", "", {"x-portkey-api-key": key})
    caller = authenticate(call, parse_gateway_keys(json.loads(entry)))
    assert isinstance(caller, GatewayKey)
    assert caller.name == "alice"


def test_a_local_run_reads_secrets_from_dev_vars(tmp_path):
    (tmp_path / "wrangler.toml").write_text('[vars]\nA = "from toml"\nB = "from toml"\n')
    (tmp_path / ".dev.vars").write_text('B="from dev"\nC=secret\nEMPTY=\n')
    assert environment(tmp_path) == {"A": "from toml", "B": "from dev", "C": "secret"}
