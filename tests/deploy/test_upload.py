"""What the pinned wrangler sends to Cloudflare with the secrets, to a stand-in for its API."""

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
from settings.load import SECRET_NAMES, load_settings

ROOT = Path(__file__).resolve().parents[2]
WORKER = "/accounts/acc/workers/scripts/ai-gateway-worker"
HASH = hashlib.sha256(b"gw_1").hexdigest()
FILE = f"""
# A comment, and a name that is none: #OPENAI_API_KEY=sk-0
LANGFUSE_PUBLIC_KEY=pk-lf-1
LANGFUSE_SECRET_KEY=sk-lf-1
GATEWAY_API_KEYS={{"alice": {{"hash": "{HASH}", "models": ["gpt-*"]}}}}
ANTHROPIC_API_KEY=
"""


@dataclass
class Api:
    """As much of Cloudflare's API as these commands ask for; `sent` is what they changed."""

    url: str = ""
    sent: list[tuple[str, str, str, bytes]] = field(default_factory=list)

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        if method != "GET":
            return 200, {}
        if path.endswith("/secrets"):
            return 200, []
        if path.endswith("/subdomain"):
            return 200, {"subdomain": "somebody", "enabled": True, "previews_enabled": False}
        if path.endswith("/workers/workers/ai-gateway-worker"):
            return 200, {"subdomain": {"enabled": True, "previews_enabled": False}}
        return 404, None  # nothing was ever deployed


@pytest.fixture
def api() -> Iterator[Api]:
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))
    stand_in = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = self.path.partition("?")[0].removeprefix("/client/v4")
            if self.command != "GET":
                said = self.headers.get("content-type", "")
                stand_in.sent.append((self.command, path, said, body))
            status, result = stand_in.answer(self.command, path)
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
            """Nothing: the test's output is pytest's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{server.server_port}/client/v4"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield stand_in
    server.shutdown()
    server.server_close()
    thread.join()


def wrangler(
    api: Api, folder: Path, *arguments: str, stdin: str | None = None, **shell: str
) -> None:
    """Run a command against the stand-in, with these variables in the shell."""
    bin_folder = NODE_MODULES / ".bin"
    secrets = (*SECRET_NAMES, "ANTHROPIC_API_KEY")
    done = subprocess.run(
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
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.write_text(FILE)
    return path


def uploaded(api: Api) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata and the modules of the upload that came first."""
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


def test_the_secrets_go_up_with_the_code(api: Api, tmp_path: Path, secrets: Path):
    wrangler(api, tmp_path, "deploy", "--env=", f"--secrets-file={secrets}")
    metadata, modules = uploaded(api)
    assert b"class Default" in modules["entry.py"]
    assert secrets_of(metadata) == dotenv_values(secrets)  # as `make dev` reads the file
    settings = load_settings(secrets_of(metadata))
    assert settings.problem is None
    assert settings.gateway_keys
    assert settings.destination(None)
    assert "secret_text" in metadata["keep_bindings"]  # those of before stay


@pytest.mark.long
def test_the_shell_wins_over_the_file(api: Api, tmp_path: Path, secrets: Path):
    key = {"ANTHROPIC_API_KEY": "sk-of-the-shell"}
    wrangler(api, tmp_path, "deploy", "--env=", f"--secrets-file={secrets}", **key)
    assert secrets_of(uploaded(api)[0]) == {**dotenv_values(secrets), **key}


@pytest.mark.long
def test_many_secrets_at_once(api: Api, tmp_path: Path, secrets: Path):
    wrangler(api, tmp_path, "secret", "bulk", str(secrets), "--env=production")
    ((method, path, _, body),) = api.sent
    assert (method, path) == ("PATCH", f"{WORKER}-production/secrets-bulk")
    sent = json.loads(body)["secrets"]
    assert {name: secret["text"] for name, secret in sent.items()} == dotenv_values(secrets)


@pytest.mark.long
def test_null_deletes_a_secret(api: Api, tmp_path: Path):
    wrangler(api, tmp_path, "secret", "bulk", "--env=", stdin='{"OPENAI_API_KEY": null}')
    ((_, _, _, body),) = api.sent
    assert json.loads(body)["secrets"] == {"OPENAI_API_KEY": None}
