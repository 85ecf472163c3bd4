"""Every page of the repository has valid links and only blocks of code that a test checks.

Blocks in `sh` and `python` are run by tests/worker/test_docs.py, or by the page's own test.
"""

import json
import re
import subprocess
import tomllib
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.runtime import NODE_MODULES, ROOT
from settings.load import load_settings
from settings.table import BINDING_NAMES, CONTINUATION_NAMES, VARIABLE_NAMES
from tests.pages import OWN_TESTS, PAGES, Block, anchors, blocks, links, prose, text_of

RUN_LANGUAGES = ("sh", "python")
# Languages whose blocks are not run, and why.
NOT_RUN_LANGUAGES = {
    "": "output, such as a line of the log or an error",
    "text": "the same",
    "diff": "tests/worker/test_docs_extending.py applies it",
    "http": "headers, which test_docs.py reads",
}
CHECKED_LANGUAGES = ("json", "toml", "js", "javascript")
ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]


def blocks_in(*languages: str) -> list[Block]:
    return [block for block in ALL_BLOCKS if block.language in languages]


def test_the_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/gateway.md", "bench/README.md"} <= set(PAGES)
    assert len(blocks_in("sh")) > 40


def test_every_block_has_a_language_that_a_test_checks():
    for block in ALL_BLOCKS:
        is_known = block.language in (*RUN_LANGUAGES, *CHECKED_LANGUAGES, *NOT_RUN_LANGUAGES)
        assert is_known or block.page in OWN_TESTS, f"{block.page}:{block.line}"


@pytest.mark.parametrize("page", [page for page in OWN_TESTS if page in PAGES])
def test_the_own_test_of_a_page_names_the_page(page: str):
    path = ROOT / OWN_TESTS[page]
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert any(PurePosixPath(page).name in file.read_text() for file in files), OWN_TESTS[page]


def test_contributing_lists_every_folder_of_tests():
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "tests").glob("*/test_*.py")}
    for folder in folders:
        assert f"| `{folder}` |" in text_of("CONTRIBUTING.md"), folder


@pytest.mark.parametrize("page", PAGES)
def test_every_link_has_a_target(page: str):
    for link in links(page):
        url = urlsplit(link)
        if url.scheme in ("http", "https"):
            assert re.fullmatch(r"[\w.-]+(:\d+)?", url.netloc), link
            continue
        assert not url.scheme, link
        # A path relative to the page; "" is the page itself.
        target = (ROOT / page).parent / url.path if url.path else ROOT / page
        target = target.resolve()
        assert target.exists(), f"{page}: {link}"
        name = target.relative_to(ROOT).as_posix()
        if url.fragment:
            assert name in PAGES, f"{page}: {link}"
            assert url.fragment in anchors(name), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str):
    """Paths in code spans, below the folders of this repository."""
    names = re.findall(r"`((?:src|local|tests|bench|docs)/[\w./-]*\w\.\w+)`", prose(page))
    # Created by the example that follows.
    created = re.findall(r"(?m)^`([\w./-]+)`:$", text_of(page))
    for name in set(names) - set(created):
        if name.startswith("bench/out/"):  # the benchmark's output
            continue
        assert (ROOT / name).exists(), f"{page}: {name}"


@pytest.mark.parametrize("block", blocks_in("json"), ids=str)
def test_a_json_block_is_valid(block: Block):
    json.loads(block.code)


@pytest.mark.parametrize("block", blocks_in("js", "javascript"), ids=str)
def test_a_javascript_block_is_valid(block: Block):
    node = NODE_MODULES / ".bin" / "node"
    if not node.exists():
        pytest.skip("Node is not installed: run `make setup`")
    command = [node, "--input-type=module", "--check", "-"]
    result = subprocess.run(command, input=block.code, capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stderr


def variables_of(parsed: dict[str, Any]) -> dict[str, Any]:
    """The variables in a part of wrangler.toml: under `vars` in any environment, or at the top."""
    environments = [parsed, *parsed.get("env", {}).values()]
    under = {n: value for env in environments for n, value in env.get("vars", {}).items()}
    return {**under, **{name: value for name, value in parsed.items() if name.isupper()}}


@pytest.mark.parametrize("block", blocks_in("toml"), ids=str)
def test_a_toml_block_is_valid(block: Block):
    tomllib.loads(block.code)


@pytest.mark.parametrize(
    "block", [b for b in blocks_in("toml") if b.page not in OWN_TESTS], ids=str
)
def test_a_toml_block_has_only_names_of_wrangler_and_the_gateway(block: Block):
    parsed = tomllib.loads(block.code)
    variables = variables_of(parsed)
    assert set(variables) <= {*VARIABLE_NAMES, *CONTINUATION_NAMES}
    loaded = load_settings(variables, has_queue=True)
    assert loaded.warnings == ()
    assert re.sub(r"CONFIGS: \w+ names \w+, which is not set(; )?", "", loaded.problem or "") == ""
    bound = re.findall(r'(?m)^#?(?:binding|name) = "([A-Z_]+)"', block.code)
    assert set(bound) <= set(BINDING_NAMES)
    schema = NODE_MODULES / "wrangler" / "config-schema.json"
    if schema.exists():
        known = json.loads(schema.read_text())["definitions"]["RawConfig"]["properties"]
        for table in (parsed, *parsed.get("env", {}).values()):
            assert {name for name in table if not name.isupper()} <= set(known)
