"""What Langfuse's two protocols have in common: how values are written, how answers are read."""

import functools
from collections.abc import Mapping
from datetime import UTC, datetime

import retry_after
import strict_json
from fitting import cut_text
from vocabulary import Fate, Received, Verdict

REASON_LENGTH = 300

# Of the others nobody but a proxy in between would speak, and nothing is wrong with what was sent.
_FATES = {
    400: Fate.MALFORMED,
    404: Fate.NOT_SPOKEN,
    405: Fate.NOT_SPOKEN,
    413: Fate.TOO_LARGE,
    422: Fate.MALFORMED,
}


def milliseconds(seconds: float) -> int:
    """A time in whole milliseconds, as Langfuse keeps it."""
    return round(seconds * 1000)


@functools.lru_cache(8)  # each is written several times
def iso_time(seconds: float | None) -> str | None:
    """A time as Langfuse reads it, which refuses one without an offset."""
    if seconds is None:
        return None
    date = datetime.fromtimestamp(milliseconds(seconds) / 1000, UTC)
    return date.isoformat(timespec="milliseconds")


def inclusive_usage(usage: Mapping[str, int]) -> dict[str, int]:
    """The counts of input and output with all of their parts, and the total; empty without usage.

    Langfuse v2 and the OpenTelemetry conventions know only such sums.
    """
    if not usage:
        return {}
    sums = {
        side: sum(count for name, count in usage.items() if name.startswith(side))
        for side in ("input", "output")
    }
    return {**sums, "total": usage.get("total", sum(sums.values()))}


def verdict(fate: Fate, reason: str, after: float | None = None) -> Verdict:
    """A verdict whose reason may stand in a log: an answer may quote all of what was sent."""
    return Verdict(fate, cut_text(reason, REASON_LENGTH), after)


# A login page, a proxy's word, another service.
FOREIGN = verdict(Fate.MISCONFIGURED, "the answer is not Langfuse's: is LANGFUSE_BASE_URL right?")


def read_status(answer: Received, now: float) -> Verdict | None:
    """What an answer's status says of the whole request; None where the body has to tell (2xx).

    `now` is the time in seconds since the epoch, which a date in `Retry-After` is compared to.
    """
    status = answer.status
    if 200 <= status < 300:
        return None
    if status < 200:
        return FOREIGN
    if status in (408, 425, 429) or status >= 500:
        after = retry_after.seconds(answer.headers.get("retry-after", ""), now)
        return verdict(Fate.LATER, f"HTTP {status}", after)
    if status < 400:
        # Not followed: a redirected POST becomes a GET.
        location = answer.headers.get("location", "nowhere").partition("?")[0]
        reason = f"redirected to {location}: is LANGFUSE_BASE_URL right?"
        return verdict(Fate.MISCONFIGURED, reason)
    words = ["are the Langfuse keys right?"] if status in (401, 403) else []
    words += _message(answer.text)
    reason = f"HTTP {status}: {' '.join(words)}" if words else f"HTTP {status}"
    return verdict(_FATES.get(status, Fate.MISCONFIGURED), reason)


def _message(text: str) -> list[str]:
    """Langfuse's own words in an error's body, if there are any."""
    try:
        body = strict_json.parse(text)
    except ValueError:
        return []
    said = (body.get("message"), body.get("error")) if isinstance(body, dict) else ()
    return [word for word in said if isinstance(word, str)][:1]
