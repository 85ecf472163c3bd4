"""`local/vendor.py`, which each build runs, with whatever Python is there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Notes its arguments, and does what pip would have done.
PIP = """#!{python}
import pathlib, sys
arguments = sys.argv[1:]
with pathlib.Path(__file__).with_name("said").open("a") as said:
    said.write("\\n".join(arguments) + "\\n")
(target,) = (a.partition("=")[2] for a in arguments if a.startswith("--target="))
pathlib.Path(target, "workers").mkdir(parents=True)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that has not vendored anything."""
    (tmp_path / "local").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "local" / "vendor.py", tmp_path / "local")
    shutil.copy(ROOT / "requirements-worker.txt", tmp_path)
    return tmp_path


def vendor(project: Path) -> subprocess.CompletedProcess[str]:
    """Run it with a Python that has no pip, and nothing but the project's `bin/` on the PATH."""
    return subprocess.run(
        [sys.executable, "-I", "-S", project / "local" / "vendor.py"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": str(project / "bin")},
    )


def put_pip(project: Path) -> Path:
    """Give the project a pip; the file into which it writes its arguments."""
    pip = project / "bin" / "pip3"
    pip.write_text(PIP.format(python=sys.executable))
    pip.chmod(0o755)
    return pip.with_name("said")


def test_it_takes_another_pip_where_python_has_none(project: Path):
    said = put_pip(project)
    done = vendor(project)
    assert done.returncode == 0, done.stderr
    assert (project / "python_modules" / "workers").is_dir()
    arguments = said.read_text().splitlines()
    assert arguments[0] == "install"
    assert {"--no-deps", "--only-binary=:all:", "--platform=any", "--python-version=3.14"} <= set(
        arguments
    )
    assert f"-r{project / 'requirements-worker.txt'}" in arguments


def test_it_does_nothing_where_nothing_has_changed(project: Path):
    said = put_pip(project)
    assert vendor(project).returncode == 0
    first = said.read_text()
    assert vendor(project).returncode == 0
    assert said.read_text() == first

    with (project / "requirements-worker.txt").open("a") as requirements:
        requirements.write("# changed\n")
    assert vendor(project).returncode == 0
    assert said.read_text() == first * 2


def test_it_says_what_is_missing_where_there_is_no_pip(project: Path):
    (project / "python_modules").mkdir()
    done = vendor(project)
    assert done.returncode == 1
    assert "has no pip" in done.stderr
    assert "make setup" in done.stderr
    assert (project / "python_modules").is_dir()  # what was there stays


def test_what_ships_is_pinned_by_its_hash():
    requirements = (ROOT / "requirements-worker.txt").read_text()
    assert "==" in requirements
    assert "--hash=sha256:" in requirements
