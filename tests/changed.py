"""The unit tests of what has changed since the last commit, as arguments for pytest.

A changed file stands for the tests of its package. Where every package depends on it, and where
nothing has changed, these are all unit tests but the slowest.
"""

import subprocess
from pathlib import Path

UNIT = Path("tests/unit")
# These compare the source with the docs and with the rules for imports.
ALWAYS = {UNIT / "docs", UNIT / "test_house_rules.py"}
SLOWEST = ("core/test_safe_regex.py", "dialects/test_recorded.py", "dialects/test_replies.py")


def changed_files() -> list[Path]:
    commands = ("git diff --name-only HEAD", "git ls-files --others --exclude-standard")
    outputs = (subprocess.check_output(command.split(), text=True) for command in commands)
    return [Path(line) for output in outputs for line in output.splitlines()]


def tests_of(file: Path) -> Path:
    """The tests of a file's package; all unit tests where there is no such package."""
    match file.parts:
        case ["src", module]:
            tests = UNIT / f"test_{module}"
        case ["src", package, *_] if package != "core":
            tests = UNIT / package
        case ["tests", "unit", folder, _, *_]:
            tests = UNIT / folder
        case ["local", *_]:
            tests = UNIT / "local"
        case ["src" | "tests", *_]:
            tests = UNIT
        case _:
            tests = UNIT / "docs"
    return tests if tests.exists() else UNIT


def arguments() -> list[str]:
    tests = set(map(tests_of, changed_files())) or {UNIT}
    if UNIT in tests:
        return [str(UNIT), *(f"--ignore={UNIT / name}" for name in SLOWEST)]
    return sorted(map(str, tests | ALWAYS))


if __name__ == "__main__":
    print(*arguments())
