"""Secrets known by their looks, and the deployer's own patterns for what must not be recorded.

A pattern is searched in texts of any length, so it must not be one that can take for ever: the
check here refuses choices inside repetitions and references to groups, which are what makes a
search exponential (https://owasp.org/www-community/attacks/Regular_expression_Denial_of_Service_-_ReDoS).
A Worker's clock stands still while it computes, so nothing could stop such a search.
"""

import functools
import math
import re
from collections.abc import Iterable, Iterator
from re import _constants as sre  # pyright: ignore[reportAttributeAccessIssue]
from re import _parser  # pyright: ignore[reportAttributeAccessIssue]
from typing import Any

PATTERN_LENGTH = 500
PATTERN_COUNT = 20
# A repetition that may end at more than this many places counts as a loop.
SHORT_REPEAT = 64
LOOPS = 3
# In how many ways all the alternatives and short repetitions of a pattern may be combined.
WAYS = 10_000

# Each begins with a literal, which a text is searched for before the pattern is tried at all.
# Formats are from the vendors' documentation and GitHub's list of secret scanning patterns:
# https://docs.github.com/en/code-security/reference/secret-security/supported-secret-scanning-patterns
_KEYS = {
    "sk-": r"sk-(?<![A-Za-z0-9]sk-)[A-Za-z0-9_-]{20,300}",
    "sk_": r"sk_(?:live|test)_[A-Za-z0-9]{16,200}",
    "rk_": r"rk_(?:live|test)_[A-Za-z0-9]{16,200}",
    "gw_": r"gw_(?<![A-Za-z0-9]gw_)[A-Za-z0-9_-]{20,100}",
    "AKIA": r"AKIA[A-Z0-9]{16}",
    "ASIA": r"ASIA[A-Z0-9]{16}",
    "AIza": r"AIza[A-Za-z0-9_-]{35}",
    "ghp_": r"ghp_[A-Za-z0-9]{36,255}",
    "gho_": r"gho_[A-Za-z0-9]{36,255}",
    "ghs_": r"ghs_[A-Za-z0-9]{36,255}",
    "github_pat_": r"github_pat_[A-Za-z0-9_]{22,255}",
    "glpat-": r"glpat-[A-Za-z0-9_-]{20,200}",
    "gsk_": r"gsk_[A-Za-z0-9]{20,200}",
    "hf_": r"hf_(?<![A-Za-z0-9]hf_)[A-Za-z0-9]{30,100}",
    "xai-": r"xai-[A-Za-z0-9]{40,200}",
    "xox": r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",
    "eyJ": r"eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,8000}\.[A-Za-z0-9_-]{10,2000}",
    "-----BEGIN ": r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,10000}-----END",
}


# Members that hold a secret, in a text that is the beginning of some JSON.
_MEMBERS = (
    *("api_key", "apiKey", "api-key", "authorization", "Authorization", "password", "secret"),
    *("access_token", "auth_token", "authorization_token", "private_key", "client_secret"),
)
_KEYS |= {name: rf'{name}\\?"\s{{0,20}}:\s{{0,20}}\\?"[^"]{{0,500}}' for name in _MEMBERS}


def is_secret_member(name: str) -> bool:
    """Whether a member of an object is called as one that holds a secret."""
    return name in _MEMBERS


def keys_in(text: str) -> list[re.Pattern[str]]:
    """The patterns of keys that a text may hold one of. Empty, and quick, for nearly every text."""
    return [_compiled(pattern) for literal, pattern in _KEYS.items() if literal in text]


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def check(patterns: Iterable[Any]) -> tuple[re.Pattern[str], ...]:
    """Compile a deployer's patterns (https://docs.python.org/3/library/re.html#regular-expression-syntax).

    Raises `ValueError`, with what to change, for one that is malformed or could take too long.
    """
    found = list(patterns)
    if len(found) > PATTERN_COUNT:
        raise ValueError(f"holds more than {PATTERN_COUNT} patterns")
    return tuple(_check(pattern, number) for number, pattern in enumerate(found, 1))


def _check(pattern: Any, number: int) -> re.Pattern[str]:
    if not isinstance(pattern, str) or not 0 < len(pattern) <= PATTERN_LENGTH:
        raise ValueError(f"pattern {number} must be a text of at most {PATTERN_LENGTH} characters")
    try:
        compiled = re.compile(pattern)
        ways, loops = _effort(_parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"pattern {number} is no regular expression: {error}") from None
    if compiled.match(""):
        raise ValueError(f"pattern {number} matches nothing at all, and so everywhere")
    if ways > WAYS or loops > LOOPS:
        raise ValueError(
            f"pattern {number} could take too long: no choice inside a long repetition, no "
            f"reference to a group, at most {LOOPS} long repetitions"
        )
    return compiled


def _effort(tree: Any) -> tuple[int, int]:
    """In how many ways a part of a pattern may be tried, and how many loops it has."""
    ways, loops = 1, 0
    for operation, argument in tree:
        parts = [_effort(part) for part in _trees(argument)]
        inner_loops = sum(part[1] for part in parts)
        inner_ways = math.prod(part[0] for part in parts)
        if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            least, most, _ = argument
            rounds = min(int(most), SHORT_REPEAT)
            if most - least > SHORT_REPEAT:
                inner_loops += 1
            else:
                ways *= most - least + 1
            # What is tried in one round of a repetition is tried in each of the others too.
            ways *= min(inner_ways, WAYS + 1) ** rounds
            if rounds > 1 and any(part[1] for part in parts):
                ways *= WAYS + 1
        elif operation is sre.BRANCH:
            ways *= sum(part[0] for part in parts)
        elif operation in (sre.GROUPREF, sre.GROUPREF_EXISTS):
            ways *= WAYS + 1
        else:
            ways *= inner_ways
        loops += inner_loops
        ways = min(ways, WAYS + 1)
    return ways, loops


def _trees(argument: Any) -> Iterator[Any]:
    """The parse trees in an operation's argument, however it is nested."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _trees(part)
