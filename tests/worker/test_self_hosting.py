"""What docs/self-hosting.md says: its commands, the folder and the rules of the network.

Only workerd runs here; what it knows comes from its environment.
"""

import asyncio
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from local.inbox import Inbox
from local.runtime.workerd import PYODIDE_FILES, ROOT
from settings.load import SECRET_NAMES, VARIABLE_NAMES

from .conftest import CHAT, PUBLIC_KEY, SECRET_KEY, Provider
from .self_hosting import (
    BLOCKS,
    BUILD,
    BUILD_WITH_RANGES,
    BUILD_WITH_VARIABLES,
    EXECUTED,
    HASH,
    LEFT_OUT,
    MAKE_KEY,
    PRIVATE,
    RUN,
    UPGRADE,
    asked,
    command,
    is_hers,
    moved,
    run,
    started,
    with_own,
)

SECRET = "sk-of-who-builds-0123456789"


def test_every_snippet_of_the_page_is_run_or_left_out_for_a_reason():
    assert BLOCKS.keys() == EXECUTED | LEFT_OUT.keys()
    assert not EXECUTED & LEFT_OUT.keys()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to run `make` in, which is this project and leaves it as it is."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("Makefile", ".venv", "local", "src"):
        (folder / name).symlink_to(ROOT / name)
    yield folder
    shutil.rmtree(folder)  # each build in it takes 150 MB


@pytest.fixture(scope="module")
def strict(project: Path) -> Path:
    """The folder as the page builds it first: it lets through public addresses alone."""
    run(f"export OPENAI_API_KEY={SECRET} LANGFUSE_SECRET_KEY={SECRET}\n{BUILD}", project)
    return moved(project, "strict")


@pytest.fixture(scope="module")
def with_ranges(project: Path) -> Path:
    """The folder as the page builds it for a network of one's own, loopback among it."""
    run(BUILD_WITH_RANGES, project)
    return moved(project, "with-ranges")


def test_a_request_through_the_folder_is_traced(
    project: Path, with_ranges: Path, environment: dict[str, Any], inbox: Inbox
):
    printed = run(MAKE_KEY, project)
    key, digest = re.findall(r"gw_\S+|[0-9a-f]{64}", printed)
    *settings, serve = RUN.splitlines()
    assert serve == "dist/workerd serve --experimental dist/config.capnp"
    script = with_own("\n".join([*settings, PRIVATE, command(with_ranges)]), environment)
    script = script.replace(HASH, digest).replace('"ollama"', '"openai"')
    files = {path: path.stat().st_mtime_ns for path in with_ranges.rglob("*")}
    with_ranges.chmod(0o555)
    with started(script, project) as gateway:
        printed = asked(gateway.url, key)
        (observation,) = inbox.wait_for(1, where=is_hers)
        assert gateway.end() == 0
        assert gateway.process.stdout
        assert gateway.process.stdout.read() == ""  # where nothing is wrong nothing is said
    health, end, stream = printed.partition("}")
    assert json.loads(health + end)["tracing"] is True
    assert stream.count("chat.completion.chunk") > 2
    assert stream.rstrip().endswith("data: [DONE]")
    assert "You said: Hello!" in json.dumps(observation["output"])
    with_ranges.chmod(0o755)
    # It has written nothing.
    assert files == {path: path.stat().st_mtime_ns for path in with_ranges.rglob("*")}


