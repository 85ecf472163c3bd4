"""Types that the packages exchange: calls, responses, refusals, captures and network errors."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True)
class Call:
    """A client's request without its body.

    `path` and `query` are as the client sent them, the query without "?". `headers` are keyed by
    lower-case name, with repeated ones joined by ", ". `request_id` identifies the request in the
    log, in the trace and in the gateway's own responses.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    request_id: str = ""


@dataclass(frozen=True)
class UpstreamCall:
    """A request to a provider, without its body.

    `prefixed_model` is the body's model where it begins with this provider ("@groq/…"), which must
    be removed before the body is sent; else "". `deployment` is the deployment that the URL may
    contain and that determines the model (Azure); else "".
    """

    provider: str
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    prefixed_model: str = ""
    deployment: str = ""


@dataclass(frozen=True)
class Refusal:
    """An error response of the gateway's own instead of a provider's reply.

    `message` explains to the client what to change. `quoted_input` is the part of it that repeats
    the client's input, exactly as in the message; else "". It must not be logged, since the input
    may contain a key.
    """

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()
    quoted_input: str = ""


@dataclass(frozen=True)
class GatewayResponse:
    """A complete response of the gateway's own."""

    status: int
    body: str
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class HttpResponse:
    """A complete response to a request of the gateway's own, such as an upload.

    `headers` are keyed by lower-case name. They are empty for a success, where they are not needed.
    """

    status: int
    headers: Mapping[str, str]
    text: str


class Ending(StrEnum):
    """How an exchange with a provider ended.

    `UNREACHABLE`: no reply came. `INTERRUPTED`: the reply broke off. `CLIENT_LEFT`: the client
    closed the connection before the reply was complete.
    """

    COMPLETE = "complete"
    UNREACHABLE = "unreachable"
    INTERRUPTED = "cut"
    CLIENT_LEFT = "client_left"


@dataclass(frozen=True)
class Capture:
    """What was read of a provider's reply for the trace. Times are seconds since the epoch.

    `status` is None where no reply came. `truncated` is True where `body` is only the beginning,
    because the capture's limit or the memory budget was reached. `first_byte_at` is None where no
    byte of the body arrived. `reason` is the platform's message where `ending` is not `COMPLETE`.
    `timed_out` is True where no reply came within the attempt's timeout.
    """

    ending: Ending
    ended_at: float
    status: int | None = None
    content_type: str = ""
    body: bytes = b""
    truncated: bool = False
    first_byte_at: float | None = None
    reason: str = ""
    timed_out: bool = False


@dataclass(frozen=True)
class Destination:
    """A Langfuse project: base URL and keys.

    Where the keys must not be written, such as in a queue message, the name identifies it.
    """

    name: str
    base_url: str
    public_key: str
    secret_key: str = field(repr=False)

    @property
    def credential(self) -> str:
        """The key pair as a credential of HTTP's Basic scheme, in base64."""
        return base64.b64encode(f"{self.public_key}:{self.secret_key}".encode()).decode()


class NetworkError(Exception):
    """No response arrived, or none that can be used. The message is the platform's reason."""


class UpstreamTimeout(NetworkError):
    """A provider's reply did not begin within its timeout."""


class BodyTooLarge(Exception):
    """A body is larger than its limit."""
