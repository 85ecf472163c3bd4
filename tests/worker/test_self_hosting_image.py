"""The Dockerfile's steps, its command and its health check, run without a Docker engine."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.inbox import Inbox
from local.runtime.workerd import ROOT

from .conftest import TIMEOUT_SECONDS
from .self_hosting import (
    ENV_FILE,
    KEY,
    PAGE,
    UNIT,
    first_request,
    is_of_alice,
    running,
    with_test_values,
)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in order."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", "").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def instruction(name: str) -> list[str]:
    """The command of an instruction, which is in JSON."""
    (rest,) = (rest for word, rest in instructions() if word == name)
    return json.loads(rest[rest.index("[") :])


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the Dockerfile adds to Debian's files in an image.

    Its steps are run on this machine, with folders in place of file systems, and links to the
    installed packages in place of downloads. Python runs without third-party packages.
    """
    context, build, image = (tmp_path_factory.mktemp(n) for n in ("context", "build", "image"))
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            name = line[1:]
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, context / name)
    downloads = {"npm ci": "node_modules", "python3 local/vendor.py": "python_modules"}
    stages = iter((build, image))
    root, folder = build, ""
    for word, rest in instructions():
        if word == "FROM":
            root, folder = next(stages), ""
        elif word == "WORKDIR":
            folder = rest.lstrip("/")
            (root / folder).mkdir()
        elif word == "COPY":
            *sources, target = rest.removeprefix("--from=build ").split()
            source_root = build if rest.startswith("--from") else context
            for source in sources:
                put(source_root / source.lstrip("/"), f"{root}/{place(folder, target)}")
        elif word == "RUN" and rest in downloads:
            (root / folder / downloads[rest]).symlink_to(ROOT / downloads[rest])
        elif word == "RUN" and "apt-get" in rest:
            certificates = root / "etc" / "ssl" / "certs"
            certificates.mkdir(parents=True)
            (certificates / "ca-certificates.crt").touch()
        elif word == "RUN":
            script = rest.replace("python3", f"{sys.executable} -S").replace(
                "/gateway", f"{build}/gateway"
            )
            env = {"PATH": os.environ["PATH"], "ARGS": "--allow 127.0.0.0/8"}
            subprocess.run(["bash", "-ec", script], cwd=root / folder, env=env, check=True)
    yield image
    shutil.rmtree(build)
    shutil.rmtree(image)


def place(folder: str, target: str) -> str:
    """The path of a target of `COPY`, relative to the root of the file system."""
    return target.lstrip("/") if target.startswith("/") else f"{folder}/{target}"


def put(source: Path, target: str) -> None:
    """Copy as `COPY` does: the content of a folder, or a file to a name or into a folder."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        into = Path(target) if target.endswith("/") else Path(target).parent
        into.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


@pytest.mark.long
def test_the_image_serves_a_traced_request(image: Path, environment: dict[str, Any], inbox: Inbox):
    settings = dict(
        line.split("=", 1) for line in with_test_values(ENV_FILE, environment).splitlines()
    )
    assert json.loads(settings["GATEWAY_API_KEYS"]).keys() == {"alice"}
    own = ("LANGFUSE_BASE_URL", "PROVIDERS")
    env = {**settings, **{name: environment[name] for name in own}}
    serve = [part.replace("/gateway/", f"{image}/gateway/") for part in instruction("CMD")]
    assert {path.name for path in image.iterdir()} == {"etc", "gateway"}
    with running(shlex.join(serve), image, env) as gateway:
        check = shlex.join(instruction("HEALTHCHECK")).replace("8787", gateway.url.split(":")[-1])
        assert subprocess.run(["bash", "-c", check], timeout=TIMEOUT_SECONDS).returncode == 0
        assert "data: [DONE]" in first_request(gateway.url, KEY)
        (observation,) = inbox.wait_for(1, TIMEOUT_SECONDS, where=is_of_alice)
    assert "You said: Hello!" in json.dumps(observation["output"])
    with running(shlex.join(serve), image, {"GATEWAY_API_KEYS": "no JSON"}) as gateway:
        check = shlex.join(instruction("HEALTHCHECK")).replace("8787", gateway.url.split(":")[-1])
        assert subprocess.run(["bash", "-c", check], timeout=TIMEOUT_SECONDS).returncode == 1


def test_the_systemd_unit_runs_the_command_of_the_image():
    (serve,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    serve = serve.replace("/opt/ai-gateway/dist/", "/gateway/").replace(
        "127.0.0.1:%i", "0.0.0.0:8787"
    )
    assert shlex.split(serve) == instruction("CMD")
    (environment_file,) = re.findall(r"^EnvironmentFile=(.*)$", UNIT, re.MULTILINE)
    assert f"`{environment_file}`" in PAGE


def test_the_build_context_has_only_the_copied_files():
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    copied = {
        source.split("/")[0]
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert allowed == copied
    assert not any(name.startswith(".dev") for name in allowed)
