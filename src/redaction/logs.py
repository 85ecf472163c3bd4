"""One structured line per event in the platform's log."""

import json

from redaction.redactor import Redactor

_secrets: tuple[str, ...] = ()


def set_secrets(secrets: tuple[str, ...]) -> None:
    """Keep these values, the deployment's own secrets, out of every line from now on."""
    global _secrets
    _secrets = secrets


def describe_error(error: BaseException) -> str:
    """Type and place of an error. Its message may quote what a log must not hold."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"


def log(event: str, secrets: tuple[str, ...] = (), **fields: str | int | float | None) -> None:
    """Write one line: the event's name and its fields, as a JSON object.

    The fields carry no content of requests and replies. A line about one request has its
    `request_id`. `secrets` are a request's own credentials, which are taken out of the line as the
    deployment's are.
    """
    line = Redactor((*_secrets, *secrets)).redact({"event": event, **fields})
    print(json.dumps(line))  # in ASCII, which any log takes
