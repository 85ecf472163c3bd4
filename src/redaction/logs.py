"""The gateway's log: one line of JSON per event, without secrets."""

import json

from core.types import Call
from redaction.redactor import Redactor
from redaction.request_secrets import secrets_of_request

# How serious an event is: "info" as it should be, "warning" where something worked less well than
# it should, and "error" where something was lost or has to be repaired.
LEVELS = {
    "tracing_off": "info",
    "setting_ignored": "warning",
    "misconfigured": "error",
    "trace_delivered": "info",
    "trace_queued": "warning",
    "trace_delayed": "warning",
    "trace_not_delivered": "error",
    "message_not_read": "error",
    "provider_unreachable": "warning",
    "refused": "warning",
    "rate_limit_failed": "warning",
    "cache_failed": "warning",
    "request_failed": "error",
    "job_failed": "error",
}

_secrets: tuple[str, ...] = ()


def set_secrets(secrets: tuple[str, ...]) -> None:
    """Set the deployment's own secrets. `log` removes them from every line from now on."""
    global _secrets
    _secrets = secrets


def describe_error(error: BaseException) -> str:
    """The type of an error and the place where it was raised: "KeyError at /src/x.py:12". Its
    message is left out, since it may quote content or a secret."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"


def log(event: str, secrets: tuple[str, ...] = (), **fields: str | int | float | None) -> None:
    """Write one line to the Worker's log: a JSON object of `event`, its level and `fields`.

    `event` is a name in `LEVELS`. `fields` must not contain content of requests and replies. The
    deployment's secrets and `secrets` are removed from the line.
    """
    members = {"event": event, "level": LEVELS[event], **fields}
    line = Redactor((*_secrets, *secrets)).redact(members)
    print(json.dumps(line))  # ASCII, which every log accepts


class RequestLog:
    """Writes lines about one request: each has the id of `call`, and none has a credential of
    it."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __call__(self, event: str, **fields: str | int | float | None) -> None:
        """Write one line, as `log` does."""
        secrets = secrets_of_request(self.call.headers, self.call.query)
        log(event, secrets, request_id=self.call.request_id, **fields)
