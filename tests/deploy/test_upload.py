"""Tests of how the pinned wrangler uploads secrets, with a fake of Cloudflare's API."""

import email
import email.policy
import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from local.runtime import NODE_MODULES, NotInstalled, require_installed
from settings.load import load_settings
from settings.table import SECRET_NAMES

ROOT = Path(__file__).resolve().parents[2]
WORKER = "/accounts/acc/workers/scripts/ai-gateway-worker"
HASH = hashlib.sha256(b"gw_1").hexdigest()
SECRETS_FILE = f"""
# A comment, and a name that is none: #OPENAI_API_KEY=sk-0
LANGFUSE_PUBLIC_KEY=pk-lf-1
LANGFUSE_SECRET_KEY=sk-lf-1
GATEWAY_API_KEYS={{"alice": {{"hash": "{HASH}", "models": ["gpt-*"]}}}}
ANTHROPIC_API_KEY=
"""


@dataclass
class FakeApi:
    """The part of Cloudflare's API that these commands use.

    `sent` has method, path, content type and body of each request that is not a GET.
    """

    url: str = ""
    sent: list[tuple[str, str, str, bytes]] = field(default_factory=list)

    def respond(self, method: str, path: str) -> tuple[int, Any]:
        if method != "GET":
            return 200, {}
        if path.endswith("/secrets"):
            return 200, []
        if path.endswith("/subdomain"):
            return 200, {"subdomain": "somebody", "enabled": True, "previews_enabled": False}
        if path.endswith("/workers/workers/ai-gateway-worker"):
            return 200, {"subdomain": {"enabled": True, "previews_enabled": False}}
        return 404, None  # the Worker is not deployed yet


@pytest.fixture
def api() -> Iterator[FakeApi]:
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))
    fake_api = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = self.path.partition("?")[0].removeprefix("/client/v4")
            if self.command != "GET":
                content_type = self.headers.get("content-type", "")
                fake_api.sent.append((self.command, path, content_type, body))
            status, result = fake_api.respond(self.command, path)
            errors = [] if status == 200 else [{"code": 10007, "message": "There is none."}]
            reply = {"success": not errors, "errors": errors, "messages": [], "result": result}
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_PUT = do_POST = do_PATCH = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Do nothing, to keep pytest's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake_api.url = f"http://127.0.0.1:{server.server_port}/client/v4"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield fake_api
    server.shutdown()
    server.server_close()
    thread.join()


def wrangler(
    api: FakeApi, folder: Path, *arguments: str, stdin: str | None = None, **shell: str
) -> None:
    """Run a wrangler command against the fake API. `shell` are further environment variables."""
    bin_folder = NODE_MODULES / ".bin"
    secrets = (*SECRET_NAMES, "ANTHROPIC_API_KEY")
    result = subprocess.run(
        [bin_folder / "wrangler", *arguments],
        cwd=ROOT,
        env={
            **{
                name: value
                for name, value in os.environ.items()
                if name not in secrets and not name.startswith(("CLOUDFLARE_", "CF_"))
            },
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "WRANGLER_SEND_METRICS": "false",
            "CLOUDFLARE_API_BASE_URL": api.url,
            "CLOUDFLARE_API_TOKEN": "none",
            "CLOUDFLARE_ACCOUNT_ID": "acc",
            **shell,
        },
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.write_text(SECRETS_FILE)
    return path


def uploaded(api: FakeApi) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata and the modules of the first upload."""
    method, path, content_type, body = api.sent[0]
    assert (method, path) == ("PUT", WORKER)
    head = f"content-type: {content_type}\r\n\r\n".encode()
    form = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    parts: dict[str, Any] = {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
        for part in form.iter_parts()
    }
    return json.loads(parts.pop("metadata")), parts


def secrets_of(metadata: dict[str, Any]) -> dict[str, str]:
    found = (binding for binding in metadata["bindings"] if binding["type"] == "secret_text")
    return {binding["name"]: binding["text"] for binding in found}


def test_deploy_uploads_the_secrets_file_with_the_code(api: FakeApi, tmp_path: Path, secrets: Path):
    wrangler(api, tmp_path, "deploy", "--env=", f"--secrets-file={secrets}")
    metadata, modules = uploaded(api)
    assert b"class Default" in modules["entry.py"]
    assert secrets_of(metadata) == dotenv_values(secrets)  # `make dev` reads it the same way
    settings = load_settings(secrets_of(metadata))
    assert settings.problem is None
    assert settings.gateway_keys
    assert settings.destination_for(None)
    assert "secret_text" in metadata["keep_bindings"]  # earlier secrets are kept


@pytest.mark.long
def test_the_environment_overrides_the_secrets_file(api: FakeApi, tmp_path: Path, secrets: Path):
    key = {"ANTHROPIC_API_KEY": "sk-of-the-shell"}
    wrangler(api, tmp_path, "deploy", "--env=", f"--secrets-file={secrets}", **key)
    assert secrets_of(uploaded(api)[0]) == {**dotenv_values(secrets), **key}


@pytest.mark.long
def test_secret_bulk_uploads_the_secrets_file(api: FakeApi, tmp_path: Path, secrets: Path):
    wrangler(api, tmp_path, "secret", "bulk", str(secrets), "--env=production")
    ((method, path, _, body),) = api.sent
    assert (method, path) == ("PATCH", f"{WORKER}-production/secrets-bulk")
    sent = json.loads(body)["secrets"]
    assert {name: secret["text"] for name, secret in sent.items()} == dotenv_values(secrets)


@pytest.mark.long
def test_secret_bulk_deletes_a_secret_that_is_null(api: FakeApi, tmp_path: Path):
    wrangler(api, tmp_path, "secret", "bulk", "--env=", stdin='{"OPENAI_API_KEY": null}')
    ((_, _, _, body),) = api.sent
    assert json.loads(body)["secrets"] == {"OPENAI_API_KEY": None}
