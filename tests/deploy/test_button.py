"""Tests of the Deploy to Cloudflare button: its form, and how the form's values are loaded.

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
from settings.load import load_settings
from settings.provider_table import PROVIDERS, provider_secret_name
from settings.table import SECRET_NAMES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".dev.vars.example"
# The form has a field for each entry that is not a comment.
FORM_FIELDS = dotenv_values(EXAMPLE)
PACKAGE = json.loads((ROOT / "package.json").read_text())
DESCRIPTIONS = {
    name: entry["description"] for name, entry in PACKAGE["cloudflare"]["bindings"].items()
}
WRANGLER = tomllib.loads((ROOT / "wrangler.toml").read_text())
BUTTON = "https://deploy.workers.cloudflare.com/?url=https://github.com/YOUR-NAME/ai-gateway-worker"
KEY = "gw_0123456789abcdef0123456789abcdef"
FILLED_FORM = {
    "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
    "LANGFUSE_SECRET_KEY": "sk-lf-1",
    "GATEWAY_API_KEYS": json.dumps({"alice": hashlib.sha256(KEY.encode()).hexdigest()}),
    "OPENAI_API_KEY": "sk-1",
}


def secret_names() -> set[str]:
    return {*SECRET_NAMES, *(provider_secret_name(slug) for slug in PROVIDERS)}


def test_the_form_has_these_fields_in_order():
    assert list(FORM_FIELDS) == list(FILLED_FORM)
    assert set(FORM_FIELDS) <= secret_names()


def test_the_form_has_no_default_values():
    assert set(FORM_FIELDS.values()) == {""}


def test_each_field_and_variable_has_a_description():
    assert list(DESCRIPTIONS) == [*FORM_FIELDS, *WRANGLER["vars"]]
    assert all(text.endswith(".") for text in DESCRIPTIONS.values())
    named = {name for text in DESCRIPTIONS.values() for name in re.findall(r"`([A-Z_]+)`", text)}
    assert named <= secret_names()


def test_the_example_lists_every_secret_at_least_as_a_comment():
    named = re.findall(r"(?m)^#?([A-Z_]+)=", EXAMPLE.read_text())
    assert set(SECRET_NAMES) <= set(named) <= secret_names()


def test_an_empty_value_is_the_same_as_none():
    assert load_settings(FORM_FIELDS) == load_settings({})
    for name in FORM_FIELDS:
        without = {other: value for other, value in FILLED_FORM.items() if other != name}
        assert load_settings({**FILLED_FORM, name: ""}) == load_settings(without)
        assert load_settings({**FILLED_FORM, name: ""}).problem is None


def test_the_values_of_the_form_are_loaded():
    settings = load_settings(FILLED_FORM)
    assert settings.problem is None
    assert settings.warnings == ()
    assert settings.destination_for(None)
    assert settings.provider_keys == {"openai": "sk-1"}


def test_unset_is_ignored_except_for_gateway_keys():
    assert "enter `unset`" in (ROOT / "docs" / "deploy.md").read_text()
    for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "OPENAI_API_KEY"):
        assert load_settings({**FILLED_FORM, name: "unset"}).problem is None
    # The gateway refuses all calls.
    assert load_settings({**FILLED_FORM, "GATEWAY_API_KEYS": "unset"}).problem


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_a_gateway_key_created_as_described_is_accepted():
    description = DESCRIPTIONS["GATEWAY_API_KEYS"]
    command, entry = re.findall(r"`([^`]{10,})`", description)
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True
    )
    key, digest = result.stdout.splitlines()
    (hexadecimal,) = re.findall(r"\b[0-9a-f]{64}\b", digest)
    settings = load_settings({"GATEWAY_API_KEYS": entry.replace("SHA-256", hexadecimal)})
    call = Call("GET", "/v1/models", "", {"authorization": f"Bearer {key}"})
    assert isinstance(authenticate(call, settings.gateway_keys), GatewayKey)


def test_the_button_builds_and_deploys_as_by_hand():
    # The button's build system is not documented to run wrangler's own build command.
    assert PACKAGE["scripts"] == {
        "build": WRANGLER["build"]["command"],
        "deploy": "wrangler deploy",
    }
    assert re.search(r"(?m)^deploy:.*\n\twrangler deploy$", (ROOT / "Makefile").read_text())


def test_the_lock_file_matches_package_json():
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"][""]
    assert locked["name"] == PACKAGE["name"]
    assert locked["devDependencies"] == PACKAGE["devDependencies"]
    assert PACKAGE["private"] is True


def test_every_button_has_the_same_url():
    assert f"]({BUTTON})" in (ROOT / "docs" / "deploy.md").read_text()
    # All other buttons in the docs are the same.
    texts = [page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    urls = re.findall(r"https://deploy\.workers\.cloudflare\.com/\?[^)\s]*", "".join(texts))
    assert set(urls) == {BUTTON}


def test_a_file_created_from_the_example_is_loaded(tmp_path: Path):
    """As `make dev` loads it; in test_upload.py, wrangler reads such a file."""
    filled = EXAMPLE.read_text()
    for name, value in FILLED_FORM.items():
        filled = filled.replace(f"\n{name}=\n", f"\n{name}={value}\n")
    (tmp_path / ".dev.vars").write_text(filled.replace("#LANGFUSE_PROJECTS", "LANGFUSE_PROJECTS"))
    settings = load_settings(dotenv_values(tmp_path / ".dev.vars"))
    assert settings.problem is None
    assert set(settings.destinations) == {"default", "team-a"}
    assert settings.gateway_keys
    assert settings.provider_keys == {"openai": "sk-1"}
