"""A deployment's settings for providers: its own entries over the provider table, and the values
for parameters of URLs."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypedDict

from core.json_values import as_list
from core.secret_names import is_secret_name
from core.strict_json import JsonObject, JsonValue
from settings import table
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
    that names none. `url_parameters` maps parameters of base URLs, such as "region", to the values
    that the deployment's variables set. `allowed_custom_hosts` are the hosts that callers may name
    in `x-portkey-custom-host`, as `parse_allowed_hosts` returns them.
    """

    providers: Mapping[str, Provider] = field(default_factory=lambda: PROVIDERS)
    default_provider: str = table.DEFAULT_PROVIDER.default_value
    url_parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    allowed_custom_hosts: frozenset[str] = frozenset()


class _Changes(TypedDict, total=False):
    """Fields of `Provider` that an entry sets."""

    base_url: str
    credential: str
    headers: Mapping[str, str]
    paths: tuple[str, ...]
    deployment_url: str


def template_parameters(template: str) -> list[str]:
    """The names of the parameters in a URL template, such as ["region"] for
    "https://{region}.example.com". In order, with repetitions."""
    return _PARAMETER.findall(template)


def check_url_parameter(name: str, value: str) -> str:
    """Check that a value put into a provider's URL cannot change another part of it; return it.

    A "deployment" and a "version" must be a single segment of a path. Any other parameter, such as
    "region", must be a single label of a host name. Raises ValueError otherwise.
    """
    pattern = _SEGMENT if name in ("deployment", "version") else _HOST_LABEL
    if not pattern.fullmatch(value):
        raise ValueError("must be at most 63 letters, digits and hyphens")
    return value


def apply_provider_overrides(entries: JsonObject) -> dict[str, Provider]:
    """Return a copy of the provider table, by slug, with a deployer's entries over it.

    `entries` maps slugs to objects that may have `base_url`, `credential`, `headers`, `paths` and
    `deployment_url`, as in `Provider`. For members that an entry leaves out, the values of the
    table are kept. A slug that is not in the table requires a `base_url`. Raises ValueError for a
    malformed entry, with a message that contains its slug.
    """
    providers = dict(PROVIDERS)
    for name, entry in entries.items():
        slug = name.strip().lower()
        if not _SLUG.fullmatch(slug):
            raise ValueError("must name providers by letters, digits, hyphens and dots")
        try:
            providers[slug] = _override_provider(providers.get(slug), entry)
        except ValueError as error:
            raise ValueError(f"{slug}: {error}") from None
    return providers


def _override_provider(known: Provider | None, entry: JsonValue) -> Provider:
    """Return the table's provider `known`, None where it has none, with the members of a deployer's
    entry over it. Raises ValueError for a malformed entry."""
    if not isinstance(entry, dict) or not entry.keys() <= _MEMBER_READERS.keys():
        raise ValueError(f"must be an object with {', '.join(_MEMBER_READERS)}")
    if known is None and "base_url" not in entry:
        raise ValueError("base_url is needed, since the gateway does not know this provider")
    changes: _Changes = {}
    for name, value in entry.items():
        try:
            changes.update(_MEMBER_READERS[name](value))
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    if "base_url" in changes:  # the table's deployment URL is on the replaced host
        changes.setdefault("deployment_url", "")
    return replace(known or Provider(""), **changes)


def _read_base_url(value: JsonValue) -> str:
    """Check a base URL that may contain parameters as `{name}`; return it without "/" at its end.

    Raises ValueError where it is not a plain https URL, or has a parameter that is not one of
    `URL_PARAMETERS`. Also where a parameter could determine the domain: after it, the host must
    have at least two fixed labels, such as "{resource}.example.com".
    """
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


def _read_deployment_url(value: JsonValue) -> str:
    """Check a deployment URL, as in `Provider`: a base URL that may end in "?" and a query. Both
    may contain parameters as `{name}`. Return it without "/" at the end of its path.

    Raises ValueError where the base URL is malformed (see `_read_base_url`), where the query has
    other characters than letters, digits and "_.=&-", or a parameter that is not one of
    `URL_PARAMETERS`.
    """
    url, question_mark, query = value.partition("?") if isinstance(value, str) else ("", "", "")
    if not _QUERY.fullmatch(query) or not set(template_parameters(query)) <= URL_PARAMETERS.keys():
        raise ValueError("must end in a plain query, if in any")
    return f"{_read_base_url(url)}{question_mark}{query}"


def _read_credential(value: JsonValue) -> str:
    """Check that a value is a key of `CREDENTIAL_HEADERS`; return it. Raises ValueError
    otherwise."""
    if not isinstance(value, str) or value not in CREDENTIAL_HEADERS:
        raise ValueError(f"must be one of {', '.join(CREDENTIAL_HEADERS)}")
    return value


def _read_headers(value: JsonValue) -> dict[str, str]:
    """Check headers {name: value} to send to a provider; return them by lower-case name.

    Raises ValueError where a name or value is no text of plain ASCII, and for headers that contain
    a credential or belong to the connection.
    """
    if not isinstance(value, dict):
        raise ValueError("must map names to texts")
    headers: dict[str, str] = {}
    for name, text in value.items():
        if not isinstance(text, str):
            raise ValueError("must map names to texts")
        headers[name.lower()] = text
    for name, text in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
            raise ValueError("must have plain names and values")
        # These headers are sent for every caller: any of them could use the key, even without a
        # gateway key.
        if is_secret_name(name) or name in (
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
        ):
            raise ValueError("must not hold a credential, nor a header of the connection")
    return headers


def _read_paths(value: JsonValue) -> tuple[str, ...]:
    """Check a list of paths; return them without "/v1/". Raises ValueError where it is empty or
    malformed."""
    paths = [str(path).removeprefix("/v1/") for path in as_list(value)]
    if not paths or not all(_PATH.fullmatch(path) for path in paths):
        raise ValueError('must be a list of paths such as "/v1/embeddings"')
    return tuple(paths)


# The members that an entry may have. Each function checks the member's value, and returns the field
# of `Provider` with the same name.
_MEMBER_READERS: Mapping[str, Callable[[JsonValue], _Changes]] = {
    "base_url": lambda value: {"base_url": _read_base_url(value)},
    "credential": lambda value: {"credential": _read_credential(value)},
    "headers": lambda value: {"headers": _read_headers(value)},
    "paths": lambda value: {"paths": _read_paths(value)},
    "deployment_url": lambda value: {"deployment_url": _read_deployment_url(value)},
}
