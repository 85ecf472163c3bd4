"""What is secret in a request, and how it is taken out of a text before that is kept anywhere.

Removal is by value: a provider may echo a credential in an error message, and no field's name
tells that. Values shorter than `SHORTEST` are placeholders such as "none" or "test", which would
tear holes into ordinary text.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote_plus

import strict_json
from patterns import keys_in

REDACTED = "[redacted]"
SHORTEST = 8
# A query value of an unsuspicious name is taken for a credential from this length on.
LONG = 16
# How many times over a text may be escaped: an error message with JSON in it, inside a JSON reply
# that a trace quotes.
NESTING = 4

# x-portkey-* headers that hold no secret. A config holds provider keys, and of a header that is
# not listed here nobody knows what it holds.
RECORDED_HEADERS = frozenset(
    f"x-portkey-{name}"
    for name in (
        *("provider", "user-id", "session-id", "metadata", "trace"),
        *("trace-id", "span-id", "parent-span-id", "span-name"),
        *("cache", "cache-force-refresh", "retry-count", "retry-attempts"),
    )
)
_SECRET_WORDS = ("auth", "key", "token", "secret", "password", "credential", "cookie", "signature")


def recorded_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The `x-portkey-*` headers of a request as they may be recorded, by lower-case name."""
    return {
        name: value if name in RECORDED_HEADERS else REDACTED
        for name, value in headers.items()
        if name.startswith("x-portkey-")
    }


def credentials(headers: Mapping[str, str], query: str) -> tuple[str, ...]:
    """Every value in a request's headers and query that is or may hold a credential."""
    found: set[str] = set()
    for name, value in headers.items():
        if name.startswith("x-portkey-"):
            if name not in RECORDED_HEADERS:
                found.update(_secrets_in(value))
        elif _is_secret(name):
            scheme, _, rest = value.partition(" ")
            found.update((value, rest.strip()))
            if scheme.lower() == "basic":
                found.update(_basic(rest))
            if "cookie" in name:
                found.update(part.partition("=")[2].strip() for part in value.split(";"))
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if _is_secret(name.lower()) or len(value) >= LONG:
            found.update((value, unquote_plus(value)))
    return tuple(value for value in found if len(value) >= SHORTEST)


class Redactor:
    """Takes secrets out of what is recorded.

    `secrets` are values, found whether they stand in a text plainly or escaped as in JSON; at a
    text's end a beginning of one counts too, since a text may have been cut in the middle of it.
    What looks like a key goes as well, and what the deployer's own `patterns` find.
    """

    def __init__(
        self, secrets: Iterable[str] = (), patterns: tuple[re.Pattern[str], ...] = ()
    ) -> None:
        forms = {form for secret in filter(None, secrets) for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._beginnings = {form[:SHORTEST] for form in forms}
        self._patterns = patterns

    def to_json(self, value: Any) -> str:
        """A structure of JSON as text, without secrets.

        Nearly always there is nothing to take out, which a search in the text tells at C speed.
        To replace there would be wrong: "n1234567" also stands in the text of "\\n1234567".
        """
        text = to_json(value)
        suspicious = self._patterns or any(beginning in text for beginning in self._beginnings)
        return to_json(self.clean(value)) if suspicious or keys_in(text) else text

    def clean(self, value: Any) -> Any:
        """A text, or a structure of JSON with texts in it, without secrets."""
        if isinstance(value, str):
            return self._clean_text(value)
        if isinstance(value, list):
            return [self.clean(item) for item in value]
        if isinstance(value, dict):
            return {self._clean_text(name): self.clean(item) for name, item in value.items()}
        return value

    def finds_in_pieces(self, value: Any) -> bool:
        """Whether a secret comes together from the texts of a structure, such as the events of a
        stream that nobody could put together."""
        joined = "".join(_texts(value))
        return any(form in joined for form in self._forms)

    def _clean_text(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, REDACTED)
            start = text.find(form[:SHORTEST], max(0, len(text) - len(form)))
            while start >= 0 and not form.startswith(text[start:]):
                start = text.find(form[:SHORTEST], start + 1)
            if start >= 0:
                text = text[:start] + REDACTED
        for pattern in (*keys_in(text), *self._patterns):
            text = pattern.sub(REDACTED, text)
        return text


def to_json(value: Any) -> str:
    """A structure of JSON as compact text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from _texts(item)


def _forms(secret: str) -> set[str]:
    """The secret, and how it looks in a URL, in JSON, in JSON in a text of JSON, and so on."""
    forms = {secret, secret.replace("/", "\\/"), quote(secret, safe="")}
    if not secret.isascii() or not secret.isprintable() or '"' in secret or "\\" in secret:
        for _ in range(NESTING):
            for ascii_only in (True, False):
                forms |= {json.dumps(form, ensure_ascii=ascii_only)[1:-1] for form in forms}
    return forms


def _basic(encoded: str) -> tuple[str, ...]:
    """What a credential of HTTP's Basic scheme encodes: "user:password", and the password."""
    try:
        pair = base64.b64decode(encoded).decode()
    except ValueError:
        return ()
    return pair, pair.partition(":")[2]


def _is_secret(name: str) -> bool:
    return any(word in name for word in _SECRET_WORDS)


def _secrets_in(value: str) -> Iterator[str]:
    """The texts under a secret's name in a JSON value; any other value as a whole."""
    try:
        nested = strict_json.parse(value)
    except ValueError:
        yield value
        return
    waiting: list[tuple[bool, Any]] = [(False, nested)]
    while waiting:
        secret, item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend((secret or _is_secret(str(k).lower()), v) for k, v in item.items())
        elif isinstance(item, list):
            waiting.extend((secret, element) for element in item)
        elif isinstance(item, str) and secret:
            yield item
