"""Tests of docs/deploy.md: its costs, limits, configuration and commands."""

import io
import json
import re
import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from core.limits import MAX_ATTEMPTS_PER_REQUEST
from core.types import Call
from local.runtime import NotInstalled, require_installed
from redaction.logs import log
from settings.gateway_keys import GatewayKey, authenticate
from settings.load import Settings, load_settings
from settings.table import VARIABLE_NAMES

from .test_dry_run import dry_run, project_in

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text()
README = (ROOT / "README.md").read_text()
# The page's sections by their headings.
SECTIONS = dict(re.findall(r"(?ms)^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE))
MILLION = 1_000_000


def rows(heading: str, table: int = 0) -> list[list[str]]:
    """The rows of a section's table, without its header."""
    tables = re.findall(r"(?m)(?:^\|.*\|\n)+", SECTIONS[heading])
    lines = tables[table].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def block(heading: str, language: str, number: int = 0) -> str:
    return re.findall(rf"(?s)```{language}\n(.*?)```", SECTIONS[heading])[number]


def run_in_bash(script: str) -> str:
    result = subprocess.run(
        ["bash", "-c", f"set -eo pipefail\n{script}"], capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def requires_tools(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if not shutil.which(name)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture
def _installed() -> None:
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))


def price(text: str) -> tuple[float, float]:
    """The included amount and the price of a million more.

    `text` is like "10 million a month, then $0.30 a million".
    """
    included, more = re.findall(r"(\d+) million.*\$([\d.]+) a million", text)[0]
    return float(included) * MILLION, float(more)


def test_the_table_of_costs_adds_up():
    prices = {row[0]: row[2] for row in rows("Costs")}
    (plan,) = re.findall(r"\$(\d+) a month", prices["the plan"])
    calls_included, call_price = price(prices["calls"])
    cpu_included, cpu_price = price(prices["CPU time"])
    table = rows("Costs", 1)
    assert len(table) == 6
    for calls, each, *cells in table:
        amount = float(calls.removesuffix(" million")) * MILLION
        (milliseconds,) = re.findall(r"([\d.]+) ms", each)
        cost = [
            float(plan),
            max(0, amount - calls_included) / MILLION * call_price,
            max(0, amount * float(milliseconds) - cpu_included) / MILLION * cpu_price,
        ]
        assert cells == [f"${dollars:.2f}" for dollars in (*cost, sum(cost))]


def test_the_costs_use_the_figures_of_the_benchmark():
    found = re.search(
        r"a traced chat of (2 KB) took ([\d.]+ ms).*?(200 chunks) ([\d.]+ ms)", README
    )
    assert found
    size, chat, chunks, stream = found.groups()
    expected = {f"traced chat of {size}, {chat}", f"traced stream of {chunks}, {stream}"}
    assert {row[1] for row in rows("Costs", 1)} == expected


def test_the_costs_of_the_queue_add_up():
    included, more = price({row[0]: row[2] for row in rows("Costs")}["queue"])
    for cost, traces in re.findall(r"\$([\d.]+) for (\d+) million", SECTIONS["Costs"]):
        operations = 3 * int(traces) * MILLION
        assert float(cost) == pytest.approx((operations - included) / MILLION * more)


def test_the_table_of_limits_agrees_with_the_code():
    limits = {row[0]: row[3] for row in rows("Limits")}
    assert f"{MAX_ATTEMPTS_PER_REQUEST} at most" in limits["subrequests of a call"]
    settings = load_settings({"LANGFUSE_RETRY_SECONDS": "28"})
    assert Settings.retry_seconds < settings.retry_seconds < 30
    names = {name for text in limits.values() for name in re.findall(r"`([A-Z_]+)`", text)}
    assert names <= set(VARIABLE_NAMES)


@pytest.mark.usefixtures("_installed")
def test_the_worker_is_smaller_than_the_documented_limits(tmp_path: Path):
    text = {row[0]: row[3] for row in rows("Limits")}["the Worker's size"]
    limits = [int(number) for number in re.findall(r"under (\d+) KiB", text)]
    upload = re.search(r"Total Upload: ([\d.]+) KiB / gzip: ([\d.]+) KiB", dry_run(ROOT, tmp_path))
    assert upload
    assert all(float(size) < limit for size, limit in zip(upload.groups(), limits, strict=True))


@pytest.mark.long
@pytest.mark.usefixtures("_installed")
def test_the_example_of_an_environment_deploys_without_inherited_bindings(tmp_path: Path):
    project = project_in(tmp_path, block("Environments", "toml"))
    output = dry_run(project, tmp_path, "staging")
    assert 'env.LANGFUSE_TRACING_ENVIRONMENT ("staging")' in output
    assert "env.CF_VERSION_METADATA" in output
    for name in ("TRACE_QUEUE", "RATE_LIMIT", "ALLOWED_ORIGINS"):  # at the top level only
        assert name in dry_run(project, tmp_path)
        assert name not in output


def test_the_example_of_a_domain_is_a_comment_in_wrangler_toml():
    assert f"#{block('A domain of your own', 'toml')}" in (ROOT / "wrangler.toml").read_text()


def test_every_file_for_secrets_is_ignored_by_git():
    files = re.findall(r"(?:secret bulk|--secrets-file) (\.[\w.]+)", PAGE)
    assert len(files) > 2
    assert set(files) <= set((ROOT / ".gitignore").read_text().splitlines())


@requires_tools("bash", "openssl", "cut")
def test_a_gateway_key_created_by_the_command_of_the_page_is_accepted():
    key, entry = run_in_bash(block("With the button", "sh")).splitlines()
    gateway_keys = load_settings({"GATEWAY_API_KEYS": entry}).gateway_keys
    caller = authenticate(Call("GET", "/v1/models", "", {"x-portkey-api-key": key}), gateway_keys)
    assert isinstance(caller, GatewayKey)
    assert caller.name == "alice"


@requires_tools("bash", "jq")
def test_the_command_of_the_page_formats_the_log():
    command = block("Reading the log", "sh", 1)
    with redirect_stdout(io.StringIO()) as printed:
        log("provider_unreachable", request_id="r-1", provider="groq", reason="no answer")
        log("tracing_off", reason="no Langfuse destination is configured")
    lines = printed.getvalue().splitlines()
    # Messages of other kinds come first; the command must skip them.
    logs = [{"message": [text], "level": "log"} for text in ("no JSON", "7", {"an": "object"}, 7)]
    logs += [{"message": [line], "level": "log"} for line in lines]
    events = [{"outcome": "ok", "logs": logs}, {"outcome": "ok", "logs": []}]
    tail_output = "\n".join(json.dumps(event, indent=2) for event in events)
    assert run_in_bash(
        f"wrangler() {{ cat <<'END'\n{tail_output}\nEND\n}}\n{command}"
    ).splitlines() == [
        "provider_unreachable\tr-1\tgroq\tno answer",
        "tracing_off\t-\t-\tno Langfuse destination is configured",
    ]
