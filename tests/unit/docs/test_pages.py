"""Every page of the repository: its links lead somewhere, and each of its blocks of code is known
to a test. Blocks in `sh` and `python` are run, by tests/worker/test_docs.py or by the page's own
test."""

import json
import re
import subprocess
import tomllib
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.runtime import NODE_MODULES, ROOT
from settings.load import BINDING_NAMES, CONTINUATION_NAMES, VARIABLE_NAMES, load_settings
from tests.pages import OWN_TESTS, PAGES, Block, anchors, blocks, links, prose, text_of

RUN = ("sh", "python")
# Languages whose blocks are no more than looked at, and why.
NOT_RUN = {
    "": "what is shown, and not typed: a line of the log, an error",
    "text": "the same",
    "diff": "tests/worker/test_docs_extending.py applies it",
    "http": "headers, which test_docs.py reads",
}
CHECKED = ("json", "toml", "js", "javascript")
EVERY = [block for page in PAGES for block in blocks(page)]


def of(*languages: str) -> list[Block]:
    return [block for block in EVERY if block.language in languages]


def test_the_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/gateway.md", "bench/README.md"} <= set(PAGES)
    assert len(of("sh")) > 40


def test_every_language_is_known_to_a_test():
    for block in EVERY:
        known = block.language in (*RUN, *CHECKED, *NOT_RUN)
        assert known or block.page in OWN_TESTS, f"{block.page}:{block.line}"


@pytest.mark.parametrize("page", [page for page in OWN_TESTS if page in PAGES])
def test_a_page_with_a_test_of_its_own_has_it(page: str):
    place = ROOT / OWN_TESTS[page]
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert any(PurePosixPath(page).name in file.read_text() for file in files), OWN_TESTS[page]


def test_contributing_names_every_folder_of_tests():
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "tests").glob("*/test_*.py")}
    for folder in folders:
        assert f"| `{folder}` |" in text_of("CONTRIBUTING.md"), folder


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str):
    for link in links(page):
        url = urlsplit(link)
        if url.scheme in ("http", "https"):
            assert re.fullmatch(r"[\w.-]+(:\d+)?", url.netloc), link
            continue
        assert not url.scheme, link
        # Where a page lies, "" for itself.
        target = (ROOT / page).parent / url.path if url.path else ROOT / page
        target = target.resolve()
        assert target.exists(), f"{page}: {link}"
        name = target.relative_to(ROOT).as_posix()
        if url.fragment:
            assert name in PAGES, f"{page}: {link}"
            assert url.fragment in anchors(name), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page: str):
    """Paths in code, of folders that are ours."""
    names = re.findall(r"`((?:src|local|tests|bench|docs)/[\w./-]*\w\.\w+)`", prose(page))
    made = re.findall(r"(?m)^`([\w./-]+)`:$", text_of(page))  # by the example that follows
    for name in set(names) - set(made):
        if name.startswith("bench/out/"):  # which the benchmark writes
            continue
        assert (ROOT / name).exists(), f"{page}: {name}"


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_is_json(block: Block):
    json.loads(block.code)


@pytest.mark.parametrize("block", of("js", "javascript"), ids=str)
def test_javascript_is_javascript(block: Block):
    node = NODE_MODULES / ".bin" / "node"
    if not node.exists():
        pytest.skip("Node is not installed: run `make setup`")
    command = [node, "--input-type=module", "--check", "-"]
    done = subprocess.run(command, input=block.code, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def settings(parsed: dict[str, Any]) -> dict[str, Any]:
    """The variables of a piece of wrangler.toml: what stands under `vars`, in any environment, and
    on its own."""
    environments = [parsed, *parsed.get("env", {}).values()]
    under = {n: value for env in environments for n, value in env.get("vars", {}).items()}
    return {**under, **{name: value for name, value in parsed.items() if name.isupper()}}


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_toml_is_toml(block: Block):
    tomllib.loads(block.code)


@pytest.mark.parametrize("block", [b for b in of("toml") if b.page not in OWN_TESTS], ids=str)
def test_toml_is_what_wrangler_and_the_gateway_read(block: Block):
    parsed = tomllib.loads(block.code)
    variables = settings(parsed)
    assert set(variables) <= {*VARIABLE_NAMES, *CONTINUATION_NAMES}
    read = load_settings(variables, has_queue=True)
    assert read.warnings == ()
    assert re.sub(r"CONFIGS: \w+ names \w+, which is not set(; )?", "", read.problem or "") == ""
    bound = re.findall(r'(?m)^#?(?:binding|name) = "([A-Z_]+)"', block.code)
    assert set(bound) <= {*BINDING_NAMES, "TRACE_QUEUE", "RATE_LIMIT"}
    schema = NODE_MODULES / "wrangler" / "config-schema.json"
    if schema.exists():
        known = json.loads(schema.read_text())["definitions"]["RawConfig"]["properties"]
        for table in (parsed, *parsed.get("env", {}).values()):
            assert {name for name in table if not name.isupper()} <= set(known)
