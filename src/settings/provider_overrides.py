"""A deployment's settings for providers: its own entries over the table, and URL parameters."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from core.secret_names import is_secret_name
from settings.allowed_hosts import check_base_url
from settings.provider_table import CREDENTIAL_HEADERS, PROVIDERS, URL_PARAMETERS, Provider

_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

_PARAMETER = re.compile(r"\{([^{}]*)\}")

# A label of a host name, and a segment of a path. Names of Azure deployments may contain dots.
_HOST_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

_SEGMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")

_QUERY = re.compile(r"(?:[\w.=&-]|\{\w+\})*", re.ASCII)

_PATH = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*", re.ASCII)

_HEADER_NAME = re.compile(r"[a-z0-9-]+")

_HEADER_VALUE = re.compile(r"[ -~]+")


@dataclass(frozen=True)
class ProviderRouting:
    """The providers and hosts that calls may be sent to.

    `providers` maps every known slug to its provider. `default_provider` is the slug for a call
    that names none. `url_parameters` maps parameters of base URLs to the values that variables set.
    `allowed_custom_hosts` is the result of `parse_allowed_hosts`.
    """

    providers: Mapping[str, Provider] = field(default_factory=lambda: PROVIDERS)
    default_provider: str = "openai"
    url_parameters: Mapping[str, str] = field(default_factory=dict)
    allowed_custom_hosts: frozenset[str] = frozenset()


def template_parameters(template: str) -> list[str]:
    """The names of the parameters in a URL template, which has them as `{name}`."""
    return _PARAMETER.findall(template)


def check_url_parameter(name: str, value: str) -> str:
    """Return the value of the URL parameter `name`.

    Raises ValueError where the value could change more of the URL than its own label or segment.
    """
    pattern = _SEGMENT if name in ("deployment", "version") else _HOST_LABEL
    if not pattern.fullmatch(value):
        raise ValueError("must be at most 63 letters, digits and hyphens")
    return value


def apply_provider_overrides(entries: Mapping[str, Any]) -> dict[str, Provider]:
    """The provider table with a deployer's entries over it, by slug.

    `entries` maps slugs to objects that may have `base_url`, `credential`, `headers`, `paths` and
    `deployment_url`, as in `Provider`. Members that an entry leaves out keep the value that the
    table has for its slug. Raises ValueError for a malformed entry.
    """
    table = dict(PROVIDERS)
    for name, entry in entries.items():
        slug = name.strip().lower()
        if not _SLUG.fullmatch(slug):
            raise ValueError("must name providers by letters, digits, hyphens and dots")
        try:
            table[slug] = _override_provider(table.get(slug), entry)
        except ValueError as error:
            raise ValueError(f"{slug}: {error}") from None
    return table


def _override_provider(known: Provider | None, entry: Any) -> Provider:
    if not isinstance(entry, dict) or not entry.keys() <= _MEMBER_READERS.keys():
        raise ValueError(f"must be an object with {', '.join(_MEMBER_READERS)}")
    if known is None and "base_url" not in entry:
        raise ValueError("base_url is needed, since the gateway does not know this provider")
    changes: dict[str, Any] = {}
    for name, value in entry.items():
        try:
            changes[name] = _MEMBER_READERS[name](value)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    if "base_url" in changes:  # the table's deployment URL would lead to the old host
        changes = {"deployment_url": "", **changes}
    return replace(known or Provider(""), **changes)


def _read_base_url(value: Any) -> str:
    """A base URL, which may contain parameters. Its host must end in a fixed domain."""
    template = value.strip().rstrip("/") if isinstance(value, str) else ""
    if not set(template_parameters(template)) <= URL_PARAMETERS.keys():
        raise ValueError(f"may have these parameters: {', '.join(URL_PARAMETERS)}")
    filled = check_base_url(_PARAMETER.sub("x", template))
    if "{" in filled or "}" in filled:
        raise ValueError("has a brace that is part of no parameter")
    _, parameter, domain = template.split("/")[2].rpartition("}")
    if parameter and domain.count(".") < 2:
        raise ValueError("must name its host's domain, and not leave it to a parameter")
    return template


def _read_deployment_url(value: Any) -> str:
    """A base URL that may end in a query, which may contain parameters as well."""
    url, question_mark, query = value.partition("?") if isinstance(value, str) else ("", "", "")
    if not _QUERY.fullmatch(query) or not set(template_parameters(query)) <= URL_PARAMETERS.keys():
        raise ValueError("must end in a plain query, if in any")
    return f"{_read_base_url(url)}{question_mark}{query}"


def _read_credential(value: Any) -> str:
    if not isinstance(value, str) or value not in CREDENTIAL_HEADERS:
        raise ValueError(f"must be one of {', '.join(CREDENTIAL_HEADERS)}")
    return value


def _read_headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("must map names to texts")
    headers = {name.lower(): text for name, text in value.items()}
    for name, text in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
            raise ValueError("must have plain names and values")
        # Any caller could use a key that is sent here, also without a gateway key.
        if is_secret_name(name) or name in (
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
        ):
            raise ValueError("must not hold a credential, nor a header of the connection")
    return headers


def _read_paths(value: Any) -> tuple[str, ...]:
    paths = [str(path).removeprefix("/v1/") for path in value] if isinstance(value, list) else []
    if not paths or not all(_PATH.fullmatch(path) for path in paths):
        raise ValueError('must be a list of paths such as "/v1/embeddings"')
    return tuple(paths)


_MEMBER_READERS = {
    "base_url": _read_base_url,
    "credential": _read_credential,
    "headers": _read_headers,
    "paths": _read_paths,
    "deployment_url": _read_deployment_url,
}
