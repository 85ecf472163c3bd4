"""The result of an upload, by the response to it: what all protocols have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from core import strict_json
from core.limits import MAX_LOGGED_REASON_CHARS
from core.retry_after import parse_retry_after
from core.types import HttpResponse
from redaction.truncation import truncate_text


class Outcome(StrEnum):
    """What became of an upload, or of one item of it (an ingestion event or a span). `/health`
    shows the values."""

    STORED = "stored"
    RETRYABLE = "later"  # the server may accept the same bytes at another time
    MALFORMED = "malformed"  # the server will never accept something in it
    TOO_LARGE = "too large"
    UNSUPPORTED_PROTOCOL = "not spoken"  # the server may support the other protocol
    MISCONFIGURED = "misconfigured"  # wrong keys, or not a Langfuse server: a retry is useless


@dataclass(frozen=True)
class UploadResult:
    """What became of an upload, according to the server's response.

    `outcome` applies to every item of the upload, except those in `item_results`, which has results
    by item id. `reason` explains an outcome other than `STORED`, for the log. `retry_after` is the
    pause in seconds that the server requires, None where it requires none.
    """

    outcome: Outcome
    reason: str = ""
    retry_after: float | None = None
    item_results: Mapping[str, "UploadResult"] = field(default_factory=dict[str, "UploadResult"])


# For statuses of 400 and above that are not retryable. Any other comes from a proxy in between, not
# from Langfuse, so that nothing is known to be wrong with the upload itself.
_OUTCOMES_BY_STATUS = {
    400: Outcome.MALFORMED,
    404: Outcome.UNSUPPORTED_PROTOCOL,
    405: Outcome.UNSUPPORTED_PROTOCOL,
    413: Outcome.TOO_LARGE,
    422: Outcome.MALFORMED,
}


def loggable_result(
    outcome: Outcome, reason: str, retry_after: float | None = None
) -> UploadResult:
    """A result for all items of an upload. `reason` is cut to `MAX_LOGGED_REASON_CHARS`, since a
    response may quote all that was uploaded. `retry_after` is the pause in seconds that the server
    requires, None where it states none."""
    return UploadResult(outcome, truncate_text(reason, MAX_LOGGED_REASON_CHARS), retry_after)


# For a response of something else: a login page, a proxy, another service.
NOT_LANGFUSE = loggable_result(
    Outcome.MISCONFIGURED, "the answer is not Langfuse's: is LANGFUSE_BASE_URL right?"
)


def result_of_status(response: HttpResponse, now: float) -> UploadResult | None:
    """Return the result that the response's status determines for the whole upload; None for a 2xx,
    where the result depends on the body.

    RETRYABLE for 408, 425, 429 and 5xx, with the pause that `Retry-After` requires; MALFORMED for
    400 and 422; UNSUPPORTED_PROTOCOL for 404 and 405; TOO_LARGE for 413; MISCONFIGURED for any
    other status. `now` is the time in seconds since the epoch, to which a date in `Retry-After` is
    compared.
    """
    status = response.status
    if 200 <= status < 300:
        return None
    if status < 200:
        return NOT_LANGFUSE
    if status in (408, 425, 429) or status >= 500:
        retry_after = parse_retry_after(response.headers.get("retry-after", ""), now)
        return loggable_result(Outcome.RETRYABLE, f"HTTP {status}", retry_after)
    if status < 400:
        # Redirects are not followed: a redirected POST becomes a GET.
        location = response.headers.get("location", "nowhere").partition("?")[0]
        reason = f"redirected to {location}: is LANGFUSE_BASE_URL right?"
        return loggable_result(Outcome.MISCONFIGURED, reason)
    messages = ["are the Langfuse keys right?"] if status in (401, 403) else []
    messages += _error_messages(response.text)
    reason = f"HTTP {status}: {' '.join(messages)}" if messages else f"HTTP {status}"
    return loggable_result(_OUTCOMES_BY_STATUS.get(status, Outcome.MISCONFIGURED), reason)


def _error_messages(response_text: str) -> list[str]:
    """The message in the body of an error response from Langfuse, as a list of one text: its
    `message`, else its `error`. Empty where it has neither."""
    try:
        body = strict_json.parse(response_text)
    except ValueError:
        return []
    texts = (body.get("message"), body.get("error")) if isinstance(body, dict) else ()
    return [text for text in texts if isinstance(text, str)][:1]
