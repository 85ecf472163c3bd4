"""One structured line per event in the platform's log."""

from redaction import to_json

_secrets: tuple[str, ...] = ()


def conceal(secrets: tuple[str, ...]) -> None:
    """Keep these values, the deployment's own secrets, out of every line from now on."""
    global _secrets
    _secrets = secrets


def log(event: str, secrets: tuple[str, ...] = (), **fields: str | int | float | None) -> None:
    """Write one line: the event's name and its fields, as a JSON object.

    The fields carry no content of requests and replies. `secrets` are a request's own credentials,
    which are taken out of the line as the deployment's are.
    """
    print(to_json({"event": event, **fields}, (*_secrets, *secrets)))
