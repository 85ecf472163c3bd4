"""What Langfuse's two protocols have in common: how values are written, how answers are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from core import strict_json
from core.limits import MAX_LOGGED_REASON_CHARS
from core.retry_after import parse_retry_after
from core.types import HttpResponse
from redaction.truncation import truncate_text


class Outcome(StrEnum):
    """What an answer of Langfuse's says became of a batch, or of a part of it."""

    STORED = "stored"
    RETRYABLE = "later"  # the same bytes may be taken another time
    MALFORMED = "malformed"  # something in it will never be taken
    TOO_LARGE = "too large"
    UNSUPPORTED_PROTOCOL = "not spoken"  # this server wants the other protocol
    MISCONFIGURED = "misconfigured"  # wrong keys, or not Langfuse: nothing to gain by repeating


@dataclass(frozen=True)
class UploadResult:
    """What an answer says became of a batch.

    `fate` is that of every part but those in `parts`, by id. `reason` says why, where it is not
    stored. `after` is how many seconds the server wants to be left alone, where it says so.
    """

    outcome: Outcome
    reason: str = ""
    retry_after: float | None = None
    item_results: Mapping[str, "UploadResult"] = field(default_factory=dict)


# Of the others nobody but a proxy in between would speak, and nothing is wrong with what was sent.
_OUTCOMES_BY_STATUS = {
    400: Outcome.MALFORMED,
    404: Outcome.UNSUPPORTED_PROTOCOL,
    405: Outcome.UNSUPPORTED_PROTOCOL,
    413: Outcome.TOO_LARGE,
    422: Outcome.MALFORMED,
}


def loggable_result(fate: Outcome, reason: str, after: float | None = None) -> UploadResult:
    """A verdict whose reason may stand in a log: an answer may quote all of what was sent."""
    return UploadResult(fate, truncate_text(reason, MAX_LOGGED_REASON_CHARS), after)


# A login page, a proxy's word, another service.
NOT_LANGFUSE = loggable_result(
    Outcome.MISCONFIGURED, "the answer is not Langfuse's: is LANGFUSE_BASE_URL right?"
)


def result_of_status(response: HttpResponse, now: float) -> UploadResult | None:
    """What an answer's status says of the whole request; None where the body has to tell (2xx).

    `now` is the time in seconds since the epoch, which a date in `Retry-After` is compared to.
    """
    status = response.status
    if 200 <= status < 300:
        return None
    if status < 200:
        return NOT_LANGFUSE
    if status in (408, 425, 429) or status >= 500:
        after = parse_retry_after(response.headers.get("retry-after", ""), now)
        return loggable_result(Outcome.RETRYABLE, f"HTTP {status}", after)
    if status < 400:
        # Not followed: a redirected POST becomes a GET.
        location = response.headers.get("location", "nowhere").partition("?")[0]
        reason = f"redirected to {location}: is LANGFUSE_BASE_URL right?"
        return loggable_result(Outcome.MISCONFIGURED, reason)
    words = ["are the Langfuse keys right?"] if status in (401, 403) else []
    words += _error_messages(response.text)
    reason = f"HTTP {status}: {' '.join(words)}" if words else f"HTTP {status}"
    return loggable_result(_OUTCOMES_BY_STATUS.get(status, Outcome.MISCONFIGURED), reason)


def _error_messages(text: str) -> list[str]:
    """Langfuse's own words in an error's body, if there are any."""
    try:
        body = strict_json.parse(text)
    except ValueError:
        return []
    said = (body.get("message"), body.get("error")) if isinstance(body, dict) else ()
    return [word for word in said if isinstance(word, str)][:1]
