"""Builds the clients' environments, each where it is missing or its lock file has changed.

Python clients get a venv each, `.clients/NAME`; JavaScript ones `clients/NAME/node_modules`, which
the `npm` on the path fills. `make clients` runs it; names as arguments build those alone.

For newer versions: `pip install --upgrade` in a venv and what `pip freeze` says into its
`constraints.txt`; or, in a JavaScript client's folder, `npm install --save-exact
--omit-lockfile-registry-resolved PACKAGE@latest`. A test says what docs/clients.md is to say then.
"""

import hashlib
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLIENTS = Path(__file__).resolve().parent
ENVIRONMENTS = CLIENTS.parent / ".clients"
LOCKS = ("requirements.txt", "constraints.txt", "package.json", "package-lock.json")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
NPM = ("npm", "ci", "--loglevel=error", "--no-update-notifier", "--no-fund", "--no-audit")


def lock_of(client: Path) -> str:
    """A hash of what a client is built from; empty for one that needs nothing."""
    files = [client / name for name in LOCKS if (client / name).exists()]
    text = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(text + sys.version.encode()).hexdigest() if files else ""


def is_built(name: str) -> bool:
    """Whether a client's environment is there, as its lock file says."""
    lock, stamp = lock_of(CLIENTS / name), ENVIRONMENTS / f"{name}.built"
    return not lock or (stamp.exists() and stamp.read_text() == lock)


def build(name: str) -> str:
    """Builds a client's environment; what went wrong, or nothing."""
    client, folder = CLIENTS / name, ENVIRONMENTS / name
    if (client / "package.json").exists():
        steps = [(*NPM, "--prefix", str(client))]
    else:
        venv.create(folder, clear=True, with_pip=False)
        python, wanted = str(folder / "bin" / "python"), str(client / "requirements.txt")
        steps = [(*PIP, "--python", python, "install", "--no-compile", "-r", wanted)]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            return done.stdout + done.stderr
    (ENVIRONMENTS / f"{name}.built").write_text(lock_of(client))
    return ""


def main(names: list[str]) -> None:
    ENVIRONMENTS.mkdir(exist_ok=True)
    every = sorted(path.name for path in CLIENTS.iterdir() if path.is_dir())
    if unknown := ", ".join(sorted(set(names) - set(every))):
        sys.exit(f"no such client: {unknown}")
    missing = [name for name in names or every if not is_built(name)]
    with ThreadPoolExecutor(2) as pool:
        problems = dict(zip(missing, pool.map(build, missing), strict=True))
    for name, problem in problems.items():
        print(f"{name}: {problem or 'installed'}", flush=True)
    if any(problems.values()):
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
