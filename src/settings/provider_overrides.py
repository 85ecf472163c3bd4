"""What a deployment decides about providers: its own entries over the table, and what they need."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from core.secret_names import is_secret_name
from settings.allowed_hosts import check_base_url
from settings.provider_table import CREDENTIAL_HEADERS, PROVIDERS, URL_PARAMETERS, Provider

_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

_PARAMETER = re.compile(r"\{([^{}]*)\}")

# A label of a host name, and a piece of a path. Azure's deployments have dots in their names.
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

_PIECE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")

_QUERY = re.compile(r"(?:[\w.=&-]|\{\w+\})*", re.ASCII)

_PATH = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*", re.ASCII)

_HEADER = re.compile(r"[a-z0-9-]+")

_VALUE = re.compile(r"[ -~]+")


@dataclass(frozen=True)
class ProviderRouting:
    """Where calls may go.

    `table` maps every known slug to its provider, `parameters` each parameter that a variable sets
    to its value. `default` is the provider of a call that names none. `custom_hosts` is a list from
    `addresses.allowed_hosts`.
    """

    providers: Mapping[str, Provider] = field(default_factory=lambda: PROVIDERS)
    default_provider: str = "openai"
    url_parameters: Mapping[str, str] = field(default_factory=dict)
    allowed_custom_hosts: frozenset[str] = frozenset()


def template_parameters(template: str) -> list[str]:
    """The parameters that a URL has room for."""
    return _PARAMETER.findall(template)


def check_url_parameter(name: str, value: str) -> str:
    """A parameter's value that can't be anything else in a URL. Raises ValueError."""
    pattern = _PIECE if name in ("deployment", "version") else _LABEL
    if not pattern.fullmatch(value):
        raise ValueError("must be at most 63 letters, digits and hyphens")
    return value


def apply_provider_overrides(entries: Mapping[str, Any]) -> dict[str, Provider]:
    """The table with a deployer's own entries over it.

    `entries` maps slugs to objects that may have `base_url`, `credential`, `headers`, `paths` and
    `deployment_url`, as in `Provider`; what a known slug's leaves out stays. Raises ValueError.
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
    if "base_url" in changes:  # whoever moves a provider moves all of it
        changes = {"deployment_url": "", **changes}
    return replace(known or Provider(""), **changes)


def _read_base_url(value: Any) -> str:
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
    url, mark, query = value.partition("?") if isinstance(value, str) else ("", "", "")
    if not _QUERY.fullmatch(query) or not set(template_parameters(query)) <= URL_PARAMETERS.keys():
        raise ValueError("must end in a plain query, if in any")
    return f"{_read_base_url(url)}{mark}{query}"


def _read_credential(value: Any) -> str:
    if not isinstance(value, str) or value not in CREDENTIAL_HEADERS:
        raise ValueError(f"must be one of {', '.join(CREDENTIAL_HEADERS)}")
    return value


def _read_headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("must map names to texts")
    headers = {name.lower(): text for name, text in value.items()}
    for name, text in headers.items():
        if not _HEADER.fullmatch(name) or not _VALUE.fullmatch(text):
            raise ValueError("must have plain names and values")
        # A key here would be spent for whoever calls.
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