def test_no_secret_and_no_open_network_is_in_the_folder(strict: Path, with_ranges: Path):
    own = {"boot.mjs", "bundle.json", "cache.mjs", "config.capnp", "host.mjs", ".gitignore"}
    others = {*PYODIDE_FILES, "snapshot.gz", "workerd"}
    assert {path.name for path in strict.iterdir()} == own | others
    assert not any(SECRET in (strict / name).read_text() for name in own)
    snapshot = gzip.decompress((strict / "snapshot.gz").read_bytes())
    assert b"GATEWAY_API_KEYS" in snapshot  # a name that the Worker's modules contain
    assert SECRET.encode() not in snapshot
    text = (strict / "config.capnp").read_text()
    assert 'network = (allow = ["public"], ' in text
    assert 'address = "127.0.0.1:8787"' in text
    ranges = 'network = (allow = ["public", "127.0.0.0/8", "10.1.2.0/24"], '
    assert ranges in (with_ranges / "config.capnp").read_text()
    for name in (
        *SECRET_NAMES,
        *VARIABLE_NAMES,
        "GATEWAY_API_KEYS_9",
        "X_AI_API_KEY",
    ):
        assert f'(name = "{name}", fromEnvironment = "{name}")' in text


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--allow=0.0.0.0/0", "no range of private addresses"),
        ("--allow=8.8.8.8", "no range of private addresses"),
        ("--allow=::/0", "no range of private addresses"),
        ("--allow=10.0.0.0/7", "no range of private addresses"),
        ("--allow=10.1.2.3/24", "has host bits set"),
        ("--allow=private", "does not appear to be"),
        ("--variable=A B", "no name of a variable"),
        ("--variable=UNSAFE_EVAL", "no name of a variable"),
        ("--out=.", "no earlier build"),
        ("--out=somebodys", "no earlier build"),
    ],
)
def test_a_build_refuses_what_it_cannot_mean(project: Path, option: str, message: str):
    (project / "somebodys").mkdir(exist_ok=True)
    (project / "somebodys" / "config.capnp").touch()
    build = [".venv/bin/python", "-m", "local.selfhost", "--out=none", option]
    env = {**os.environ, "PYTHONPATH": "src"}
    done = subprocess.run(build, cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (project / "none").exists()


class Listener:
    """Counts the connections that arrive at a port of this machine, on loopback in both versions
    of IP, and answers each with a chat's reply."""

    def __init__(self) -> None:
        self.arrived = 0
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port: int = self._sockets[0].getsockname()[1]
        with suppress(OSError):
            self._sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        for listening in self._sockets:
            threading.Thread(target=self._answer, args=[listening], daemon=True).start()

    def _answer(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                self.arrived += 1
                with suppress(OSError), connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}")

    def close(self) -> None:
        for listening in self._sockets:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


# A name that nobody would take for loopback, in a hosts file of this test's own.
DISGUISED = "models.example.com"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A command that runs another one with that hosts file; none where that is not possible."""
    file = tmp_path_factory.mktemp("hosts") / "hosts"
    file.write_text(f"127.0.0.1 localhost {DISGUISED}\n")
    mount = f'mount --bind {file} /etc/hosts && exec "$@"'
    prefix = ("unshare", "--map-root-user", "--mount", "bash", "-c", mount, "bash")
    try:
        done = subprocess.run([*prefix, "getent", "hosts", DISGUISED], capture_output=True)
    except FileNotFoundError:
        return ()
    return prefix if done.stdout.startswith(b"127.0.0.1") else ()


def base_urls(port: int) -> dict[str, str]:
    """Providers at this machine, by its names; the gateway takes http for the known ones alone."""
    return {
        "localhost": f"http://localhost:{port}/v1",
        "ipv4": f"http://127.0.0.1:{port}/v1",
        "ipv6": f"http://[::1]:{port}/v1",
        "disguised": f"https://{DISGUISED}:{port}/v1",
    }


def network_environment(listener: Listener) -> dict[str, str]:
    """Settings that send calls and traces to this machine, and to others of a private network."""
    urls = {
        **base_urls(listener.port),
        "metadata": "https://169.254.169.254/v1",
        "private": "https://192.168.7.7/v1",
        "shared": "https://100.64.0.1/v1",
        "local": "https://[fd00:ec2::254]/v1",
        "any": f"https://0.0.0.0:{listener.port}/v1",
        "mapped": f"https://[::ffff:127.0.0.1]:{listener.port}/v1",
    }
    return {
        "PROVIDERS": json.dumps({slug: {"base_url": url} for slug, url in urls.items()}),
        "ALLOWED_CUSTOM_HOSTS": f"localhost:{listener.port}",
        "LANGFUSE_BASE_URL": f"http://localhost:{listener.port}",
        "LANGFUSE_PUBLIC_KEY": PUBLIC_KEY,
        "LANGFUSE_SECRET_KEY": SECRET_KEY,
        "LANGFUSE_RETRY_SECONDS": "1",
    }


def test_what_is_not_public_is_out_of_reach(
    strict: Path, listener: Listener, hosts: tuple[str, ...]
):
    env = network_environment(listener)
    custom = {"x-portkey-custom-host": f"http://localhost:{listener.port}/v1"}
    with started(command(strict), strict.parent, env, hosts) as gateway:
        slugs = set(json.loads(env["PROVIDERS"])) - ({"disguised"} if not hosts else set())
        replies = {slug: gateway.chat(slug) for slug in slugs}
        replies["custom host"] = gateway.chat("vllm", **custom)
        for asked_, reply in replies.items():
            assert reply.status_code == 502, (asked_, reply.text)
            assert "could not be reached" in reply.json()["error"]["message"]
        lost = gateway.wait_for_log("trace_not_delivered")
        assert httpx.get(gateway.url).status_code == 200
    assert lost["reason"].startswith("Langfuse could not be reached")
    assert listener.arrived == 0
    assert any(" is not allowed" in line for line in gateway.lines)


@pytest.mark.long
def test_a_named_range_is_in_reach_and_no_other(
    with_ranges: Path, listener: Listener, hosts: tuple[str, ...]
):
    env = {**network_environment(listener), "LANGFUSE_TRACING_ENABLED": "false"}
    custom = {"x-portkey-custom-host": f"http://localhost:{listener.port}/v1"}
    with started(command(with_ranges), with_ranges.parent, env, hosts) as gateway:
        for slug in ("localhost", "ipv4"):
            assert gateway.chat(slug).status_code == 200
        if hosts:
            called = listener.arrived
            assert gateway.chat("disguised").status_code == 502
            assert listener.arrived > called  # what speaks no TLS was called all the same
        assert gateway.chat("vllm", **custom).status_code == 200
        called = listener.arrived
        for slug in ("ipv6", "metadata", "private", "shared", "local", "any"):
            assert gateway.chat(slug).status_code == 502, slug
    assert listener.arrived == called


@pytest.mark.long
def test_the_environment_goes_before_what_is_built_in(
    project: Path, environment: dict[str, Any], inbox: Inbox
):
    """Variables that the build names are read, and `[vars]` of wrangler.toml holds for the rest."""
    run(BUILD_WITH_VARIABLES, project)
    folder = moved(project, "with-variables")
    configs = {"eu": {"provider": "openai", "api_key": {"secret": "OPENAI_API_KEY_EU"}}}
    env = {"CONFIGS": json.dumps(configs), "LANGFUSE_PUBLIC_KEY": PUBLIC_KEY}
    with started(
        command(folder), project, {**env, "OPENAI_API_KEY_EU": "sk-1234567890"}
    ) as gateway:
        assert httpx.get(f"{gateway.url}/health").json()["status"] == "ok"
    with started(command(folder), project, env) as gateway:
        health = httpx.get(f"{gateway.url}/health").json()
        assert health == {**health, "status": "misconfigured", "tracing": False}


@pytest.mark.long
def test_an_upgrade_leaves_a_running_gateway_alone(project: Path, environment: dict[str, Any]):
    run(BUILD, project)
    old = (project / "dist").stat().st_ino
    env = {"PROVIDERS": environment["PROVIDERS"]}
    with started(RUN.splitlines()[-1], project, env) as gateway:
        run(UPGRADE, project)
        assert (project / "dist").stat().st_ino != old
        assert "The provider openai" in gateway.chat().text
    with started(RUN.splitlines()[-1], project, env) as gateway:
        assert "The provider openai" in gateway.chat().text


@pytest.mark.long
def test_a_gateway_that_is_ended_lets_a_stream_end(
    with_ranges: Path, environment: dict[str, Any], provider: Provider
):
    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await asyncio.wait_for(provider.gate("ended").wait(), 30)
        await response.write(b"data: last\n\n")
        return response

    provider.script = script
    env = {"PROVIDERS": environment["PROVIDERS"]}
    with started(command(with_ranges), with_ranges.parent, env) as gateway:
        url = f"{gateway.url}/v1/chat/completions"
        headers = {"x-portkey-provider": "scripted"}
        with httpx.stream("POST", url, json=CHAT, headers=headers, timeout=30) as reply:
            lines = (line for line in reply.iter_lines() if line)
            assert next(lines) == "data: first"
            gateway.process.terminate()
            wait_until_closed(gateway.url)
            provider.open("ended")
            assert list(lines) == ["data: last"]
        assert gateway.process.wait(20) == 0


def wait_until_closed(url: str) -> None:
    """Return as soon as nobody takes connections there any more."""
    while True:
        try:
            httpx.get(f"{url}/health", timeout=1)
        except httpx.TransportError:
            return
