"""Hypothesis profiles, and the order of the test modules."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Examples of each property test, by HYPOTHESIS_PROFILE: those of `make test-fast`, `make test`,
# `make test-all` and `make fuzz`.
for name, examples in (("fast", 20), ("short", 200), ("long", 500), ("fuzz", 10_000)):
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

# The modules that take longest. They begin first, so that at the end no worker waits for one.
LONGEST = (
    *("test_docs_extending", "test_trace", "test_list", "test_wrangler_commands", "test_memory"),
    *("test_faults", "test_langfuse_sdk", "test_queue", "test_docs", "test_snapshot"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the modules, which pytest's workers take one after another."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> tuple[int, bool]:
    """The longest modules come first, and the unit tests of the others last."""
    name = item.path.stem
    rank = LONGEST.index(name) if name in LONGEST else len(LONGEST)
    return rank, "unit" in item.path.parts
