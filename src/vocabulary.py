"""The words that the rooms share: what comes in, what goes out, and what is answered instead."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True)
class Call:
    """A client's request without its body.

    `path` and `query` are as the client sent them (the query without "?"); `headers` are keyed by
    lower-case name, repeated ones joined by ", ". `request_id` is what the log, the trace and the
    gateway's own answers call it.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    request_id: str = ""


@dataclass(frozen=True)
class UpstreamCall:
    """What goes to the provider, without its body.

    `routed_model` is the body's model where that names this provider before a slash, which is to be
    taken out of it; else "". `deployment` is what the URL may name in the model's place, else "".
    """

    provider: str
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    routed_model: str = ""
    deployment: str = ""


@dataclass(frozen=True)
class Refusal:
    """An answer of the gateway's own in place of the provider's; it says what to change.

    `quote` is what of the client's own words the message repeats, as it stands there: they may be
    anything, a key too, and so are for the client alone.
    """

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()
    quote: str = ""


@dataclass(frozen=True)
class Answer:
    """A whole response of the gateway's own."""

    status: int
    body: str
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Received:
    """A whole response to a request of the gateway's own; `headers` only of a failure."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class Part:
    """A piece of a batch that a server may judge by itself: an ingestion event, or a span.

    `texts` together are its JSON: several, so that what is long in it need not be copied.
    `alternative` is sent in its place where a server refuses it.
    """

    id: str
    texts: tuple[str, ...]
    alternative: "Part | None" = None

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.texts)

    @property
    def size(self) -> int:
        """In bytes of UTF-8."""
        return sum(
            len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
            for text in self.texts
        )


class Fate(StrEnum):
    """What an answer of Langfuse's says became of a batch, or of a part of it."""

    STORED = "stored"
    LATER = "later"  # the same bytes may be taken another time
    MALFORMED = "malformed"  # something in it will never be taken
    TOO_LARGE = "too large"
    NOT_SPOKEN = "not spoken"  # this server wants the other protocol
    MISCONFIGURED = "misconfigured"  # wrong keys, or not Langfuse: nothing to gain by repeating


@dataclass(frozen=True)
class Verdict:
    """What an answer says became of a batch.

    `fate` is that of every part but those in `parts`, by id. `reason` says why, where it is not
    stored. `after` is how many seconds the server wants to be left alone, where it says so.
    """

    fate: Fate
    reason: str = ""
    after: float | None = None
    parts: Mapping[str, "Verdict"] = field(default_factory=dict)


class Ending(StrEnum):
    """How an exchange with a provider ended."""

    COMPLETE = "complete"
    UNREACHABLE = "unreachable"
    CUT = "cut"
    CLIENT_LEFT = "client_left"


@dataclass(frozen=True)
class Capture:
    """What was seen of a provider's reply. Times are seconds since the epoch.

    `status` is None where no reply came. `first_byte` is when its first bytes came, None where none
    did. `cut` is set where `body` is only the beginning, because the capture's limit was reached.
    `reason` is the platform's message where the ending is not `COMPLETE`.
    """

    ending: Ending
    ended: float
    status: int | None = None
    content_type: str = ""
    body: bytes = b""
    cut: bool = False
    first_byte: float | None = None
    reason: str = ""


class NetworkError(Exception):
    """No response came. The message is the platform's reason."""


class TimedOut(NetworkError):
    """No response came in the time that it had."""


class BodyTooLarge(Exception):
    """A body is over its limit."""
