"""What is secret in a request, and how it is taken out of a text before that is kept anywhere.

Removal is by value: a provider may echo a credential in an error message, and no field's name
tells that. Values shorter than `SHORTEST` are placeholders such as "none" or "test", which would
tear holes into ordinary text.
"""

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote_plus

import configs
import strict_json
from keys import PLACEHOLDER
from patterns import SECRET_MEMBERS, keys_in, remove
from provider_table import PARAMETERS

REDACTED = "[redacted]"
SHORTEST = 8
# To search a long text for more values than this would hold up every other request.
MOST_SECRETS = 100
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
        *("cache", "cache-force-refresh", "retry-count", "retry-attempts", "request-timeout"),
        # What Portkey's client says of itself.
        *("package-version", "runtime", "runtime-version", "strict-open-ai-compliance"),
    )
)
# They are not recorded, but hold no secret either: a deployment is often called what its model is.
_NOT_SECRET = RECORDED_HEADERS | {header for header, _ in PARAMETERS.values()}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_SEPARATOR = re.compile(r"""[\s,;="':]+""")
_SAME_EVERYWHERE = re.compile(r"[A-Za-z0-9_.~-]*+")
_SECRET_WORDS = re.compile("auth|key|token|secret|password|credential|cookie|signature")


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
            # A config's name, which is the deployment's, or the request is refused.
            named = name == configs.HEADER and configs.NAME.fullmatch(value.strip())
            if name not in _NOT_SECRET and not named:
                found.update(_secrets_in(value, is_secret(name.removeprefix("x-portkey-"))))
        elif is_secret(name):
            found.update(_pieces(value))
    for pair in re.split("[&;]", query) if query else ():
        name, _, value = pair.rpartition("=")
        if is_secret(unquote_plus(name).lower()) or len(value) >= LONG:
            found.update((value, unquote_plus(value)))
    return tuple(value for value in found - {PLACEHOLDER} if len(value) >= SHORTEST)


def _pieces(value: str) -> Iterator[str]:
    """A header's value, and what it is made of: "Bearer key", "a=1; b=2", 'Token token="key"'."""
    yield value
    for piece in _SEPARATOR.split(value):
        yield piece
        yield from _basic(piece)


class Redactor:
    """Takes secrets out of what is recorded.

    `secrets` are values, found whether they stand in a text plainly or escaped as in JSON; at a
    text's end a beginning of one counts too, since a text may have been cut in the middle of it.
    What looks like a key goes as well, and what the deployer's own `patterns` find. `searchable`
    is False for more secrets than a long text can be searched for.
    """

    def __init__(
        self, secrets: Iterable[str] = (), patterns: tuple[re.Pattern[str], ...] = ()
    ) -> None:
        by_secret = [_forms(secret) for secret in filter(None, secrets)]
        # The longest first, since one secret may be a part of another; each with how its beginning
        # looks in JSON.
        forms = sorted(set().union(*by_secret), key=len, reverse=True)
        self._forms = {form: to_json(form[:SHORTEST])[1:-1] for form in forms}
        self._patterns = patterns
        self.searchable = len(by_secret) <= MOST_SECRETS

    def to_json(self, value: Any, text: str = "") -> str:
        """A structure of JSON as text, without secrets. `text` is the one with them, if known."""
        text = text or to_json(value)
        clean = self._cleaned(value, text)
        return text if clean is value else to_json(clean)

    def clean(self, value: Any) -> Any:
        """A text, or a structure of JSON with texts in it, without secrets."""
        return self._cleaned(value, to_json(value)) if value else value

    def _cleaned(self, value: Any, text: str) -> Any:
        """The value without secrets: itself where its JSON text holds none.

        Nearly always there is nothing to take out, which a search in the text tells at C speed.
        To replace there would be wrong: "n1234567" also stands in the text of "\\n1234567".
        """
        forms = [form for form, beginning in self._forms.items() if beginning in text]
        if forms or self._patterns or keys_in(text):
            return self._clean(value, forms)
        return value

    def _clean(self, value: Any, forms: list[str]) -> Any:
        if isinstance(value, str):
            return self._clean_text(value, forms)
        if isinstance(value, list):
            return [self._clean(item, forms) for item in value]
        if isinstance(value, dict):
            return {
                self._clean_text(name, forms): REDACTED
                if isinstance(item, str) and name in SECRET_MEMBERS
                else self._clean(item, forms)
                for name, item in value.items()
            }
        return value

    def finds_in_pieces(self, value: Any) -> bool:
        """Whether a secret comes together from several texts of a structure, such as the events of
        a stream that nobody could put together."""
        joined = "".join(_texts(self.clean(value)))
        return any(form in joined for form in self._forms)

    def _clean_text(self, text: str, forms: list[str]) -> str:
        for form in forms:
            text = text.replace(form, REDACTED)
            start = text.find(form[:SHORTEST], max(0, len(text) - len(form)))
            while start >= 0 and not form.startswith(text[start:]):
                start = text.find(form[:SHORTEST], start + 1)
            if start >= 0:
                text = text[:start] + REDACTED
        for pattern in keys_in(text):
            text = pattern.sub(REDACTED, text)
        return remove(text, self._patterns, REDACTED)


def to_json(value: Any) -> str:
    """A structure of JSON as compact text; a number that JSON cannot tell as its name in a text."""
    try:
        return _encode(value)
    except ValueError:  # 1e999 is JSON, but what it is read as is not
        return to_json(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return str(value) if value in (math.inf, -math.inf) or value != value else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from _texts(item)


def _forms(secret: str) -> set[str]:
    """The secret, and how it looks in a URL, in JSON, in JSON in a text of JSON, and so on."""
    if _SAME_EVERYWHERE.fullmatch(secret):
        return {secret}
    forms = {secret, secret.replace("/", "\\/"), quote(secret, safe="")}
    if not secret.isascii() or not secret.isprintable() or '"' in secret or "\\" in secret:
        for _ in range(NESTING):
            for ascii_only in (True, False):
                forms |= {json.dumps(form, ensure_ascii=ascii_only)[1:-1] for form in forms}
    return forms


def _basic(encoded: str) -> tuple[str, ...]:
    """What a credential of HTTP's Basic scheme encodes: "user:password", and the password."""
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return ()
    return (pair, pair.partition(":")[2]) if ":" in pair else ()


def is_secret(name: str) -> bool:
    """Whether what bears this name, in lower case, is taken for a credential."""
    return _SECRET_WORDS.search(name) is not None


def _secrets_in(value: str, secret: bool) -> Iterator[str]:
    """The texts under a secret's name in a JSON value; any other value as a whole, if it is under
    one itself or so long that it may be one."""
    try:
        nested = strict_json.parse(value)
    except ValueError:
        if secret or len(value) >= LONG:
            yield from _pieces(value)
        return
    waiting: list[tuple[bool, Any]] = [(secret, nested)]
    while waiting:
        secret, item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend((secret or is_secret(str(k).lower()), v) for k, v in item.items())
        elif isinstance(item, list):
            waiting.extend((secret, element) for element in item)
        elif isinstance(item, str) and secret:
            yield from _pieces(item)
