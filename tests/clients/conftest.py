"""The gateway in the real workerd, between the echo provider and an inbox, and clients to run.

A client is a program in `clients/`, run in its own environment as a user would run it.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from clients.install import CLIENTS, ENVIRONMENTS, is_built
from local import echo
from local.inbox import Inbox
from local.runtime import NODE_MODULES, NotInstalled, Runtime, require_installed
from local.server import Server

GATEWAY_KEY = "gw_of-a-client-0123456789abcdef"
TIMEOUT = 100


@dataclass(frozen=True)
class Gateway:
    """A running gateway that asks for a key, with the keys of its providers, and its inbox."""

    url: str
    inbox: Inbox


@dataclass(frozen=True)
class Ran:
    """What a program printed, and what was traced of its requests, in their order."""

    printed: str
    observations: list[Any]


def skip(reason: str) -> None:
    """Skip the test, or fail it in `make clients`, where everything is installed."""
    assert not os.environ.get("REQUIRE_CLIENTS"), reason
    pytest.skip(reason)


@contextmanager
def gateway_before(provider: web.Application) -> Iterator[Gateway]:
    """A gateway with a provider behind it that stands for OpenAI and for Anthropic."""
    try:
        require_installed()
    except NotInstalled as error:
        skip(str(error))
    inbox = Inbox("pk-lf-clients", "sk-lf-clients-secret")
    with Server(provider) as server, Server(inbox.app()) as langfuse:
        providers = {slug: {"base_url": f"{server.url}/v1"} for slug in ("openai", "anthropic")}
        env = {
            "LANGFUSE_PUBLIC_KEY": "pk-lf-clients",
            "LANGFUSE_SECRET_KEY": "sk-lf-clients-secret",
            "LANGFUSE_BASE_URL": langfuse.url,
            "PROVIDERS": json.dumps(providers),
            "GATEWAY_API_KEYS": json.dumps(
                {"laptop": hashlib.sha256(GATEWAY_KEY.encode()).hexdigest()}
            ),
            "OPENAI_API_KEY": "sk-stored-0123456789abcdefghij",
            "ANTHROPIC_API_KEY": "sk-ant-stored-0123456789abcdef",
        }
        with Runtime(env) as runtime:
            yield Gateway(runtime.url, inbox)


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    with gateway_before(echo.app(delay_ms=0)) as gateway:
        yield gateway


def run(gateway: Gateway, program: str, requests: int, home: Path) -> Ran:
    """Run a program of `clients/`, which makes so many traced requests."""
    gateway.inbox.clear()
    done = execute(gateway, program, home)
    assert done.returncode == 0, done.stdout + done.stderr
    observations = gateway.inbox.wait_for(requests)
    return Ran(done.stdout, sorted(observations, key=lambda o: str(o["start_time"])))


def require_built(client: str) -> None:
    """Skip the test where a client is not installed."""
    if not is_built(client):
        skip(f"{client} is not installed: run `make clients`")


def execute(gateway: Gateway, program: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of `clients/` to its end, in an empty folder where it may write."""
    client = program.partition("/")[0]
    require_built(client)
    python = str(ENVIRONMENTS / client / "bin" / "python")
    runs = {".py": [python], ".mjs": ["node"], ".sh": ["bash", "-e"]}[Path(program).suffix]
    commands = CLIENTS / client / "node_modules" / ".bin"
    return execute_command(gateway, [*runs, str(CLIENTS / program)], home, home, commands)


def execute_command(
    gateway: Gateway, command: list[str], home: Path, folder: Path, *commands: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command that knows the gateway by `GATEWAY_URL` and `GATEWAY_KEY`.

    It has nothing else of this process's environment but its path, with the folders `commands`
    before it.
    """
    path = [*map(str, commands), str(NODE_MODULES / ".bin"), os.environ["PATH"]]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=TIMEOUT,
        stdin=subprocess.DEVNULL,
        env={
            "PATH": os.pathsep.join(path),
            "HOME": str(home),
            "GATEWAY_URL": gateway.url,
            "GATEWAY_KEY": GATEWAY_KEY,
            # LiteLLM asks a host of its own for prices otherwise, which tests can't reach.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    )
