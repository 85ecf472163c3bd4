"""The tables and examples of the docs agree with the code."""

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from core.limits import (
    FIRST_RETRY_PAUSE_SECONDS,
    MAX_ATTEMPTS_PER_REQUEST,
    MAX_CACHE_AGE_SECONDS,
    MAX_REGEX_CONDITIONS,
    MAX_REQUEST_TIMEOUT_SECONDS,
    MAX_RETRIES,
    MAX_RETRY_PAUSE_SECONDS,
    MAX_TARGET_DEPTH,
    MAX_TARGETS,
    MAX_TOTAL_PAUSE_SECONDS,
)
from core.types import Call, Destination, Refusal, UpstreamCall
from core.version import VERSION
from export.outbox import Outbox
from gateway import errors
from settings import gateway_keys, target_members
from settings.conditions import _OPERATORS, SOURCES
from settings.gateway_keys import KEY_HEADERS
from settings.load import Settings, load_settings
from settings.provider_overrides import apply_provider_overrides
from settings.provider_table import (
    ACCOUNT_PARAMETERS,
    PROVIDERS,
    URL_PARAMETERS,
    provider_secret_name,
)
from settings.target_members import RetryPolicy
from upstream.response_cache import FORCE_REFRESH_HEADER, CacheStatus
from upstream.target_request import build_upstream_call

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "gateway.md").read_text()
# The page's sections by their headings.
SECTIONS = dict(re.findall(r"(?ms)^##+ ([^\n]+)\n(.*?)(?=^##+ |\Z)", PAGE))


def rows(heading: str, table: int = 0) -> list[list[str]]:
    """The rows of a section's table, without its header."""
    tables = re.findall(r"(?m)(?:^\|.*\|\n)+", SECTIONS[heading])
    lines = tables[table].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code_words(heading: str, table: int = 0) -> set[str]:
    """The code words in a table's first column."""
    return {name for row in rows(heading, table) for name in re.findall("`(.*?)`", row[0])}


def block(heading: str, language: str, number: int = 0) -> Any:
    """A section's block of code in this language."""
    return re.findall(rf"(?s)```{language}\n(.*?)```", SECTIONS[heading])[number]


def test_the_table_of_providers_lists_every_provider():
    table = rows("Which provider")
    assert [row[:3] for row in table] == [
        [
            f"`{slug}`",
            f"`{provider.base_url}`" if provider.base_url else "yours",
            "Bearer" if provider.credential == "bearer" else f"`{provider.credential}`",
        ]
        for slug, provider in PROVIDERS.items()
    ]
    for slug, _, _, notes in table:
        for path in PROVIDERS[slug.strip("`")].paths:
            assert f"`/{path}`" in notes
    assert PROVIDERS["azure-openai"].deployment_url.partition("?")[0] in PAGE


def test_the_members_of_a_provider_override_are_listed():
    example = re.search(r"PROVIDERS = '''(.*?)'''", PAGE, re.DOTALL)
    assert example
    entries = json.loads(example[1])
    assert apply_provider_overrides(entries)["our-claude"].paths == ("messages",)
    members = code_words("The table is yours to change")
    assert members == {"base_url", "credential", "headers", "paths", "deployment_url"}
    assert set().union(*entries.values()) <= members


def test_the_members_and_headers_of_gateway_keys_are_listed():
    assert code_words("Gateway keys") == set(gateway_keys._ENTRY_MEMBERS)
    headers = {name.partition(":")[0].lower() for name in code_words("Gateway keys", 1)}
    assert headers == set(KEY_HEADERS)
    keys_json = re.sub(
        r'"SHA-256 OF .*?"', lambda m: json.dumps(digest(m[0])), block("Gateway keys", "json")
    )
    projects = block("Several Langfuse projects", "json")
    settings = load_settings({"GATEWAY_API_KEYS": keys_json, "LANGFUSE_PROJECTS": projects})
    assert settings.problem is None
    assert settings.gateway_keys
    batch = settings.gateway_keys[1]
    assert settings.destination_for(batch) == settings.destinations["team-a"]
    assert batch.refusal_for("openai", ["gpt-4o-mini-2024-07-18"]) is None
    assert isinstance(batch.refusal_for("openai", ["gpt-4o"]), Refusal)


def test_the_names_of_stored_keys_are_listed():
    section = SECTIONS["Your provider keys in the gateway"]
    for slug in ("anthropic", "azure-openai", "x-ai", "our-claude"):
        assert f"`{provider_secret_name(slug)}`" in section
    assert all(f"`{URL_PARAMETERS[name][0]}`" in section for name in ACCOUNT_PARAMETERS)


