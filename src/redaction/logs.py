"""The gateway's log: one line of JSON per event, without secrets."""

import json

from redaction.redactor import Redactor

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
    """Write one line to the Worker's log: a JSON object of `event` and `fields`.

    `event` names what happened, such as "job_failed". `fields` must not contain content of requests
    and replies; a line about one request has its `request_id`. The deployment's secrets and
    `secrets`, a request's own credentials, are removed from the line.
    """
    line = Redactor((*_secrets, *secrets)).redact({"event": event, **fields})
    print(json.dumps(line))  # ASCII, which every log accepts
