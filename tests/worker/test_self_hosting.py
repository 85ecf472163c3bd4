"""docs/self-hosting.md: its commands, the folder that they build, and which networks it can reach.

Only workerd runs here, configured by its environment.
"""

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
from settings.table import SECRET_NAMES, VARIABLE_NAMES

from .conftest import CHAT, TIMEOUT_SECONDS, Provider
from .deployment import PUBLIC_KEY, SECRET_KEY
from .self_hosting import (
    BLOCKS,
    BUILD,
    BUILD_WITH_RANGES,
    BUILD_WITH_VARIABLES,
    EXECUTED,
    HASH,
    MAKE_KEY,
    NOT_EXECUTED,
    PRIVATE,
    RUN,
    UPGRADE,
    command,
    first_request,
    is_of_alice,
    move_build,
    run,
    running,
    with_test_values,
)

# A secret in the environment of the build.
SECRET = "sk-in-the-environment-0123456789"


def test_every_snippet_of_the_page_is_run_or_listed_with_a_reason():
    assert BLOCKS.keys() == EXECUTED | NOT_EXECUTED.keys()
    assert not EXECUTED & NOT_EXECUTED.keys()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with links to this project, to run `make` in."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("Makefile", ".venv", "local", "src"):
        (folder / name).symlink_to(ROOT / name)
    yield folder
    shutil.rmtree(folder)  # each build in it takes 150 MB


@pytest.fixture(scope="module")
def strict(project: Path) -> Path:
    """The folder of the page's first command, which can reach only public addresses."""
    run(f"export OPENAI_API_KEY={SECRET} LANGFUSE_SECRET_KEY={SECRET}\n{BUILD}", project)
    return move_build(project, "strict")


@pytest.fixture(scope="module")
def with_ranges(project: Path) -> Path:
    """The folder of the page's command for private networks, which can reach loopback too."""
    run(BUILD_WITH_RANGES, project)
    return move_build(project, "with-ranges")


def test_a_request_to_the_built_gateway_is_traced(
    project: Path, with_ranges: Path, environment: dict[str, Any], inbox: Inbox
):
    printed = run(MAKE_KEY, project)
    key, digest = re.findall(r"gw_\S+|[0-9a-f]{64}", printed)
    *settings, serve = RUN.splitlines()
    assert serve == "dist/workerd serve --experimental dist/config.capnp"
    script = with_test_values("\n".join([*settings, PRIVATE, command(with_ranges)]), environment)
    script = script.replace(HASH, digest).replace('"ollama"', '"openai"')
    files = {path: path.stat().st_mtime_ns for path in with_ranges.rglob("*")}
    with_ranges.chmod(0o555)
    with running(script, project) as gateway:
        printed = first_request(gateway.url, key)
        (observation,) = inbox.wait_for(1, TIMEOUT_SECONDS, where=is_of_alice)
        assert gateway.end() == 0
        assert gateway.process.stdout
        assert gateway.process.stdout.read() == ""  # it logs only problems
    health, end, stream = printed.partition("}")
    assert json.loads(health + end)["tracing"] is True
    assert stream.count("chat.completion.chunk") > 2
    assert stream.rstrip().endswith("data: [DONE]")
    assert "You said: Hello!" in json.dumps(observation["output"])
    with_ranges.chmod(0o755)
    # It has not changed a file.
    assert files == {path: path.stat().st_mtime_ns for path in with_ranges.rglob("*")}


