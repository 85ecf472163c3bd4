"""The snippets of docs/self-hosting.md, and functions that run them."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from local.runtime.workerd import ROOT

from .conftest import CHAT, TIMEOUT_SECONDS
from .deployment import PROVIDER_KEY, PUBLIC_KEY, SECRET_KEY

PAGE = (ROOT / "docs" / "self-hosting.md").read_text()
KEY = "gw_of-an-example-0123456789abcdef"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


def blocks() -> dict[str, str]:
    """The blocks of the page, by heading and number below it."""
    found = {}
    for section in re.split(r"^#+ (?=[^\n]*\n\n)", PAGE, flags=re.MULTILINE):
        codes = re.findall(r"^```\w*\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        heading = section.partition("\n")[0]
        found |= {f"{heading} {number}": code for number, code in enumerate(codes)}
    return found


BLOCKS = blocks()
EXECUTED: set[str] = set()
# Snippets that no test runs, with the reason.
NOT_EXECUTED = {
    "Docker 0": "needs a Docker engine; the Dockerfile's steps are run without one",
    "Docker 2": "needs a Docker engine",
    "systemd 1": "needs systemd; the unit's command is compared with the image's",
    "TLS in front 0": "needs Caddy",
    "TLS in front 1": "needs nginx",
}


def block(name: str) -> str:
    """A block of the page that a test executes."""
    EXECUTED.add(name)
    return BLOCKS[name]


BUILD, MAKE_KEY, RUN, FIRST_REQUEST = (block(n) for n in ("Build 0", "Run 0", "Run 1", "Run 2"))
BUILD_WITH_VARIABLES = block("Run 3")
BUILD_WITH_RANGES, PRIVATE = block("Private networks 0"), block("Private networks 1")
ENV_FILE, UNIT, UPGRADE = block("Docker 1"), block("systemd 0"), block("Operations 0")


def run(script: str, folder: Path) -> str:
    """Run a snippet of the page, without what `make` would install. Returns what it prints."""
    left_out = 'git() { :; }; systemctl() { :; }; make() { command make -o setup "$@"; }'
    done = subprocess.run(
        ["bash", "-ec", f"{left_out}\n{script}"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def move_build(folder: Path, name: str) -> Path:
    """Move the built folder, since it must not depend on where it was built."""
    return Path(shutil.move(folder / "dist", folder / name))


@dataclass
class Gateway:
    """A workerd, started by a command of the page."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str] = field(default_factory=list)

    def chat(self, provider: str = "openai", **headers: str) -> httpx.Response:
        """Make a chat completion."""
        headers = {"x-portkey-provider": provider, **headers}
        url = f"{self.url}/v1/chat/completions"
        return httpx.post(url, json=CHAT, headers=headers, timeout=TIMEOUT_SECONDS)

    def wait_for_log(self, event: str) -> dict[str, Any]:
        """The next line of the log about this event."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("{") and json.loads(line)["event"] == event:
                return json.loads(line)
        raise AssertionError(f"no {event} in the log:\n" + "".join(self.lines))

    def end(self) -> int:
        """End it as a service manager does. Returns the exit code."""
        self.process.terminate()
        return self.process.wait(TIMEOUT_SECONDS)


@contextmanager
def running(
    script: str, folder: Path, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()
) -> Iterator[Gateway]:
    """Run a snippet whose last command is workerd, on a free port of loopback.

    In its environment are the variables of `env` alone. `prefix` is a command that runs it.
    """
    control, control_end = os.pipe()
    script = re.sub(r" --socket-addr=\S+", "", script)
    options = f"--control-fd={control_end} --socket-addr=http=127.0.0.1:0"
    script, found = re.subn(
        r"(\S+/workerd serve --experimental) ", rf"exec \1 {options} ", script, flags=re.MULTILINE
    )
    assert found == 1
    process = subprocess.Popen(
        [*prefix, "bash", "-ec", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[control_end],
        text=True,
        start_new_session=True,
    )
    os.close(control_end)
    try:
        with os.fdopen(control) as messages:
            message = messages.readline()
        assert message, process.communicate(timeout=10)[0]
        gateway = Gateway(process, f"http://127.0.0.1:{json.loads(message)['port']}")
        health = httpx.get(f"{gateway.url}/health", timeout=60)
        assert health.status_code in (200, 503)  # the latter where it is misconfigured
        yield gateway
    finally:
        process.kill()
        process.communicate()


def command(folder: Path) -> str:
    """The page's command that runs a folder."""
    return RUN.splitlines()[-1].replace("dist/", f"{folder}/")


def with_test_values(script: str, environment: dict[str, Any]) -> str:
    """A snippet of settings with the keys and URLs of the tests."""
    for placeholder, value in (
        ("SHA-256 OF HER KEY", HASH),
        ("pk-lf-YOURS", PUBLIC_KEY),
        ("sk-lf-YOURS", SECRET_KEY),
        ("https://langfuse.example.internal", environment["LANGFUSE_BASE_URL"]),
        ("http://127.0.0.1:11434/v1", json.loads(environment["PROVIDERS"])["openai"]["base_url"]),
    ):
        script = script.replace(placeholder, value)
    return script


def first_request(url: str, key: str) -> str:
    """Send the page's first request to a gateway. Returns what it prints."""
    script = FIRST_REQUEST.replace("http://127.0.0.1:8787", url)
    keys = f"GATEWAY_KEY={key} OPENAI_API_KEY={PROVIDER_KEY}"
    return run(f'{keys}\ncurl() {{ command curl -sS --fail-with-body "$@"; }}\n{script}', ROOT)


def is_of_alice(observation: Any) -> bool:
    """Whether an observation is of a call with alice's key."""
    return observation["metadata"].get("gateway_key") == "alice"
