"""docs/clients.md says what the programs are and what the tests have found."""

import json
import re
from pathlib import Path

import pytest

from clients.install import CLIENTS
from local.runtime import ROOT

from . import test_programs, test_retries
from .conftest import Gateway, execute_command, require_built

PAGE = (ROOT / "docs" / "clients.md").read_text()
# The blocks: the file that the line before one names, the language, the code.
BLOCKS = re.findall(r"(?m)(?:^\[`([^`]+)`\][^\n]*\n\n)?^```(\w+)\n((?s:.*?))^```", PAGE)
BY_HAND = [code for file, _, code in BLOCKS if not file]
CALLS = {
    "chat": test_programs.CHAT,
    "messages": test_programs.MESSAGES,
    "Responses": test_programs.RESPONSES,
    "embeddings": "/v1/embeddings",
}
ENDPOINTS = {
    **test_programs.PROGRAMS,
    **dict.fromkeys(test_programs.EMBEDDINGS, "/v1/embeddings"),
    "claude-code/run.sh": test_programs.MESSAGES,
    "codex/run.sh": test_programs.RESPONSES,
}
FOLDERS = {"codex-cli": "codex"}  # of the anchors that are not their folder's name


def rows() -> dict[str, list[str]]:
    """The cells of the matrix by the client's folder."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| [")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    anchors = [row[0].partition("(#")[2].rstrip(")") for row in cells]
    return {FOLDERS.get(a, a): row for a, row in zip(anchors, cells, strict=True)}


def locked(client: Path) -> dict[str, str]:
    """Every package of a client, and its version."""
    if (client / "package.json").exists():
        return json.loads((client / "package.json").read_text())["dependencies"]
    if not (client / "constraints.txt").exists():
        return {}
    lines = (client / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines)


def test_every_program_is_run():
    programs = (path for path in CLIENTS.glob("*/*") if path.suffix in (".py", ".mjs", ".sh"))
    assert {f"{path.parent.name}/{path.name}" for path in programs} == ENDPOINTS.keys()


def test_every_client_has_a_row_and_a_section():
    folders = {path.name for path in CLIENTS.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert rows().keys() == folders
    headings = re.findall(r"(?m)^## (.*)$", PAGE)
    anchors = {re.sub("[^a-z -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert {cells[0].partition("(#")[2].rstrip(")") for cells in rows().values()} <= anchors


@pytest.mark.parametrize("client", rows())
def test_the_matrix(client: str):
    _, tested, calls, *_, retries = rows()[client]
    versions = locked(CLIENTS / client)
    if versions:
        named = dict(item.split(" ") for item in tested.split(", "))
        assert named.items() <= versions.items()
    else:
        assert tested == "any"
    programs = [program for program in ENDPOINTS if program.startswith(f"{client}/")]
    assert {CALLS[call] for call in calls.split(", ")} == {ENDPOINTS[p] for p in programs}
    found = {n for p, n in test_retries.REQUESTS.items() if p.startswith(f"{client}/")}
    if found:
        assert {int(number) for number in re.findall(r"\d+", retries)} == found


@pytest.mark.parametrize("client", [p.parent.name for p in CLIENTS.glob("*/package-lock.json")])
def test_no_lock_file_names_a_host(client: str):
    lock = json.loads((CLIENTS / client / "package-lock.json").read_text())
    assert not any("resolved" in package for package in lock["packages"].values())


@pytest.mark.parametrize(("file", "language", "code"), [block for block in BLOCKS if block[0]])
def test_a_block_is_part_of_its_program(file: str, language: str, code: str):
    assert code in (CLIENTS / file).read_text()
    suffix = {"python": ".py", "js": ".mjs", "sh": ".sh", "toml": ".toml"}[language]
    assert Path(file).suffix == suffix


def test_there_are_no_blocks_of_another_kind():
    assert PAGE.count("```") == 2 * len(BLOCKS)
    assert len(BY_HAND) == 1  # which the next test runs


@pytest.mark.clients
def test_the_commands_of_the_page(gateway: Gateway, tmp_path: Path):
    (commands,) = BY_HAND
    for client in ("openai-python", "openai-javascript"):
        require_built(client)
    gateway.inbox.clear()
    done = execute_command(gateway, ["bash", "-ec", commands], tmp_path, ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("answer: You said: 18 degrees in Paris") == 2
    assert '"content":"You said: 18 degrees in Paris"' in done.stdout
    assert len(gateway.inbox.wait_for(12)) == 12  # so none of them comes late into another test
