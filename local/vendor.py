"""Put what ships with the Worker into `python_modules/`, where wrangler looks for it.

`wrangler.toml` runs this before each build, with whatever `python3` is there, so it needs nothing
but pip. It installs pure wheels only, by hash; when nothing has changed it does nothing.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements-worker.txt"
TARGET = ROOT / "python_modules"
STAMP = TARGET / ".requirements-worker.txt"


def main() -> None:
    """Vendor `requirements-worker.txt` unless that is done already."""
    if STAMP.exists() and STAMP.read_text() == REQUIREMENTS.read_text():
        return
    shutil.rmtree(TARGET, ignore_errors=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pure = ["--no-deps", "--no-compile", "--only-binary=:all:", "--platform=any"]
    target = ["--implementation=py", "--abi=none", f"--target={TARGET}", f"-r{REQUIREMENTS}"]
    subprocess.run([*install, *pure, *target], check=True)
    STAMP.write_text(REQUIREMENTS.read_text())


if __name__ == "__main__":
    main()
