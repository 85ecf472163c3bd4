"""Credentials recognised by their format."""

import functools
import re

from core.secret_names import SECRET_MEMBER_NAMES

# Patterns by the literal that they begin with. One is tried only on a text with this literal.
# Formats are from the vendors' documentation and GitHub's list of secret scanning patterns:
# https://docs.github.com/en/code-security/reference/secret-security/supported-secret-scanning-patterns
_KEY_PATTERNS = {
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
    # The lookbehind skips an "eyJ" within a long run of such characters. Otherwise each of them
    # would be searched from there to the end of the run.
    "eyJ": r"eyJ(?<![A-Za-z0-9_-]{4}eyJ)[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,8000}"
    r"\.[A-Za-z0-9_-]{10,2000}",
    "-----BEGIN ": r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,10000}-----END",
    # The value of a member with the name of a secret, in JSON text or in JSON inside a JSON string.
    **{name: rf'{name}\\?"\s{{0,20}}:\s{{0,20}}\\?"[^"]{{0,500}}' for name in SECRET_MEMBER_NAMES},
}


# Every text in which a pattern can match contains "secret" or matches one of these. They search for
# rare characters and then check what is around them; a search for each literal takes several times
# as long.
_HINTS = [
    re.compile(hint).search
    for hint in (
        r"_(?:[A-Za-z0-9]{16}|(?<=gw_)|(?<=pat_)|(?:(?<=api_)|(?<=private_))key|token\\*\")",
        r"-(?:(?<=sk-)[A-Za-z0-9_-]{20}|(?<=glpat-)|(?<=xai-)|(?<=api-)key|----BEGIN )",
        *("A(?:KIA|SIA|Iza)", "K(?<=apiK)", "J(?<=eyJ)", "w(?<=passw)", "xox", "z(?<=uthoriz)"),
    )
]


def key_patterns_for(text: str) -> list[re.Pattern[str]]:
    """The patterns of known key formats that may match in a text; each match is a secret. Nearly
    always empty, which is determined quickly."""
    if "secret" not in text and not any(hint(text) for hint in _HINTS):
        return []
    return [_compiled(pattern) for literal, pattern in _KEY_PATTERNS.items() if literal in text]


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
