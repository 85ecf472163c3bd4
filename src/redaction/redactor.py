"""What is secret in a request, and how it is taken out of a text before that is kept anywhere.

Removal is by value: a provider may echo a credential in an error message, and no field's name
tells that. Values shorter than `SHORTEST` are placeholders such as "none" or "test", which would
tear holes into ordinary text.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from core.limits import MAX_ESCAPE_DEPTH, MAX_SEARCHED_SECRETS, MIN_SECRET_CHARS
from core.safe_regex import replace_matches
from core.secret_names import SECRET_MEMBER_NAMES
from core.strict_json import to_json
from redaction.known_keys import key_patterns_for

REDACTED = "[redacted]"

_UNESCAPED = re.compile(r"[A-Za-z0-9_.~-]*+")


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
        by_secret = [_escaped_forms(secret) for secret in filter(None, secrets)]
        # The longest first, since one secret may be a part of another; each with how its beginning
        # looks in JSON.
        forms = sorted(set().union(*by_secret), key=len, reverse=True)
        self._beginnings_by_form = {form: to_json(form[:MIN_SECRET_CHARS])[1:-1] for form in forms}
        self._patterns = patterns
        self.searchable = len(by_secret) <= MAX_SEARCHED_SECRETS

    def to_json(self, value: Any, text: str = "") -> str:
        """A structure of JSON as text, without secrets. `text` is the one with them, if known."""
        text = text or to_json(value)
        cleaned = self._redact_known_text(value, text)
        return text if cleaned is value else to_json(cleaned)

    def redact(self, value: Any) -> Any:
        """A text, or a structure of JSON with texts in it, without secrets."""
        return self._redact_known_text(value, to_json(value)) if value else value

    def _redact_known_text(self, value: Any, text: str) -> Any:
        """The value without secrets: itself where its JSON text holds none.

        Nearly always there is nothing to take out, which a search in the text tells at C speed.
        To replace there would be wrong: "n1234567" also stands in the text of "\\n1234567".
        """
        forms = [form for form, beginning in self._beginnings_by_form.items() if beginning in text]
        if forms or self._patterns or key_patterns_for(text):
            return self._redact_value(value, forms)
        return value

    def _redact_value(self, value: Any, forms: list[str]) -> Any:
        if isinstance(value, str):
            return self._redact_text(value, forms)
        if isinstance(value, list):
            return [self._redact_value(item, forms) for item in value]
        if isinstance(value, dict):
            return {
                self._redact_text(name, forms): REDACTED
                if isinstance(item, str) and name in SECRET_MEMBER_NAMES
                else self._redact_value(item, forms)
                for name, item in value.items()
            }
        return value

    def found_across_texts(self, value: Any) -> bool:
        """Whether a secret comes together from several texts of a structure, such as the events of
        a stream that nobody could put together."""
        joined = "".join(_all_texts(self.redact(value)))
        return any(form in joined for form in self._beginnings_by_form)

    def _redact_text(self, text: str, forms: list[str]) -> str:
        for form in forms:
            text = text.replace(form, REDACTED)
            start = text.find(form[:MIN_SECRET_CHARS], max(0, len(text) - len(form)))
            while start >= 0 and not form.startswith(text[start:]):
                start = text.find(form[:MIN_SECRET_CHARS], start + 1)
            if start >= 0:
                text = text[:start] + REDACTED
        for pattern in key_patterns_for(text):
            text = pattern.sub(REDACTED, text)
        return replace_matches(text, self._patterns, REDACTED)


def _all_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from _all_texts(item)


def _escaped_forms(secret: str) -> set[str]:
    """The secret, and how it looks in a URL, in JSON, in JSON in a text of JSON, and so on."""
    if _UNESCAPED.fullmatch(secret):
        return {secret}
    forms = {secret, secret.replace("/", "\\/"), quote(secret, safe="")}
    if not secret.isascii() or not secret.isprintable() or '"' in secret or "\\" in secret:
        for _ in range(MAX_ESCAPE_DEPTH):
            for ascii_only in (True, False):
                forms |= {json.dumps(form, ensure_ascii=ascii_only)[1:-1] for form in forms}
    return forms