def test_the_folder_has_no_secret_and_only_the_configured_networks(strict: Path, with_ranges: Path):
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
        ("--out=other", "no earlier build"),
    ],
)
def test_a_build_refuses_invalid_options(project: Path, option: str, message: str):
    (project / "other").mkdir(exist_ok=True)
    (project / "other" / "config.capnp").touch()
    build = [".venv/bin/python", "-m", "local.selfhost", "--out=none", option]
    env = {**os.environ, "PYTHONPATH": "src"}
    done = subprocess.run(build, cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (project / "none").exists()


class Listener:
    """A server on loopback, with IPv4 and IPv6, that counts connections and responds to each."""

    def __init__(self) -> None:
        self.connections = 0
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
                self.connections += 1
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


# A name that resolves to loopback, by a hosts file of these tests.
DISGUISED = "models.example.com"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The prefix of a command that runs with that hosts file; empty where that is impossible."""
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
    """URLs of providers at this machine, by several names of it. The gateway allows http only for
    the first three."""
    return {
        "localhost": f"http://localhost:{port}/v1",
        "ipv4": f"http://127.0.0.1:{port}/v1",
        "ipv6": f"http://[::1]:{port}/v1",
        "disguised": f"https://{DISGUISED}:{port}/v1",
    }


def network_environment(listener: Listener) -> dict[str, str]:
    """Variables that send calls and traces to this machine and to private addresses."""
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


def test_private_addresses_cannot_be_reached(
    strict: Path, listener: Listener, hosts: tuple[str, ...]
):
    env = network_environment(listener)
    custom = {"x-portkey-custom-host": f"http://localhost:{listener.port}/v1"}
    with running(command(strict), strict.parent, env, hosts) as gateway:
        slugs = set(json.loads(env["PROVIDERS"])) - ({"disguised"} if not hosts else set())
        replies = {slug: gateway.chat(slug) for slug in slugs}
        replies["custom host"] = gateway.chat("vllm", **custom)
        for name, reply in replies.items():
            assert reply.status_code == 502, (name, reply.text)
            assert "could not be reached" in reply.json()["error"]["message"]
        lost = gateway.wait_for_log("trace_not_delivered")
        assert httpx.get(gateway.url).status_code == 200
    assert lost["reason"].startswith("Langfuse could not be reached")
    assert listener.connections == 0
    assert any(" is not allowed" in line for line in gateway.lines)


@pytest.mark.long
def test_only_the_named_ranges_can_be_reached(
    with_ranges: Path, listener: Listener, hosts: tuple[str, ...]
):
    env = {**network_environment(listener), "LANGFUSE_TRACING_ENABLED": "false"}
    custom = {"x-portkey-custom-host": f"http://localhost:{listener.port}/v1"}
    with running(command(with_ranges), with_ranges.parent, env, hosts) as gateway:
        for slug in ("localhost", "ipv4"):
            assert gateway.chat(slug).status_code == 200
        if hosts:
            called = listener.connections
            assert gateway.chat("disguised").status_code == 502
            assert listener.connections > called  # a connection, but no TLS
        assert gateway.chat("vllm", **custom).status_code == 200
        called = listener.connections
        for slug in ("ipv6", "metadata", "private", "shared", "local", "any"):
            assert gateway.chat(slug).status_code == 502, slug
    assert listener.connections == called


@pytest.mark.long
def test_the_environment_overrides_the_variables_of_the_build(
    project: Path, environment: dict[str, Any], inbox: Inbox
):
    """Variables that the build names are read too; the rest is from `[vars]` of wrangler.toml."""
    run(BUILD_WITH_VARIABLES, project)
    folder = move_build(project, "with-variables")
    configs = {"eu": {"provider": "openai", "api_key": {"secret": "OPENAI_API_KEY_EU"}}}
    env = {"CONFIGS": json.dumps(configs), "LANGFUSE_PUBLIC_KEY": PUBLIC_KEY}
    with running(
        command(folder), project, {**env, "OPENAI_API_KEY_EU": "sk-1234567890"}
    ) as gateway:
        assert httpx.get(f"{gateway.url}/health").json()["status"] == "ok"
    with running(command(folder), project, env) as gateway:
        health = httpx.get(f"{gateway.url}/health").json()
        assert health == {**health, "status": "misconfigured", "tracing": False}


@pytest.mark.long
def test_an_upgrade_does_not_change_a_running_gateway(project: Path, environment: dict[str, Any]):
    run(BUILD, project)
    old = (project / "dist").stat().st_ino
    env = {"PROVIDERS": environment["PROVIDERS"]}
    with running(RUN.splitlines()[-1], project, env) as gateway:
        run(UPGRADE, project)
        assert (project / "dist").stat().st_ino != old
        assert "The provider openai" in gateway.chat().text
    with running(RUN.splitlines()[-1], project, env) as gateway:
        assert "The provider openai" in gateway.chat().text


@pytest.mark.long
def test_a_terminated_gateway_completes_its_streams(
    with_ranges: Path, environment: dict[str, Any], provider: Provider
):
    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await provider.gate("terminated").wait()
        await response.write(b"data: last\n\n")
        return response

    provider.script = script
    env = {"PROVIDERS": environment["PROVIDERS"]}
    with running(command(with_ranges), with_ranges.parent, env) as gateway:
        url = f"{gateway.url}/v1/chat/completions"
        headers = {"x-portkey-provider": "scripted"}
        with httpx.stream(
            "POST", url, json=CHAT, headers=headers, timeout=TIMEOUT_SECONDS
        ) as reply:
            lines = (line for line in reply.iter_lines() if line)
            assert next(lines) == "data: first"
            gateway.process.terminate()
            wait_until_closed(gateway.url)
            provider.open("terminated")
            assert list(lines) == ["data: last"]
        assert gateway.process.wait(TIMEOUT_SECONDS) == 0


def wait_until_closed(url: str) -> None:
    """Return as soon as the server does not accept connections any more."""
    while True:
        try:
            httpx.get(f"{url}/health", timeout=1)
        except httpx.TransportError:
            return
