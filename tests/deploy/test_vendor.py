"""Tests of `local/vendor.py`, which each build runs with the Python that is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A fake pip: it records its arguments and creates the package.
PIP = """#!{python}
import pathlib, sys
arguments = sys.argv[1:]
with pathlib.Path(__file__).with_name("arguments.txt").open("a") as file:
    file.write("\\n".join(arguments) + "\\n")
(target,) = (a.partition("=")[2] for a in arguments if a.startswith("--target="))
pathlib.Path(target, "workers").mkdir(parents=True)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without vendored packages."""
    (tmp_path / "local").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "local" / "vendor.py", tmp_path / "local")
    shutil.copy(ROOT / "requirements-worker.txt", tmp_path)
    return tmp_path


def run_vendor(project: Path) -> subprocess.CompletedProcess[str]:
    """Run vendor.py with a Python without pip, and only the project's `bin/` on the PATH."""
    return subprocess.run(
        [sys.executable, "-I", "-S", project / "local" / "vendor.py"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": str(project / "bin")},
    )


def install_fake_pip(project: Path) -> Path:
    """Install the fake pip and return the file to which it writes its arguments."""
    pip = project / "bin" / "pip3"
    pip.write_text(PIP.format(python=sys.executable))
    pip.chmod(0o755)
    return pip.with_name("arguments.txt")


def test_another_pip_is_used_when_python_has_none(project: Path):
    pip_arguments = install_fake_pip(project)
    result = run_vendor(project)
    assert result.returncode == 0, result.stderr
    assert (project / "python_modules" / "workers").is_dir()
    arguments = pip_arguments.read_text().splitlines()
    assert arguments[0] == "install"
    assert {"--no-deps", "--only-binary=:all:", "--platform=any", "--python-version=3.14"} <= set(
        arguments
    )
    assert f"-r{project / 'requirements-worker.txt'}" in arguments


def test_unchanged_requirements_are_not_installed_again(project: Path):
    pip_arguments = install_fake_pip(project)
    assert run_vendor(project).returncode == 0
    first = pip_arguments.read_text()
    assert run_vendor(project).returncode == 0
    assert pip_arguments.read_text() == first

    with (project / "requirements-worker.txt").open("a") as requirements:
        requirements.write("# changed\n")
    assert run_vendor(project).returncode == 0
    assert pip_arguments.read_text() == first * 2


def test_a_missing_pip_is_an_error_with_instructions(project: Path):
    (project / "python_modules").mkdir()
    result = run_vendor(project)
    assert result.returncode == 1
    assert "has no pip" in result.stderr
    assert "make setup" in result.stderr
    assert (project / "python_modules").is_dir()  # existing packages are kept


def test_the_vendored_package_is_pinned_by_its_hash():
    requirements = (ROOT / "requirements-worker.txt").read_text()
    assert "==" in requirements
    assert "--hash=sha256:" in requirements
