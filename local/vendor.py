"""Install the packages that ship with the Worker into `python_modules/`, where wrangler expects
them.

`wrangler.toml` runs this before each build with the machine's `python3`, so it requires nothing but
pip. It installs pure wheels only, pinned by hash, and nothing where the requirements are unchanged.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements-worker.txt"
TARGET = ROOT / "python_modules"
STAMP = TARGET / ".requirements-worker.txt"
PYTHON = "3.14"  # the Worker's, by its compatibility date, not this interpreter's


def main() -> None:
    """Install `requirements-worker.txt`, unless it is installed already."""
    if STAMP.exists() and STAMP.read_text() == REQUIREMENTS.read_text():
        return
    pip = _pip()
    shutil.rmtree(TARGET, ignore_errors=True)
    install = [*pip, "install", "--quiet", "--disable-pip-version-check"]
    pure = ["--no-deps", "--no-compile", "--only-binary=:all:", "--platform=any"]
    worker = ["--implementation=py", "--abi=none", f"--python-version={PYTHON}"]
    subprocess.run(
        [*install, *pure, *worker, f"--target={TARGET}", f"-r{REQUIREMENTS}"], check=True
    )
    STAMP.write_text(REQUIREMENTS.read_text())


def _pip() -> list[str]:
    """The command of this interpreter's pip, or of another one: a system's Python may have none.
    Exits where there is none at all."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    other = shutil.which("pip3") or shutil.which("pip")
    if other is None:
        sys.exit(f"{sys.executable} has no pip: install it, or run `make setup`")
    return [other]


if __name__ == "__main__":
    main()
