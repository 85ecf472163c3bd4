"""The words that the rooms share: what comes in, what goes out, and what is answered instead."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    prefixed_model: str = ""
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
    quoted_input: str = ""


@dataclass(frozen=True)
class GatewayResponse:
    """A whole response of the gateway's own."""

    status: int
    body: str
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class HttpResponse:
    """A whole response to a request of the gateway's own; `headers` only of a failure."""

    status: int
    headers: Mapping[str, str]
    text: str


class Ending(StrEnum):
    """How an exchange with a provider ended."""

    COMPLETE = "complete"
    UNREACHABLE = "unreachable"
    INTERRUPTED = "cut"
    CLIENT_LEFT = "client_left"


@dataclass(frozen=True)
class Capture:
    """What was seen of a provider's reply. Times are seconds since the epoch.

    `status` is None where no reply came. `first_byte` is when its first bytes came, None where none
    did. `cut` is set where `body` is only the beginning, because the capture's limit was reached.
    `reason` is the platform's message where the ending is not `COMPLETE`.
    """

    ending: Ending
    ended_at: float
    status: int | None = None
    content_type: str = ""
    body: bytes = b""
    truncated: bool = False
    first_byte_at: float | None = None
    reason: str = ""


class NetworkError(Exception):
    """No response came. The message is the platform's reason."""


class UpstreamTimeout(NetworkError):
    """No response came in the time that it had."""


class BodyTooLarge(Exception):
    """A body is over its limit."""
