"""What the Deploy to Cloudflare button asks for, and what becomes of the answers.

https://developers.cloudflare.com/workers/platform/deploy-buttons/
"""

import hashlib
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from dotenv import dotenv_values

from core.types import Call
from settings.gateway_keys import GatewayKey, authenticate
from settings.load import SECRET_NAMES, load_settings
from settings.provider_table import PROVIDERS, provider_secret_name

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".dev.vars.example"
# It asks for each entry that is no comment.
ASKED = dotenv_values(EXAMPLE)
PACKAGE = json.loads((ROOT / "package.json").read_text())
DESCRIPTIONS = {
    name: entry["description"] for name, entry in PACKAGE["cloudflare"]["bindings"].items()
}
WRANGLER = tomllib.loads((ROOT / "wrangler.toml").read_text())
BUTTON = "https://deploy.workers.cloudflare.com/?url=https://github.com/YOUR-NAME/ai-gateway-worker"
KEY = "gw_0123456789abcdef0123456789abcdef"
ANSWERS = {
    "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
    "LANGFUSE_SECRET_KEY": "sk-lf-1",
    "GATEWAY_API_KEYS": json.dumps({"alice": hashlib.sha256(KEY.encode()).hexdigest()}),
    "OPENAI_API_KEY": "sk-1",
}


def secret_names() -> set[str]:
    return {*SECRET_NAMES, *(provider_secret_name(slug) for slug in PROVIDERS)}


def test_what_is_asked_for_and_in_which_order():
    assert list(ASKED) == list(ANSWERS)
    assert set(ASKED) <= secret_names()


def test_no_value_stands_there_to_be_deployed_by_somebody_who_only_clicks():
    assert set(ASKED.values()) == {""}


def test_each_name_is_described_and_nothing_else_is():
    assert list(DESCRIPTIONS) == [*ASKED, *WRANGLER["vars"]]
    assert all(text.endswith(".") for text in DESCRIPTIONS.values())
    named = {name for text in DESCRIPTIONS.values() for name in re.findall(r"`([A-Z_]+)`", text)}
    assert named <= secret_names()


def test_the_example_has_every_secret_be_it_as_a_comment():
    named = re.findall(r"(?m)^#?([A-Z_]+)=", EXAMPLE.read_text())
    assert set(SECRET_NAMES) <= set(named) <= secret_names()


def test_what_is_left_empty_counts_as_not_there():
    assert load_settings(ASKED) == load_settings({})
    for name in ASKED:
        without = {other: value for other, value in ANSWERS.items() if other != name}
        assert load_settings({**ANSWERS, name: ""}) == load_settings(without)
        assert load_settings({**ANSWERS, name: ""}).problem is None


def test_what_is_filled_in_is_used():
    settings = load_settings(ANSWERS)
    assert settings.problem is None
    assert settings.warnings == ()
    assert settings.destination(None)
    assert settings.provider_keys == {"openai": "sk-1"}


def test_the_word_for_a_form_that_insists_on_a_value():
    assert "enter `unset`" in (ROOT / "docs" / "deploy.md").read_text()
    for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "OPENAI_API_KEY"):
        assert load_settings({**ANSWERS, name: "unset"}).problem is None
    assert load_settings({**ANSWERS, "GATEWAY_API_KEYS": "unset"}).problem  # and so it is closed


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_a_key_made_as_described_is_let_in():
    described = DESCRIPTIONS["GATEWAY_API_KEYS"]
    command, entry = re.findall(r"`([^`]{10,})`", described)
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True
    )
    key, digest = done.stdout.splitlines()
    (hexadecimal,) = re.findall(r"\b[0-9a-f]{64}\b", digest)
    settings = load_settings({"GATEWAY_API_KEYS": entry.replace("SHA-256", hexadecimal)})
    call = Call("GET", "/v1/models", "", {"authorization": f"Bearer {key}"})
    assert isinstance(authenticate(call, settings.gateway_keys), GatewayKey)


def test_its_build_and_deployment_are_those_by_hand():
    # The build system of the button does not promise to run wrangler's own build command.
    assert PACKAGE["scripts"] == {
        "build": WRANGLER["build"]["command"],
        "deploy": "wrangler deploy",
    }
    assert re.search(r"(?m)^deploy:.*\n\twrangler deploy$", (ROOT / "Makefile").read_text())


def test_the_lock_file_fits():
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"][""]
    assert locked["name"] == PACKAGE["name"]
    assert locked["devDependencies"] == PACKAGE["devDependencies"]
    assert PACKAGE["private"] is True


def test_the_page_has_the_button():
    assert f"]({BUTTON})" in (ROOT / "docs" / "deploy.md").read_text()
    # Wherever else it stands, it is the same.
    texts = [page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    urls = re.findall(r"https://deploy\.workers\.cloudflare\.com/\?[^)\s]*", "".join(texts))
    assert set(urls) == {BUTTON}


def test_a_file_made_from_the_example_is_understood(tmp_path: Path):
    """By `make dev`; test_upload.py has wrangler read such a file."""
    filled = EXAMPLE.read_text()
    for name, value in ANSWERS.items():
        filled = filled.replace(f"\n{name}=\n", f"\n{name}={value}\n")
    (tmp_path / ".dev.vars").write_text(filled.replace("#LANGFUSE_PROJECTS", "LANGFUSE_PROJECTS"))
    settings = load_settings(dotenv_values(tmp_path / ".dev.vars"))
    assert settings.problem is None
    assert set(settings.destinations) == {"default", "team-a"}
    assert settings.gateway_keys
    assert settings.provider_keys == {"openai": "sk-1"}
