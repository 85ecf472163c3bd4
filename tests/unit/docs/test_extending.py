"""The examples of docs/extending.md can be applied to the source.

tests/worker/test_docs_extending.py runs them.
"""

import ast

import pytest

from tests.examples import changes


@pytest.mark.parametrize("heading", ["A dialect", "A provider", "An export protocol"])
def test_the_examples_can_be_applied(heading: str):
    changed_files = changes(heading)
    assert len(changed_files) >= 3
    for path, text in changed_files.items():
        if path.endswith(".py"):
            ast.parse(text, path)