def test_the_members_and_limits_of_a_config_are_listed():
    members = {
        *target_members.MEMBER_READERS,
        *target_members.IGNORED_MEMBERS,
        *target_members.HEADER_MEMBERS,
    }
    short_names = {
        name.removeprefix("azure_") for name in target_members.HEADER_MEMBERS if "azure_" in name
    }
    assert code_words("Configs") == members - short_names
    limits = [int(row[1]) for row in rows("Configs", 1)]
    assert limits == [
        MAX_ATTEMPTS_PER_REQUEST,
        MAX_RETRIES,
        MAX_TARGET_DEPTH,
        MAX_TARGETS,
        MAX_REGEX_CONDITIONS,
        MAX_REQUEST_TIMEOUT_SECONDS,
        MAX_TOTAL_PAUSE_SECONDS,
        MAX_CACHE_AGE_SECONDS / 24 / 3600,
    ]


def test_operators_statuses_and_pauses_are_listed():
    listed = code_words("Conditions")
    assert listed == {"metadata.…", "params.…", "url.pathname", "$and", "$or", *_OPERATORS}
    assert {name.partition(".")[0] for name in listed if "." in name} == set(SOURCES)
    retries = SECTIONS["Retries"]
    statuses = sorted(RetryPolicy.on_status_codes)
    assert [int(code) for code in re.findall(r"\b[45]\d\d\b", retries)[-5:]] == statuses
    pauses = [FIRST_RETRY_PAUSE_SECONDS * 2**n for n in range(MAX_RETRIES)]
    first, *others, last = (f"{min(pause, MAX_RETRY_PAUSE_SECONDS):g}" for pause in pauses)
    assert f"{first} seconds, then of {', '.join(others)} and {last}." in retries


def test_the_example_of_named_configs_is_valid():
    text = re.search(r"CONFIGS = '''(.*?)'''", PAGE, re.DOTALL)
    assert text
    settings = load_settings({"CONFIGS": text[1], "AZURE_OPENAI_API_KEY_EU": "key"})
    assert settings.problem is None


def test_every_header_that_the_source_names_is_documented():
    pages = {page.name: page.read_text() for page in (ROOT / "docs").glob("*.md")}
    for file in (ROOT / "src").rglob("*.py"):
        names = set(re.findall(r'"((?:langfuse|x-portkey)-[a-z-]+)"', file.read_text()))
        undocumented = {name for name in names if not any(name in text for text in pages.values())}
        assert not undocumented, file
        if file.name == "trace_context.py":
            assert len(names) > 15
            assert all(name in pages["tracing.md"] for name in names)


def test_the_headers_of_a_reply_are_listed():
    source = (ROOT / "src" / "gateway" / "handler.py").read_text()
    assert code_words("What the reply says") == set(re.findall(r'"(x-portkey-[a-z-]+)"', source))
    assert code_words("Cache", 1) == {status.value for status in CacheStatus}
    assert FORCE_REFRESH_HEADER in SECTIONS["Cache"]


def test_the_statuses_of_refusals_are_listed():
    sources = (path.read_text() for path in (ROOT / "src").rglob("*.py"))
    statuses = {s for text in sources for s in re.findall(r"Refusal\(\s*(\d{3}),", text)}
    assert {row[0] for row in rows("Errors of the gateway's own")} == statuses
    assert {int(status) for status in statuses} >= errors._ERROR_TYPES.keys()


def test_the_example_of_a_custom_host_works():
    section = "Hosts of your own"
    hosts = load_settings(tomllib.loads(block(section, "toml"))["vars"]).routing
    headers = dict(line.split(": ") for line in block(section, "http").splitlines())
    planned = build_upstream_call(Call("POST", "/v1/models", "", headers), "openai", hosts)
    assert isinstance(planned, UpstreamCall)
    assert planned.url == f"{headers['x-portkey-custom-host']}/models"


def test_the_example_of_health_has_every_field():
    example = re.search(r"(?s)```json\n(.*?)```", (ROOT / "docs" / "delivery.md").read_text())
    assert example
    documented = json.loads(example[1])
    outbox = Outbox(Destination("default", "", "", ""), Settings())
    assert documented["delivery"].keys() == outbox.status().keys()
    assert documented["version"] == VERSION


def test_the_metadata_of_configs_is_listed():
    page = (ROOT / "docs" / "tracing.md").read_text()
    table = re.findall(r"(?m)^\| `(\w+)` \| (?:all|the span|a generation) \|", page)
    recorded = set(
        re.findall(r'"([a-z_]+)"', (ROOT / "src" / "gateway" / "trace_job.py").read_text())
    )
    assert set(table) == recorded - {"trace", "inline"}


def test_the_changelog_has_the_version_of_the_source():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    unreleased, newest, *_ = re.findall(r"(?m)^## \[(.*?)\](.*)$", changelog)
    assert unreleased == ("Unreleased", "")
    package = json.loads((ROOT / "package.json").read_text())
    assert newest[0] == VERSION == package.get("version", VERSION)
    assert re.fullmatch(r" - \d{4}-\d\d-\d\d", newest[1])


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
