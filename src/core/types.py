"""Types that the packages exchange: calls, responses, refusals, captures and errors."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True)
class Call:
    """A client's request to the gateway, without its body.

    `path` and `query` are percent-encoded as the client sent them, the query without "?". `headers`
    maps lower-case names to values; the values of repeated headers are joined by ", ". `request_id`
    identifies the request in the log, in the trace and in the gateway's own responses.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    request_id: str = ""


@dataclass(frozen=True)
class UpstreamCall:
    """A request to a provider, without its body.

    `provider` is the provider's slug, or "cache" for a reply from the cache, which has no URL.
    `url` includes the query. `headers` are pairs of lower-case name and value, including the
    credential.

    `prefixed_model` is the model in the body where it begins with this provider's slug, such as
    "@groq/llama-3.3-70b", else "". That prefix must be removed before the body is sent.
    `deployment` is the name of the Azure deployment, which determines the model, where the
    provider's URL may contain one; else "".
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

    `status` is the HTTP status. `message` explains to the client what to change. `headers` are
    pairs (name, value) for the response. `quoted_input` is the part of the message that repeats the
    client's input, exactly as in the message, else "". It must not be logged, since the input may
    contain a key.
    """

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()
    quoted_input: str = ""


@dataclass(frozen=True)
class GatewayResponse:
    """A complete response of the gateway's own, such as a page or an encoded `Refusal`. `headers`
    are pairs (name, value), without the content type."""

    status: int
    body: str
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class HttpResponse:
    """The complete response to a request of the gateway's own, such as an upload to Langfuse.

    `headers` maps lower-case names to values. It is empty for a 2xx status, since only the headers
    of failures are used. `text` is the decoded body.
    """

    status: int
    headers: Mapping[str, str]
    text: str


class Ending(StrEnum):
    """How a call to a provider ended.

    `COMPLETE`: the whole reply arrived. `UNREACHABLE`: no reply arrived. `INTERRUPTED`: the reply
    broke off. `CLIENT_LEFT`: the client closed the connection before the reply was complete.
    """

    COMPLETE = "complete"
    UNREACHABLE = "unreachable"
    INTERRUPTED = "cut"
    CLIENT_LEFT = "client_left"


@dataclass(frozen=True)
class Capture:
    """What was read of a provider's reply for the trace. Times are seconds since the epoch.

    `status` is the HTTP status, None where no reply arrived. `content_type` is the header's value,
    "" where there is none. `truncated` is True where `body` is only the beginning of the reply's
    body, because the capture's limit or the memory budget was reached. `first_token_at` is when the
    first event with output of the model had arrived; None where there was none, and for a reply
    that is not a stream. `notes` name what could not be found out. `reason` explains an `ending`
    other than `COMPLETE`. `timed_out` is True where no reply arrived within the timeout of the
    attempt. `content_encoding` is the value of that header where the runtime has not decoded
    `body`, else "".
    """

    ending: Ending
    ended_at: float
    status: int | None = None
    content_type: str = ""
    body: bytes = b""
    truncated: bool = False
    first_token_at: float | None = None
    notes: tuple[str, ...] = ()
    reason: str = ""
    timed_out: bool = False
    content_encoding: str = ""


@dataclass(frozen=True)
class Destination:
    """A Langfuse project to send traces to: base URL and keys.

    `name` is its name in the deployment's settings. It identifies the project where keys must not
    be written, such as in a queue message.
    """

    name: str
    base_url: str
    public_key: str
    secret_key: str = field(repr=False)

    @property
    def credential(self) -> str:
        """The value of an `Authorization: Basic` header for this project, without the word "Basic":
        the key pair in base64."""
        return base64.b64encode(f"{self.public_key}:{self.secret_key}".encode()).decode()


class NetworkError(Exception):
    """A request failed without a usable response. The message is the reason, for log and trace."""


class UpstreamTimeout(NetworkError):
    """A provider's reply did not begin within the timeout of the attempt."""


class BodyTooLarge(Exception):
    """A body is larger than the limit for reading it."""
