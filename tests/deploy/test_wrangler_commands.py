"""Each `wrangler` command that is written anywhere is one of the wrangler that is pinned."""

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
OTHERS = ("wrangler.toml", ".dev.vars.example", "Makefile", "package.json")
SEPARATORS = {"|", "||", "&&", ";", "<", ">"}


@dataclass(frozen=True)
class Command:
    """A command's help: its words, how many arguments it takes, and its options' values."""

    words: list[str]
    arguments: range
    options: dict[str, list[str] | None]


def written() -> list[str]:
    """Every distinct command of the pages' blocks and code words, and of other files' comments."""
    found: list[str] = []
    for page in PAGES:
        text = page.read_text()
        for code in re.findall(r"(?ms)^ *```sh\n(.*?)^ *```", text):
            joined = code.replace("\\\n", " ")
            found += re.findall(r"(?m)(?:^|[|;&] *)(wrangler [^\n]*)", joined)
        prose = re.sub(r"(?ms)^ *```.*?^ *```", "", text)
        found += re.findall(r"`(wrangler [a-z][^`]*)`", prose)
    for name in OTHERS:
        found += re.findall(
            r"""["'`# \t](wrangler [a-z][a-z:-]*[^`"'\n]*)""", (ROOT / name).read_text()
        )
    return sorted({command_of(text) for text in found} - {""})


def command_of(text: str) -> str:
    """The command at the beginning of a line, without comment and pipe."""
    parts: list[str] = []
    for part in shlex.split(text, comments=True):
        if part in SEPARATORS:
            break
        parts.append(part)
    return shlex.join(parts)


@functools.cache
def help_of(words: str) -> Command:
    wrangler = NODE_MODULES / ".bin" / "wrangler"
    path = f"{NODE_MODULES / '.bin'}{os.pathsep}{os.environ['PATH']}"
    quiet = {"WRANGLER_SEND_METRICS": "false", "NO_COLOR": "1", "HOME": tempfile.gettempdir()}
    done = subprocess.run(
        [wrangler, *words.split(), "--help"],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PATH": path, **quiet},
    )
    if "Unknown argument" in done.stderr:
        return Command([], range(0), {})
    assert done.returncode == 0, done.stdout + done.stderr
    return read_help(done.stdout)


def read_help(text: str) -> Command:
    usage = text.strip().partition("\n")[0].split()[1:]
    arguments = [part for part in usage if part[0] in "<["]
    needed = len([part for part in arguments if part[0] == "<"])
    most = 100 if any(".." in part for part in arguments) else len(arguments)
    options: dict[str, list[str] | None] = {}
    for line in text.splitlines():
        # Some stand with a short form or with other names, which their descriptions follow.
        names = re.match(r" +(-.*?)(?:   +|  (?=[A-Z])|$)", line)
        choices = re.search(r"\[choices: (.*?)\]", line)
        for name in re.findall(r"--?[\w-]+", names[1]) if names else ():
            options[name] = re.findall(r'"(.*?)"', choices[1]) if choices else None
    words = [part for part in usage if part not in arguments]
    return Command(words, range(needed, most + 1), options)


def problems(command: str) -> list[str]:
    """What the pinned wrangler would not understand in a command."""
    words = command.split()[1:]
    first_option = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    # A value is written in capitals, or is told by what the help calls the command.
    named = [word for word in words[:first_option] if re.fullmatch(r"[a-z][a-z-]*", word)]
    known = help_of(" ".join(named[:2]))
    found: list[str] = []
    if not known.words or known.words != words[: len(known.words)]:
        return [f"no such command: {command}"]
    rest, number = shlex.split(command)[1 + len(known.words) :], 0
    while rest:
        part = rest.pop(0)
        if not part.startswith("-"):
            number += 1
            continue
        name, equals, value = part.partition("=")
        if name not in known.options:
            found.append(f"no option {name}: {command}")
            continue
        if not equals and rest and not rest[0].startswith("-") and takes_value(name):
            value = rest.pop(0)
        choices = known.options[name]
        if choices and value not in choices:
            found.append(f"{name} is one of {choices}: {command}")
    # In prose a command is often named without what it is given.
    if number >= known.arguments.stop or (number and number < known.arguments.start):
        found.append(f"{number} arguments: {command}")
    return found


def takes_value(option: str) -> bool:
    return option not in ("--yes", "-y", "--dry-run", "--force", "--keep-vars", "--strict")


@pytest.mark.long
def test_each_command_is_known_to_the_pinned_wrangler():
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))
    commands = written()
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
def test_the_check_can_fail(command: str):
    assert problems(command)


def test_what_is_read_of_a_help():
    text = """
wrangler tail [worker]

Start

GLOBAL FLAGS
  -e, --env             Environment to use  [string]
      --status         Filter by invocation status  [array] [choices: "ok", "error"]
      --compatibility-flags, --compatibility-flag  Flags to use  [array]
"""
    command = read_help(text)
    assert command.words == ["tail"]
    assert command.arguments == range(2)
    assert command.options == {
        "-e": None,
        "--env": None,
        "--status": ["ok", "error"],
        "--compatibility-flags": None,
        "--compatibility-flag": None,
    }
