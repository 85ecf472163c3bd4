"""Regular expressions of untrusted origin, compiled and searched in bounded time.

The clock of a Worker stands still while it computes, so no timeout can end a search. Therefore
`compile_patterns` refuses patterns whose repetitions and alternatives multiply, and
`replace_matches` searches a long text in windows.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Protocol, TypeAlias, cast

from core.limits import (
    MAX_MATCH_PATHS,
    MAX_PATTERN_CHARS,
    MAX_PATTERNS,
    MAX_SHORT_REPETITION,
    REGEX_OVERLAP_CHARS,
    REGEX_WINDOW_CHARS,
)

# A pattern, or a part of one, as `re` parses it: operations with their arguments, in order.
_Tree: TypeAlias = Sequence[tuple[object, object]]


class _Parser(Protocol):
    """What is used of `re._parser`, which typeshed does not describe."""

    def parse(self, pattern: str) -> _Tree: ...
    def SubPattern(self, state: object, data: list[tuple[object, object]]) -> _Tree: ...
    def State(self) -> object: ...


class _Compiler(Protocol):
    def compile(self, tree: _Tree) -> re.Pattern[str]: ...


_parser = cast("_Parser", import_module("re._parser"))
_compiler = cast("_Compiler", import_module("re._compiler"))
_TREE_TYPE = type(_parser.parse(""))

# The operations of a parsed pattern that differ here.
_OPERATIONS = vars(import_module("re._constants"))
_REPETITIONS = [_OPERATIONS[f"{kind}_REPEAT"] for kind in ("MAX", "MIN", "POSSESSIVE")]
_SINGLE_CHARACTERS = [_OPERATIONS[name] for name in ("LITERAL", "NOT_LITERAL", "IN", "ANY")]
_POSITION, _BRANCH = _OPERATIONS["AT"], _OPERATIONS["BRANCH"]
_GROUP_REFERENCES = [_OPERATIONS[name] for name in ("GROUPREF", "GROUPREF_EXISTS")]


def compile_patterns(patterns: Iterable[object]) -> tuple[re.Pattern[str], ...]:
    """Check and compile regular expressions of a deployer or a caller, which have Python's syntax.

    Raises ValueError for more than `MAX_PATTERNS` patterns. Raises ValueError for a pattern that is
    not a text of 1 to `MAX_PATTERN_CHARS` characters, is malformed, matches the empty text, or
    could take too long. The message then contains its position, counted from 1, and the reason.
    https://docs.python.org/3/library/re.html#regular-expression-syntax
    """
    found = list(patterns)
    if len(found) > MAX_PATTERNS:
        raise ValueError(f"holds more than {MAX_PATTERNS} patterns")
    return tuple(_compile_pattern(pattern, number) for number, pattern in enumerate(found, 1))


def _compile_pattern(pattern: object, number: int) -> re.Pattern[str]:
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
    """The text with `replacement`, taken literally, in place of each match of each pattern.

    The time is in proportion to the length of the text, since it is searched in windows of
    `REGEX_WINDOW_CHARS`. A match is always found if it has at most `REGEX_OVERLAP_CHARS`
    characters, including those that lookbehinds and lookaheads examine. A longer match may be
    missed, or replaced only up to the end of a window.
    """
    for pattern in patterns:
        text = _replace_in_windows(text, pattern, replacement)
    return text


def _replace_in_windows(text: str, pattern: re.Pattern[str], replacement: str) -> str:
    """The text with each match of one pattern replaced by `replacement`. Windows of the text, which
    overlap, are searched one after another."""
    done: list[str] = []
    copied = start = 0
    while start <= len(text):
        end = min(start + REGEX_WINDOW_CHARS, len(text))
        # A match that begins in the overlap is left to the next window, which contains more of the
        # text after it.
        next_start = end + 1 if end == len(text) else end - REGEX_OVERLAP_CHARS
        # The searched text includes some text before the window, so that words and lines begin
        # where they do in the whole text. No match begins there.
        before = max(start - REGEX_OVERLAP_CHARS, 0)
        match = pattern.search(text[before:end], start - before)
        if match is None or before + match.start() >= next_start:
            start = next_start
            continue
        done += (text[copied : before + match.start()], replacement)
        copied = before + match.end()
        start = copied if match.end() > match.start() else copied + 1
    return "".join((*done, text[copied:]))


def _count_match_paths(tree: _Tree, last: bool = True) -> int:
    """An upper bound for the ways that a search may try to match a pattern, or a part of it, from
    one position of a text. At most `MAX_MATCH_PATHS` + 1, which stands for any larger number.

    `tree` is the parse tree of the pattern or the part, from the standard library's `re`. `last` is
    True where nothing follows the part in the pattern, or only positions such as `$`.
    """
    ways = 1
    for position, (operation, argument) in enumerate(tree):
        repeats = operation in _REPETITIONS
        at_end = last and all(operation is _POSITION for operation, _ in tree[position + 1 :])
        parts = [
            _count_match_paths(part, at_end and not repeats) for part in _subpatterns(argument)
        ]
        inner_ways = math.prod(parts)
        if repeats:
            least, most, body = cast("tuple[int, int, _Tree]", argument)
            choices = int(most) - least + 1
            # Each round of a repetition may match in any of the ways of a single round.
            ways *= min(inner_ways, MAX_MATCH_PATHS + 1) ** min(int(most), MAX_SHORT_REPETITION)
            # They are multiplied by the possible numbers of rounds, unless the repetition can end
            # at only one position, or repeats single characters at the end of the pattern.
            if not (
                _matching_characters(body) if at_end else _ends_at_one_place(body, tree, position)
            ):
                ways *= choices
        elif operation is _BRANCH:
            ways *= sum(parts)
        elif operation in _GROUP_REFERENCES:
            ways *= MAX_MATCH_PATHS + 1
        else:
            ways *= inner_ways
        ways = min(ways, MAX_MATCH_PATHS + 1)
    return ways


def _ends_at_one_place(body: _Tree, tree: _Tree, position: int) -> bool:
    """Whether a repetition that starts at one place of a text can end at only one place.

    `body` is the parse tree that the repetition repeats, and `position` the index of the repetition
    in `tree`. True where `body` matches exactly one character, and the next part of `tree` must
    begin with a character that `body` never matches.
    """
    repeated_characters = _matching_characters(body)
    if repeated_characters is None or position + 1 == len(tree):
        return False
    operation, argument = tree[position + 1]
    if operation in _REPETITIONS:
        least, _, following = cast("tuple[int, int, _Tree]", argument)
        next_characters = _matching_characters(following) if least else None
    else:
        next_characters = _matching_characters([(operation, argument)])
    return next_characters is not None and not repeated_characters & next_characters


# Samples of all kinds of characters. Two character sets are taken for disjoint if they have none of
# these in common.
_PROBE_CHARACTERS = [chr(code) for code in range(128)] + [
    "\xa0",
    "é",
    "ß",
    "٣",
    "中",
    "😀",
    "\u2028",
]


def _matching_characters(tree: _Tree) -> set[str] | None:
    """The characters among `_PROBE_CHARACTERS` that a part of a pattern matches, in either letter
    case. None where the part may match more or less than exactly one character."""
    items = list(tree)
    if len(items) != 1 or items[0][0] not in _SINGLE_CHARACTERS:
        return None
    part = _parser.SubPattern(_parser.State(), items)
    single = _compiler.compile(part)
    # The pattern may ignore case, so that a match in the other case counts as well.
    return {c for c in _PROBE_CHARACTERS if single.fullmatch(c)} | {
        c for c in _PROBE_CHARACTERS if single.fullmatch(c.swapcase()[:1])
    }


def _subpatterns(argument: object) -> Iterator[_Tree]:
    """The parse trees in the argument of a regular expression's operation, at any depth of lists
    and tuples, but not those inside of another parse tree."""
    if isinstance(argument, _TREE_TYPE):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in cast("Sequence[object]", argument):
            yield from _subpatterns(part)
