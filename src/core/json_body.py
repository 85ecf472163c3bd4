"""The body of a request, read and parsed at most once."""

from core import strict_json
from core.limits import MAX_KEPT_BODY_BYTES
from core.platform import RequestBody
from core.strict_json import JsonObject, JsonValue, decode_utf8


class JsonBody:
    """A request's body that is JSON, or is meant to be: its bytes are copied into Python once, and
    parsed once.

    `content` is the body in the runtime's memory, which is sent to the provider. Both copies are
    kept only as long as they are used, see `forget`.
    """

    def __init__(self, content: RequestBody) -> None:
        self.content = content
        self.size_bytes = content.size_bytes
        self._data: bytes | None = None
        self._value: JsonValue = None
        self._error: ValueError | None = None

    def read(self) -> bytes:
        """All bytes of the body."""
        if self._data is None:
            self._data = self.content.read(self.size_bytes)
        return self._data

    def read_beginning(self, limit: int) -> bytes:
        """At most `limit` bytes from the start of the body."""
        if self._data is not None:
            return self._data[:limit]
        return (
            self.read()
            if self.size_bytes <= min(limit, MAX_KEPT_BODY_BYTES)
            else (self.content.read(limit))
        )

    def parse(self) -> JsonValue:
        """The JSON value of the body, which must not be changed. Raises ValueError where it is not
        JSON."""
        if self._error:
            raise self._error
        if self._value is None:
            try:
                self._value = strict_json.parse(decode_utf8(self.read()))
            except ValueError as error:
                self._error = error
                raise
        return self._value

    def members(self) -> JsonObject:
        """The members of the body's JSON object as `{name: value}`. Raises ValueError where it is
        not a JSON object."""
        value = self.parse()
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value

    @property
    def known_value(self) -> JsonValue:
        """The JSON value where the body was parsed and is still kept; else None."""
        return self._value

    def changed(self, data: bytes, value: JsonValue) -> "JsonBody":
        """A new body with these bytes, whose JSON value is `value`. This one does not change."""
        body = JsonBody(self.content.with_content(data))
        body._data, body._value = data, value
        body.forget()
        return body

    def forget(self) -> None:
        """Release the copies of a body over `MAX_KEPT_BODY_BYTES`. They are made again where they
        are needed again. Called before a wait for the provider, which may take minutes."""
        if self.size_bytes > MAX_KEPT_BODY_BYTES:
            self._data = self._value = None

    def truncate(self, limit: int) -> None:
        """Keep only the first `limit` bytes, and release the memory of the rest."""
        self.forget()
        if limit < self.size_bytes:
            self._data = self._value = None
        self.content.truncate(limit)
