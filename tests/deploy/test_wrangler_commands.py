"""Each `wrangler` command in docs and configuration is valid for the pinned wrangler."""

import functools
import os
import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.runtime import NODE_MODULES, NotInstalled, require_installed

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
OTHER_FILES = ("wrangler.toml", ".dev.vars.example", "Makefile", "package.json")
SEPARATORS = {"|", "||", "&&", ";", "<", ">"}


@dataclass(frozen=True)
class CommandHelp:
    """The help of a command.

    `words` are the command and its subcommands, `arguments` the allowed number of arguments, and
    `options` maps each option to its choices, or to None where any value is allowed.
    """

    words: list[str]
    arguments: range
    options: dict[str, list[str] | None]


def documented_commands() -> list[str]:
    """Every distinct command in blocks and code spans of the pages, and in the other files."""
    found: list[str] = []
    for page in PAGES:
        text = page.read_text()
        for code in re.findall(r"(?ms)^ *```sh\n(.*?)^ *```", text):
            joined = code.replace("\\\n", " ")
            found += re.findall(r"(?m)(?:^|[|;&] *)(wrangler [^\n]*)", joined)
        prose = re.sub(r"(?ms)^ *```.*?^ *```", "", text)
        found += re.findall(r"`(wrangler [a-z][^`]*)`", prose)
    for name in OTHER_FILES:
        found += re.findall(
            r"""["'`# \t](wrangler [a-z][a-z:-]*[^`"'\n]*)""", (ROOT / name).read_text()
        )
    return sorted({command_of(text) for text in found} - {""})


def command_of(text: str) -> str:
    """The first command of a line, without comments, pipes and redirections."""
    parts: list[str] = []
    for part in shlex.split(text, comments=True):
        if part in SEPARATORS:
            break
        parts.append(part)
    return shlex.join(parts)


@functools.cache
def help_of(words: str) -> CommandHelp:
    wrangler = NODE_MODULES / ".bin" / "wrangler"
    path = f"{NODE_MODULES / '.bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {"WRANGLER_SEND_METRICS": "false", "NO_COLOR": "1", "HOME": tempfile.gettempdir()}
    result = subprocess.run(
        [wrangler, *words.split(), "--help"],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PATH": path, **environment},
    )
    if "Unknown argument" in result.stderr:
        return CommandHelp([], range(0), {})
    assert result.returncode == 0, result.stdout + result.stderr
    return parse_help(result.stdout)


def parse_help(text: str) -> CommandHelp:
    usage = text.strip().partition("\n")[0].split()[1:]
    arguments = [part for part in usage if part[0] in "<["]
    required = len([part for part in arguments if part[0] == "<"])
    maximum = 100 if any(".." in part for part in arguments) else len(arguments)
    options: dict[str, list[str] | None] = {}
    for line in text.splitlines():
        # An option may be listed with a short form and other names before its description.
        names = re.match(r" +(-.*?)(?:   +|  (?=[A-Z])|$)", line)
        choices = re.search(r"\[choices: (.*?)\]", line)
        for name in re.findall(r"--?[\w-]+", names[1]) if names else ():
            options[name] = re.findall(r'"(.*?)"', choices[1]) if choices else None
    words = [part for part in usage if part not in arguments]
    return CommandHelp(words, range(required, maximum + 1), options)


def problems(command: str) -> list[str]:
    """The parts of a command that the pinned wrangler does not support."""
    words = command.split()[1:]
    first_option = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    # Values are in capitals, or are not among the command's words in the help.
    subcommands = [word for word in words[:first_option] if re.fullmatch(r"[a-z][a-z-]*", word)]
    command_help = help_of(" ".join(subcommands[:2]))
    found: list[str] = []
    if not command_help.words or command_help.words != words[: len(command_help.words)]:
        return [f"no such command: {command}"]
    rest, number = shlex.split(command)[1 + len(command_help.words) :], 0
    while rest:
        part = rest.pop(0)
        if not part.startswith("-"):
            number += 1
            continue
        name, equals, value = part.partition("=")
        if name not in command_help.options:
            found.append(f"no option {name}: {command}")
            continue
        if not equals and rest and not rest[0].startswith("-") and takes_value(name):
            value = rest.pop(0)
        choices = command_help.options[name]
        if choices and value not in choices:
            found.append(f"{name} is one of {choices}: {command}")
    # Prose often names a command without its arguments.
    if number >= command_help.arguments.stop or (number and number < command_help.arguments.start):
        found.append(f"{number} arguments: {command}")
    return found


def takes_value(option: str) -> bool:
    return option not in ("--yes", "-y", "--dry-run", "--force", "--keep-vars", "--strict")


@pytest.mark.long
def test_each_documented_command_is_valid():
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))
    commands = documented_commands()
    assert {"wrangler login", "wrangler tail", "wrangler secret put NAME"} <= set(commands)
    assert [problem for command in commands for problem in problems(command)] == []


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        "wrangler secrets put NAME",
        "wrangler secret putt NAME",
        "wrangler secret put NAME VALUE",
        "wrangler tail --serach x",
        "wrangler tail --status fine",
        "wrangler deploy --enviroment=production",
    ],
)
def test_an_invalid_command_is_found(command: str):
    assert problems(command)


def test_a_help_text_is_parsed():
    text = """
wrangler tail [worker]

Start

GLOBAL FLAGS
  -e, --env             Environment to use  [string]
      --status         Filter by invocation status  [array] [choices: "ok", "error"]
      --compatibility-flags, --compatibility-flag  Flags to use  [array]
"""
    command_help = parse_help(text)
    assert command_help.words == ["tail"]
    assert command_help.arguments == range(2)
    assert command_help.options == {
        "-e": None,
        "--env": None,
        "--status": ["ok", "error"],
        "--compatibility-flags": None,
        "--compatibility-flag": None,
    }
