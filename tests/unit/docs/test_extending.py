"""The examples of docs/extending.md still fit the source. tests/worker/test_docs_extending.py runs
them."""

import ast

import pytest

from tests.examples import changes


@pytest.mark.parametrize("heading", ["A dialect", "A provider", "An export protocol"])
def test_the_examples_can_be_applied(heading: str):
    made = changes(heading)
    assert len(made) >= 3
    for path, text in made.items():
        if path.endswith(".py"):
            ast.parse(text, path)
