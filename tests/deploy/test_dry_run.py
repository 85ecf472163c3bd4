"""What `wrangler deploy` would upload."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from local.runtime import NODE_MODULES, ROOT, NotInstalled, bundle, require_installed


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory) -> Path:
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("upload")
    bin_folder = NODE_MODULES / ".bin"
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("CLOUDFLARE_", "CF_"))},
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "WRANGLER_SEND_METRICS": "false",
        "HOME": str(folder / "home"),
    }
    done = subprocess.run(
        [bin_folder / "wrangler", "deploy", "--dry-run", f"--outdir={folder / 'out'}"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert shutil.which("wrangler", path=env["PATH"])
    return folder / "out"


def test_the_bundle_is_what_the_local_runtime_runs(uploaded: Path):
    shipped = {
        path.relative_to(uploaded).as_posix(): path.read_text() for path in uploaded.rglob("*.py")
    }
    assert shipped == bundle()
    assert "entry.py" in shipped
    assert "python_modules/workers/__init__.py" in shipped


def test_our_own_code_is_small(uploaded: Path):
    own = [p for p in uploaded.rglob("*.py") if "python_modules" not in p.parts]
    assert sum(path.stat().st_size for path in own) < 210 * 1024  # as wrangler counts


def test_no_tooling_ships(uploaded: Path):
    names = {path.name for path in uploaded.rglob("*")}
    assert not names & {"conftest.py", "host.mjs", "glue.py", "echo.py", "inbox.py", ".dev.vars"}
    text = "".join(p.read_text() for p in uploaded.rglob("*.py"))
    assert not re.search(r"sk-lf-[0-9a-f]{8}-", text)
