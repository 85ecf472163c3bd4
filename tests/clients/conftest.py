"""Fixtures: the gateway in workerd, between the echo provider and an inbox, and clients to run.

A client is a program in `clients/`, which is run in its own environment as a user would run it.
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
    """A running gateway that requires a gateway key and has stored provider keys, and its inbox."""

    url: str
    inbox: Inbox


@dataclass(frozen=True)
class ProgramRun:
    """The output of a program and the observations of its requests, in order of their start."""

    output: str
    observations: list[Any]


def skip(reason: str) -> None:
    """Skip the test, or fail it in `make clients`, where everything is installed."""
    assert not os.environ.get("REQUIRE_CLIENTS"), reason
    pytest.skip(reason)


@contextmanager
def gateway_with_provider(provider: web.Application) -> Iterator[Gateway]:
    """A gateway whose providers OpenAI and Anthropic are both this application."""
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
    with gateway_with_provider(echo.app(delay_ms=0)) as gateway:
        yield gateway


def run_program(gateway: Gateway, program: str, request_count: int, home: Path) -> ProgramRun:
    """Run a program of `clients/` that makes `request_count` traced requests."""
    gateway.inbox.clear()
    process = execute(gateway, program, home)
    assert process.returncode == 0, process.stdout + process.stderr
    observations = gateway.inbox.wait_for(request_count)
    return ProgramRun(process.stdout, sorted(observations, key=lambda o: str(o["start_time"])))


def require_built(client: str) -> None:
    """Skip the test where a client is not installed."""
    if not is_built(client):
        skip(f"{client} is not installed: run `make clients`")


def execute(gateway: Gateway, program: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of `clients/` to its end, with `home` as home and working directory."""
    client = program.partition("/")[0]
    require_built(client)
    python = str(ENVIRONMENTS / client / "bin" / "python")
    interpreter = {".py": [python], ".mjs": ["node"], ".sh": ["bash", "-e"]}[Path(program).suffix]
    commands_folder = CLIENTS / client / "node_modules" / ".bin"
    return execute_command(
        gateway, [*interpreter, str(CLIENTS / program)], home, home, commands_folder
    )


def execute_command(
    gateway: Gateway, command: list[str], home: Path, folder: Path, *commands: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command with the gateway in its variables `GATEWAY_URL` and `GATEWAY_KEY`.

    Of this process's environment it gets only the PATH, after the folders `commands`.
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
            # Otherwise LiteLLM downloads prices from a host that tests cannot reach.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    )
