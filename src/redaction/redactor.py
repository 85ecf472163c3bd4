"""Removes secrets from texts and JSON values before these are recorded anywhere.

Secrets are searched for by value, since a provider may repeat a credential anywhere, for example in
an error message.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar, cast
from urllib.parse import quote

from core.limits import MAX_ESCAPE_DEPTH, MAX_SEARCHED_SECRETS, MIN_SECRET_CHARS
from core.safe_regex import replace_matches
from core.secret_names import SECRET_MEMBER_NAMES
from core.strict_json import JsonValue, to_json
from redaction.known_keys import key_patterns_for

REDACTED = "[redacted]"

# A secret of these characters alone looks the same in JSON and in a URL.
_UNESCAPED = re.compile(r"[A-Za-z0-9_.~-]*+")

# A JSON value.
_Value = TypeVar("_Value")


class Redactor:
    """Replaces secrets in texts and JSON values by `REDACTED`. These are:

    - the values in `secrets`, as they are and as escaped in JSON or in a URL; at the end of a text,
      which may have been cut there, also the first `MIN_SECRET_CHARS` or more of one;
    - keys of known formats, such as "sk-…";
    - the texts of members with the name of a secret, such as `api_key`;
    - all that the deployer's `patterns` match.

    `searchable` is False for more than `MAX_SEARCHED_SECRETS` secrets. Long texts must not be
    redacted then: the search would delay every other request.
    """

    def __init__(
        self, secrets: Iterable[str] = (), patterns: tuple[re.Pattern[str], ...] = ()
    ) -> None:
        forms_by_secret = [_escaped_forms(secret) for secret in filter(None, secrets)]
        # Longest first, since one secret may be part of another. Each form is mapped to its
        # beginning, escaped as in JSON.
        forms = sorted(set[str]().union(*forms_by_secret), key=len, reverse=True)
        self._beginnings_by_form = {form: to_json(form[:MIN_SECRET_CHARS])[1:-1] for form in forms}
        self._patterns = patterns
        self.searchable = len(forms_by_secret) <= MAX_SEARCHED_SECRETS

    def to_json(self, value: object, text: str = "") -> str:
        """The JSON text of a value, with the secrets in it replaced. `text` is the JSON text of
        `value` where the caller already has it; else it is made here."""
        text = text or to_json(value)
        redacted = self._redact_if_found(cast("JsonValue", value), text)
        return text if redacted is value else to_json(redacted)

    def redact(self, value: _Value) -> _Value:
        """A text or another JSON value, with the secrets in its texts and member names replaced."""
        if not value:
            return value
        return cast("_Value", self._redact_if_found(cast("JsonValue", value), to_json(value)))

    def _redact_if_found(self, value: JsonValue, text: str) -> JsonValue:
        """The value with its secrets replaced. `text` is the value's JSON text.

        Nearly always there is nothing to replace, which a search of the JSON text shows at C speed;
        then the result is the value itself. Secrets are not replaced in the JSON text, since an
        escape may look like part of one: the JSON text of "\\n1234567" contains "n1234567".
        """
        forms = [form for form, beginning in self._beginnings_by_form.items() if beginning in text]
        if forms or self._patterns or key_patterns_for(text):
            return self._redact_value(value, forms)
        return value

    def _redact_value(self, value: JsonValue, forms: list[str]) -> JsonValue:
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

    def found_across_texts(self, value: object) -> bool:
        """Whether the texts of a JSON value, joined in their order, contain one of `secrets` that
        none of them contains alone. Each may be an event of a stream with a few characters."""
        joined = "".join(_all_texts(cast("JsonValue", self.redact(value))))
        return any(form in joined for form in self._beginnings_by_form)

    def _redact_text(self, text: str, forms: list[str]) -> str:
        for form in forms:
            text = text.replace(form, REDACTED)
            # The text may end with the beginning of this form.
            beginning = text.find(form[:MIN_SECRET_CHARS], max(0, len(text) - len(form)))
            while beginning >= 0 and not form.startswith(text[beginning:]):
                beginning = text.find(form[:MIN_SECRET_CHARS], beginning + 1)
            if beginning >= 0:
                text = text[:beginning] + REDACTED
        for pattern in key_patterns_for(text):
            text = pattern.sub(REDACTED, text)
        return replace_matches(text, self._patterns, REDACTED)


def _all_texts(value: JsonValue) -> Iterator[str]:
    """All strings in a JSON value in order, without member names."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from _all_texts(item)


def _escaped_forms(secret: str) -> set[str]:
    """The texts that a secret may appear as: itself, and escaped for a URL, for JSON, for JSON
    inside a JSON string and so on, up to `MAX_ESCAPE_DEPTH` levels."""
    if _UNESCAPED.fullmatch(secret):
        return {secret}
    forms = {secret, secret.replace("/", "\\/"), quote(secret, safe="")}
    if not secret.isascii() or not secret.isprintable() or '"' in secret or "\\" in secret:
        for _ in range(MAX_ESCAPE_DEPTH):
            for ascii_only in (True, False):
                forms |= {json.dumps(form, ensure_ascii=ascii_only)[1:-1] for form in forms}
    return forms
