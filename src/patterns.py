"""Secrets known by their looks, and the deployer's own patterns for what must not be recorded.

A Worker's clock stands still while it computes, so nothing could stop a search that takes for ever:
`check` refuses patterns whose repetitions and choices multiply.
"""

import functools
import math
import re
from collections.abc import Iterable, Iterator
from re import (
    _compiler,  # pyright: ignore[reportAttributeAccessIssue]
    _parser,  # pyright: ignore[reportAttributeAccessIssue]
)
from re import _constants as sre  # pyright: ignore[reportAttributeAccessIssue]
from typing import Any

PATTERN_LENGTH = 500
PATTERN_COUNT = 20
# A repetition that may end at more than this many places counts as a loop.
SHORT_REPEAT = 64
# In how many ways a search may go on from one place.
WAYS = 100
# A text is searched in pieces of this length, each with the end of the one before: a loop may go to
# the end of the piece from each place in it.
PIECE, OVERLAP = 500, 100

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
    # Not from every place in a long run of letters, each of which goes on to its end.
    "eyJ": r"eyJ(?<![A-Za-z0-9_-]{4}eyJ)[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,8000}"
    r"\.[A-Za-z0-9_-]{10,2000}",
    "-----BEGIN ": r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,10000}-----END",
}


# Members that hold a secret, in a text that is the beginning of some JSON.
SECRET_MEMBERS = (
    *("api_key", "apiKey", "api-key", "authorization", "Authorization", "password", "secret"),
    *("access_token", "auth_token", "authorization_token", "private_key", "client_secret"),
)
_KEYS |= {name: rf'{name}\\?"\s{{0,20}}:\s{{0,20}}\\?"[^"]{{0,500}}' for name in SECRET_MEMBERS}


# One of them is in every text that holds a key. To look for each literal takes several times as
# long as for characters that are rare, and for what must stand around them.
_HINTS = [
    re.compile(hint).search
    for hint in (
        r"_(?:[A-Za-z0-9]{16}|(?<=gw_)|(?<=pat_)|(?:(?<=api_)|(?<=private_))key|token\\*\")",
        r"-(?:(?<=sk-)[A-Za-z0-9_-]{20}|(?<=glpat-)|(?<=xai-)|(?<=api-)key|----BEGIN )",
        *("A(?:KIA|SIA|Iza)", "K(?<=apiK)", "J(?<=eyJ)", "w(?<=passw)", "xox", "z(?<=uthoriz)"),
    )
]


def keys_in(text: str) -> list[re.Pattern[str]]:
    """The patterns of keys that a text may hold one of. Empty, and quick, for nearly every text."""
    if "secret" not in text and not any(hint(text) for hint in _HINTS):
        return []
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
        ways = _ways(_parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"pattern {number} is no regular expression: {error}") from None
    if compiled.match(""):
        raise ValueError(f"pattern {number} matches nothing at all, and so everywhere")
    if ways > WAYS:
        raise ValueError(
            f"pattern {number} could take too long: a long repetition must end where something "
            f"comes that it can't match itself, and hold no choice and no other repetition"
        )
    return compiled


def remove(text: str, patterns: Iterable[re.Pattern[str]], replacement: str) -> str:
    """A text without what the patterns match, as far as a match lies within one piece of it."""
    for pattern in patterns:
        done, start = [], 0
        while len(text) - start > PIECE:
            piece, end = text[start : start + PIECE], PIECE - OVERLAP
            for match in pattern.finditer(piece):
                if match.start() >= end:
                    break  # the next piece shows all of it
                end = max(end, match.end())
            done.append(pattern.sub(replacement, piece[:end]))
            start += end
        text = "".join((*done, pattern.sub(replacement, text[start:])))
    return text


def _ways(tree: Any, last: bool = True) -> int:
    """In how many ways a part of a pattern may be tried from one place, at most `WAYS` + 1.

    `last` is whether nothing comes after it.
    """
    ways = 1
    for position, (operation, argument) in enumerate(tree):
        repeats = operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
        ends = last and all(operation is sre.AT for operation, _ in tree[position + 1 :])
        parts = [_ways(part, ends and not repeats) for part in _trees(argument)]
        inner = math.prod(parts)
        if repeats:
            least, most, body = argument
            choices = int(most) - least + 1
            # What is tried in one round of a repetition is tried in each of the others too.
            ways *= min(inner, WAYS + 1) ** min(int(most), SHORT_REPEAT)
            if not (_characters(body) if ends else _ends_by_itself(body, tree, position)):
                ways *= choices
        elif operation is sre.BRANCH:
            ways *= sum(parts)
        elif operation in (sre.GROUPREF, sre.GROUPREF_EXISTS):
            ways *= WAYS + 1
        else:
            ways *= inner
        ways = min(ways, WAYS + 1)
    return ways


def _ends_by_itself(body: Any, tree: Any, position: int) -> bool:
    """Whether a repetition can only end at one place: it goes on for as long as one kind of
    character does, and then comes a character of another kind."""
    own = _characters(body)
    if own is None or position + 1 == len(tree):
        return False
    operation, argument = tree[position + 1]
    if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        least, _, following = argument
        other = _characters(following) if least else None
    else:
        other = _characters([(operation, argument)])
    return other is not None and not own & other


_PROBES = [chr(code) for code in range(128)] + ["\xa0", "é", "ß", "٣", "中", "😀", "\u2028"]


def _characters(tree: Any) -> set[str] | None:
    """The characters that a part of a pattern matches, if it always matches just one."""
    items = list(tree)
    if len(items) != 1 or items[0][0] not in (sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY):
        return None
    part = _parser.SubPattern(_parser.State(), items)
    single = _compiler.compile(part)
    # Case may be ignored: the other case counts as well.
    return {c for c in _PROBES if single.fullmatch(c)} | {
        c for c in _PROBES if single.fullmatch(c.swapcase()[:1])
    }


def _trees(argument: Any) -> Iterator[Any]:
    """The parse trees in an operation's argument, however it is nested."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _trees(part)
