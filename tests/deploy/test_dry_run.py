"""Tests of what `wrangler deploy --dry-run` would upload."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from local.runtime import NODE_MODULES, ROOT, NotInstalled, bundle, require_installed


def dry_run(project: Path, folder: Path, environment: str = "", *arguments: str) -> str:
    """The output of a dry run of `wrangler deploy`, which writes the upload to `folder / "out"`."""
    bin_folder = NODE_MODULES / ".bin"
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("CLOUDFLARE_", "CF_"))},
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "WRANGLER_SEND_METRICS": "false",
        "HOME": str(folder / "home"),
    }
    command = ["deploy", "--dry-run", f"--outdir={folder / 'out'}", f"--env={environment}"]
    result = subprocess.run(
        [bin_folder / "wrangler", *command, *arguments],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert shutil.which("wrangler", path=env["PATH"])
    return result.stdout


def uncommented_wrangler_toml() -> str:
    """`wrangler.toml` with all its optional sections uncommented."""
    return re.sub(r"(?m)^#(?=\S)", "", (ROOT / "wrangler.toml").read_text())


def project_in(folder: Path, more: str = "") -> Path:
    """A copy of this project in `folder`, with `wrangler.toml` uncommented and `more` appended."""
    project = folder / "project"
    project.mkdir()
    for name in ("src", "local", "python_modules", "requirements-worker.txt"):
        (project / name).symlink_to(ROOT / name)
    (project / "wrangler.toml").write_text(f"{uncommented_wrangler_toml()}\n{more}")
    return project


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    try:
        require_installed()
    except NotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("upload")
    dry_run(ROOT, folder)
    return folder / "out"


def test_the_bundle_is_what_the_local_runtime_runs(uploaded: Path):
    shipped = {
        path.relative_to(uploaded).as_posix(): path.read_text() for path in uploaded.rglob("*.py")
    }
    assert shipped == bundle()
    assert "entry.py" in shipped
    assert "python_modules/workers/__init__.py" in shipped


def test_the_source_is_smaller_than_768_kib(uploaded: Path):
    files = [p for p in uploaded.rglob("*.py") if "python_modules" not in p.parts]
    assert sum(path.stat().st_size for path in files) < 768 * 1024  # KiB as wrangler counts them


def test_no_tooling_or_secret_is_uploaded(uploaded: Path):
    names = {path.name for path in uploaded.rglob("*")}
    assert not names & {
        "conftest.py",
        "host.mjs",
        "host.py",
        "provider.py",
        "inbox.py",
        ".dev.vars",
    }
    text = "".join(p.read_text() for p in uploaded.rglob("*.py"))
    assert not re.search(r"sk-lf-[0-9a-f]{8}-", text)


@pytest.mark.parametrize("environment", ["", "production"])
def test_queue_and_rate_limit_deploy_when_uncommented(tmp_path: Path, environment: str):
    source = uncommented_wrangler_toml()
    name = "-".join(filter(None, ["ai-gateway-worker", environment, "traces"]))
    output = dry_run(project_in(tmp_path), tmp_path, environment)
    assert f"env.TRACE_QUEUE ({name})" in output
    assert "env.RATE_LIMIT (100 requests/60s)" in output
    config = tomllib.loads(source)
    config = config["env"].get(environment, config)
    (consumer,) = config["queues"]["consumers"]
    assert consumer == {
        "queue": name,
        "max_batch_size": 100,
        "max_batch_timeout": 5,
        "max_retries": 20,
        "dead_letter_queue": f"{name}-dead",
    }
    for queue in (name, f"{name}-dead"):  # comments have the commands that create them
        assert f"wrangler queues create {queue}\n" in source


def test_each_environment_has_its_own_rate_limit_namespace():
    config = tomllib.loads(uncommented_wrangler_toml())
    limits = [*config["ratelimits"], *config["env"]["production"]["ratelimits"]]
    assert len({limit["namespace_id"] for limit in limits}) == len(limits) == 2


def test_each_environment_has_its_own_custom_domain():
    config = tomllib.loads(uncommented_wrangler_toml())
    routes = [*config["routes"], *config["env"]["production"]["routes"]]
    assert len({route["pattern"] for route in routes}) == len(routes) == 2
    assert all(route["custom_domain"] for route in routes)
