"""What is secret in a request, and how it is taken out of a text before that is kept anywhere.

Removal is by value: a provider may echo a credential in an error message, and no field's name
tells that. Values shorter than `SHORTEST` are placeholders such as "none" or "test", which would
tear holes into ordinary text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

import strict_json

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
            found.update((value, value.split(" ", 1)[-1].strip()))
            if "cookie" in name:
                found.update(part.partition("=")[2].strip() for part in value.split(";"))
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if _is_secret(name.lower()) or len(value) >= LONG:
            found.update((value, unquote_plus(value)))
    return tuple(value for value in found if len(value) >= SHORTEST)


def redact(value: Any, secrets: Iterable[str]) -> Any:
    """A text, or a structure of JSON with texts in it, without the given values.

    They are found whether they stand in a text plainly or escaped as in JSON; at a text's end a
    beginning of one counts too, since a text may have been cut in the middle of it.
    """
    return _replace(value, _all_forms(secrets))


def to_json(value: Any, secrets: Iterable[str]) -> str:
    """A structure of JSON as text, redacted.

    Nearly always there is nothing to redact, which a search in the text tells at C speed. To
    replace there would be wrong: the secret "n1234567" also stands in the text of "\\n1234567".
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    forms = _all_forms(secrets)
    if any(form[:SHORTEST] in text for form in forms):
        text = json.dumps(_replace(value, forms), ensure_ascii=False, separators=(",", ":"))
    return text


def _replace(value: Any, forms: list[str]) -> Any:
    if isinstance(value, str):
        for form in forms:
            value = value.replace(form, REDACTED)
            start = value.find(form[:SHORTEST], max(0, len(value) - len(form)))
            while start >= 0 and not form.startswith(value[start:]):
                start = value.find(form[:SHORTEST], start + 1)
            if start >= 0:
                value = value[:start] + REDACTED
        return value
    if isinstance(value, list):
        return [_replace(item, forms) for item in value]
    if isinstance(value, dict):
        return {_replace(name, forms): _replace(item, forms) for name, item in value.items()}
    return value


def _all_forms(secrets: Iterable[str]) -> list[str]:
    forms = {form for secret in filter(None, secrets) for form in _forms(secret)}
    return sorted(forms, key=len, reverse=True)


def _forms(secret: str) -> set[str]:
    """The secret, and how it looks in JSON, in JSON in a text of JSON, and so on."""
    forms = {secret, secret.replace("/", "\\/")}
    if not secret.isascii() or not secret.isprintable() or '"' in secret or "\\" in secret:
        for _ in range(NESTING):
            for ascii_only in (True, False):
                forms |= {json.dumps(form, ensure_ascii=ascii_only)[1:-1] for form in forms}
    return forms


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
