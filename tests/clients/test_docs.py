"""Tests of docs/clients.md: its table, its blocks of code and its commands."""

import json
import re
from pathlib import Path

import pytest

from clients.install import CLIENTS
from local.runtime import ROOT

from . import test_programs, test_retries
from .conftest import Gateway, execute_command, require_built

PAGE = (ROOT / "docs" / "clients.md").read_text()
# The blocks of code: the file that the line above names or "", the language, the code.
BLOCKS = re.findall(r"(?m)(?:^\[`([^`]+)`\][^\n]*\n\n)?^```(\w+)\n((?s:.*?))^```", PAGE)
BLOCKS_WITHOUT_FILE = [code for file, _, code in BLOCKS if not file]
ENDPOINT_BY_CALL = {
    "chat": test_programs.CHAT,
    "messages": test_programs.MESSAGES,
    "Responses": test_programs.RESPONSES,
    "embeddings": "/v1/embeddings",
}
ENDPOINT_BY_PROGRAM = {
    **test_programs.ENDPOINT_BY_PROGRAM,
    **dict.fromkeys(test_programs.EMBEDDING_PROGRAMS, "/v1/embeddings"),
    "claude-code/run.sh": test_programs.MESSAGES,
    "codex/run.sh": test_programs.RESPONSES,
}
FOLDER_BY_ANCHOR = {"codex-cli": "codex"}  # where an anchor is not the name of the folder


def rows() -> dict[str, list[str]]:
    """The cells of the page's table by the client's folder."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| [")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    anchors = [row[0].partition("(#")[2].rstrip(")") for row in cells]
    return {FOLDER_BY_ANCHOR.get(a, a): row for a, row in zip(anchors, cells, strict=True)}


def locked_versions(client: Path) -> dict[str, str]:
    """The version of every package of a client, by name."""
    if (client / "package.json").exists():
        return json.loads((client / "package.json").read_text())["dependencies"]
    if not (client / "constraints.txt").exists():
        return {}
    lines = (client / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines)


def test_every_program_has_a_test():
    programs = (path for path in CLIENTS.glob("*/*") if path.suffix in (".py", ".mjs", ".sh"))
    assert {f"{path.parent.name}/{path.name}" for path in programs} == ENDPOINT_BY_PROGRAM.keys()


def test_every_client_has_a_row_and_a_section():
    folders = {path.name for path in CLIENTS.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert rows().keys() == folders
    headings = re.findall(r"(?m)^## (.*)$", PAGE)
    anchors = {re.sub("[^a-z -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert {cells[0].partition("(#")[2].rstrip(")") for cells in rows().values()} <= anchors


@pytest.mark.parametrize("client", rows())
def test_a_row_has_the_versions_calls_and_retries_of_its_client(client: str):
    _, tested, calls, *_, retries = rows()[client]
    versions = locked_versions(CLIENTS / client)
    if versions:
        documented = dict(item.split(" ") for item in tested.split(", "))
        assert documented.items() <= versions.items()
    else:
        assert tested == "any"
    programs = [program for program in ENDPOINT_BY_PROGRAM if program.startswith(f"{client}/")]
    assert {ENDPOINT_BY_CALL[call] for call in calls.split(", ")} == {
        ENDPOINT_BY_PROGRAM[p] for p in programs
    }
    retry_counts = {n for p, n in test_retries.REQUEST_COUNTS.items() if p.startswith(f"{client}/")}
    if retry_counts:
        assert {int(number) for number in re.findall(r"\d+", retries)} == retry_counts


@pytest.mark.parametrize("client", [p.parent.name for p in CLIENTS.glob("*/package-lock.json")])
def test_no_lock_file_names_a_host(client: str):
    lock = json.loads((CLIENTS / client / "package-lock.json").read_text())
    assert not any("resolved" in package for package in lock["packages"].values())


@pytest.mark.parametrize(("file", "language", "code"), [block for block in BLOCKS if block[0]])
def test_a_block_of_code_is_part_of_its_program(file: str, language: str, code: str):
    assert code in (CLIENTS / file).read_text()
    suffix = {"python": ".py", "js": ".mjs", "sh": ".sh", "toml": ".toml"}[language]
    assert Path(file).suffix == suffix


def test_only_one_block_is_not_part_of_a_program():
    assert PAGE.count("```") == 2 * len(BLOCKS)
    assert len(BLOCKS_WITHOUT_FILE) == 1  # the next test runs it


@pytest.mark.clients
def test_the_commands_of_the_page_work(gateway: Gateway, tmp_path: Path):
    (commands,) = BLOCKS_WITHOUT_FILE
    for client in ("openai-python", "openai-javascript"):
        require_built(client)
    gateway.inbox.clear()
    process = execute_command(gateway, ["bash", "-ec", commands], tmp_path, ROOT)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("answer: You said: 18 degrees in Paris") == 2
    assert '"content":"You said: 18 degrees in Paris"' in process.stdout
    # None of them may arrive late, in another test.
    assert len(gateway.inbox.wait_for(12)) == 12
