"""Secrets known by their looks, and the deployer's own patterns for what must not be recorded.

A Worker's clock stands still while it computes, so nothing could stop a search that takes for ever:
`check` refuses patterns whose repetitions and choices multiply.
"""

import math
import re
from collections.abc import Iterable, Iterator
from re import (
    _compiler,  # pyright: ignore[reportAttributeAccessIssue]
    _parser,  # pyright: ignore[reportAttributeAccessIssue]
)
from re import _constants as sre  # pyright: ignore[reportAttributeAccessIssue]
from typing import Any

from core.limits import (
    MAX_MATCH_PATHS,
    MAX_PATTERN_CHARS,
    MAX_PATTERNS,
    MAX_SHORT_REPETITION,
    REGEX_OVERLAP_CHARS,
    REGEX_WINDOW_CHARS,
)


def compile_patterns(patterns: Iterable[Any]) -> tuple[re.Pattern[str], ...]:
    """Compile a deployer's patterns (https://docs.python.org/3/library/re.html#regular-expression-syntax).

    Raises `ValueError`, with what to change, for one that is malformed or could take too long.
    """
    found = list(patterns)
    if len(found) > MAX_PATTERNS:
        raise ValueError(f"holds more than {MAX_PATTERNS} patterns")
    return tuple(_compile_pattern(pattern, number) for number, pattern in enumerate(found, 1))


def _compile_pattern(pattern: Any, number: int) -> re.Pattern[str]:
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_PATTERN_CHARS:
        raise ValueError(
            f"pattern {number} must be a text of at most {MAX_PATTERN_CHARS} characters"
        )
    try:
        compiled = re.compile(pattern)
        ways = _count_match_paths(_parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"pattern {number} is no regular expression: {error}") from None
    if compiled.match(""):
        raise ValueError(f"pattern {number} matches nothing at all, and so everywhere")
    if ways > MAX_MATCH_PATHS:
        raise ValueError(
            f"pattern {number} could take too long: a long repetition must end where something "
            f"comes that it can't match itself, and hold no choice and no other repetition"
        )
    return compiled


def replace_matches(text: str, patterns: Iterable[re.Pattern[str]], replacement: str) -> str:
    """A text without what the patterns match, as far as a match lies within one piece of it."""
    for pattern in patterns:
        done, start = [], 0
        while len(text) - start > REGEX_WINDOW_CHARS:
            piece, end = (
                text[start : start + REGEX_WINDOW_CHARS],
                REGEX_WINDOW_CHARS - REGEX_OVERLAP_CHARS,
            )
            for match in pattern.finditer(piece):
                if match.start() >= end:
                    break  # the next piece shows all of it
                end = max(end, match.end())
            done.append(pattern.sub(replacement, piece[:end]))
            start += end
        text = "".join((*done, pattern.sub(replacement, text[start:])))
    return text


def _count_match_paths(tree: Any, last: bool = True) -> int:
    """In how many ways a part of a pattern may be tried from one place, at most `WAYS` + 1.

    `last` is whether nothing comes after it.
    """
    ways = 1
    for position, (operation, argument) in enumerate(tree):
        repeats = operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
        ends = last and all(operation is sre.AT for operation, _ in tree[position + 1 :])
        parts = [_count_match_paths(part, ends and not repeats) for part in _subpatterns(argument)]
        inner = math.prod(parts)
        if repeats:
            least, most, body = argument
            choices = int(most) - least + 1
            # What is tried in one round of a repetition is tried in each of the others too.
            ways *= min(inner, MAX_MATCH_PATHS + 1) ** min(int(most), MAX_SHORT_REPETITION)
            if not (
                _matching_characters(body) if ends else _ends_at_one_place(body, tree, position)
            ):
                ways *= choices
        elif operation is sre.BRANCH:
            ways *= sum(parts)
        elif operation in (sre.GROUPREF, sre.GROUPREF_EXISTS):
            ways *= MAX_MATCH_PATHS + 1
        else:
            ways *= inner
        ways = min(ways, MAX_MATCH_PATHS + 1)
    return ways


def _ends_at_one_place(body: Any, tree: Any, position: int) -> bool:
    """Whether a repetition can only end at one place: it goes on for as long as one kind of
    character does, and then comes a character of another kind."""
    own = _matching_characters(body)
    if own is None or position + 1 == len(tree):
        return False
    operation, argument = tree[position + 1]
    if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        least, _, following = argument
        other = _matching_characters(following) if least else None
    else:
        other = _matching_characters([(operation, argument)])
    return other is not None and not own & other


_PROBE_CHARACTERS = [chr(code) for code in range(128)] + [
    "\xa0",
    "é",
    "ß",
    "٣",
    "中",
    "😀",
    "\u2028",
]


def _matching_characters(tree: Any) -> set[str] | None:
    """The characters that a part of a pattern matches, if it always matches just one."""
    items = list(tree)
    if len(items) != 1 or items[0][0] not in (sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY):
        return None
    part = _parser.SubPattern(_parser.State(), items)
    single = _compiler.compile(part)
    # Case may be ignored: the other case counts as well.
    return {c for c in _PROBE_CHARACTERS if single.fullmatch(c)} | {
        c for c in _PROBE_CHARACTERS if single.fullmatch(c.swapcase()[:1])
    }


def _subpatterns(argument: Any) -> Iterator[Any]:
    """The parse trees in an operation's argument, however it is nested."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _subpatterns(part)
