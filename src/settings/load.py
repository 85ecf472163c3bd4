"""`Settings`, loaded from the Worker's variables and secrets by the table of settings.

A malformed value never stops the Worker. A variable that protects keys, hosts or projects fails
closed: all calls are refused (`Settings.problem`). For any other variable, the default is used or
what it configures is switched off, and that is logged once (`Settings.warnings`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from core.platform import Environment
from core.strict_json import JsonObject, JsonValue
from core.trace_context import CONTENT_MODES
from core.types import Destination
from settings import table, validators
from settings.allowed_hosts import check_base_url, parse_allowed_hosts
from settings.gateway_keys import GatewayKey, parse_gateway_keys
from settings.provider_overrides import (
    ProviderRouting,
    apply_provider_overrides,
    check_url_parameter,
)
from settings.provider_table import PROVIDERS, provider_secret_name
from settings.routing_configs import Target, parse_named_configs
from settings.table import Setting

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """The Worker's configuration, validated.

    `destinations` maps names to the Langfuse projects for traces: "default", and those that gateway
    keys may name. It is empty where tracing is off. A batch is uploaded when `flush_at`
    observations wait, or after `flush_interval_seconds`. `retry_seconds` limits all uploads of a
    trace together.

    `sample_rate` is the share of traces to keep, from 0 to 1. `content_mode` is one of
    `CONTENT_MODES`, the most that is recorded. `max_field_bytes` limits each input and output.
    `max_request_bytes` limits bodies that the gateway must read. `max_capture_bytes` limits how
    much of a body or reply is recorded, and which bodies are parsed. With `request_stream_usage`,
    traced chat streams are made to include token counts.

    `gateway_keys` is None where the deployment has none. `provider_keys` has the deployment's own
    provider keys by slug, `config_keys` those of `named_configs` by the secret's name. Web pages of
    the `allowed_origins` may read responses. `secrets` are all credentials of the deployment, which
    must not be recorded. `problem` is the reason why all calls must be refused, else None.
    """

    destinations: Mapping[str, Destination] = field(default_factory=dict[str, Destination])
    protocol: str = table.PROTOCOL.default_value
    delivery: str = table.DELIVERY.default_value
    flush_at: int = table.FLUSH_AT.default_value
    flush_interval_seconds: float = table.FLUSH_INTERVAL.default_value
    upload_timeout_seconds: float = table.TIMEOUT.default_value
    retry_seconds: float = table.RETRY_SECONDS.default_value
    debug: bool = table.DEBUG.default_value
    environment: str | None = None
    release: str | None = None
    sample_rate: float = table.SAMPLE_RATE.default_value
    content_mode: str = table.CONTENT.default_value
    redact_patterns: tuple[re.Pattern[str], ...] = ()
    max_field_bytes: int = table.MAX_FIELD_BYTES.default_value
    traced_endpoints: frozenset[str] = table.TRACED_ENDPOINTS.default_value
    max_request_bytes: int = table.MAX_REQUEST_BYTES.default_value
    max_capture_bytes: int = table.MAX_CAPTURE_BYTES.default_value
    request_stream_usage: bool = table.STREAM_USAGE.default_value
    routing: ProviderRouting = field(default_factory=ProviderRouting)
    named_configs: Mapping[str, Target] = field(default_factory=dict[str, Target])
    gateway_keys: tuple[GatewayKey, ...] | None = None
    allow_anonymous: bool = table.ALLOW_ANONYMOUS.default_value
    provider_keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    config_keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    allowed_origins: frozenset[str] = frozenset()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    problem: str | None = None
    warnings: tuple[str, ...] = ()

    def destination_for(self, caller: GatewayKey | None) -> Destination | None:
        """The Langfuse project for the traces of a call. `caller` is the gateway key of the call,
        None for a call without one. The result is None where the call is not traced: tracing is
        off, or the project has no keys."""
        return self.destinations.get(caller.langfuse if caller else GatewayKey.langfuse)


def load_settings(env: Environment, *, has_queue: bool = False) -> Settings:
    """Read and validate the Worker's variables and secrets. Never raises: malformed values are in
    `problem` and `warnings`. `has_queue` is True where a queue is bound as `TRACE_QUEUE`."""
    reader = _Reader(env)
    redact = reader.find(table.REDACT) or ()
    content = reader.get(table.CONTENT)
    if reader.failed & {table.CONTENT.name, table.REDACT.name}:
        # The deployer wants to leave something out, but the malformed value does not show what.
        content = min(content, "usage", key=CONTENT_MODES.index)
    routing = _load_routing(reader)
    gateway_keys = reader.find(table.GATEWAY_API_KEYS.then(parse_gateway_keys))
    named_configs = reader.find(table.CONFIGS.then(parse_named_configs)) or {}
    provider_keys = _load_provider_keys(reader, routing, gateway_keys is not None)
    config_keys = _load_config_keys(reader, named_configs, routing)
    destinations = _load_destinations(reader, gateway_keys or ())
    names = (*table.SECRET_NAMES, *table.CONTINUATION_NAMES)
    secrets = [str(env.get(name)) for name in names if env.get(name)]
    secrets += [*provider_keys.values(), *config_keys.values()]
    for destination in destinations.values():
        secrets += [destination.public_key, destination.secret_key, destination.credential]
    delivery = reader.get(table.DELIVERY)
    if delivery == "queue" and not has_queue:
        reader.warnings.append(
            f"{table.DELIVERY} is queue, but no queue is bound as {table.TRACE_QUEUE}"
        )
        delivery = "direct"
    return Settings(
        protocol=reader.get(table.PROTOCOL),
        delivery=delivery,
        flush_at=reader.get(table.FLUSH_AT),
        flush_interval_seconds=reader.get(table.FLUSH_INTERVAL),
        upload_timeout_seconds=reader.get(table.TIMEOUT),
        retry_seconds=reader.get(table.RETRY_SECONDS),
        debug=reader.get(table.DEBUG),
        environment=reader.find(table.ENVIRONMENT),
        release=reader.find(table.RELEASE) or reader.find(table.VERSION_METADATA) or None,
        sample_rate=reader.get(table.SAMPLE_RATE),
        content_mode=content,
        redact_patterns=redact,
        max_field_bytes=reader.get(table.MAX_FIELD_BYTES),
        traced_endpoints=reader.get(table.TRACED_ENDPOINTS),
        max_request_bytes=reader.get(table.MAX_REQUEST_BYTES),
        max_capture_bytes=reader.get(table.MAX_CAPTURE_BYTES),
        request_stream_usage=reader.get(table.STREAM_USAGE),
        routing=routing,
        named_configs=named_configs,
        gateway_keys=gateway_keys,
        allow_anonymous=reader.get(table.ALLOW_ANONYMOUS),
        provider_keys=provider_keys,
        config_keys=config_keys,
        allowed_origins=reader.find(table.ALLOWED_ORIGINS) or frozenset(),
        destinations=destinations,
        secrets=tuple(dict.fromkeys(secrets)),
        problem="; ".join(reader.problems) or None,
        warnings=tuple(reader.warnings),
    )


class _Reader:
    """Reads settings. Collects messages about malformed ones, in `problems` if all calls must be
    refused and else in `warnings`, and their names in `failed`."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.failed: set[str] = set()

    def get(self, setting: Setting[T]) -> T:
        """The value of a setting, parsed; its default where it is empty, not set or malformed."""
        value = self.find(setting)
        return setting.default_value if value is None else value

    def find(self, setting: Setting[T]) -> T | None:
        """The value of a setting, parsed; None where it is empty, not set or malformed. A malformed
        value adds a problem or a warning."""
        value = self._joined_value(setting)
        if value is None or value == "":
            return None
        try:
            return setting.validate(value)
        except ValueError as error:
            # The message is a validator's. The value, which may be a secret, is never part of it.
            self.failed.add(setting.name)
            messages = self.problems if setting.fails_closed else self.warnings
            messages.append(f"{setting} {error}")
            return None

    def _joined_value(self, setting: Setting[object]) -> JsonValue:
        """The value of a setting as the platform has it: a text, a JSON value of wrangler.toml, or
        None where it is not set. Of a setting that `continues` and is no JSON value, the texts of
        all its variables joined; "" where none is set."""
        value = self.env.get(setting.name)
        if setting.continues and (value is None or isinstance(value, str)):
            parts = (self.env.get(name) for name in setting.continuation_names)
            return (value or "") + "".join(str(part or "") for part in parts)
        return value


def _load_destinations(
    reader: _Reader, gateway_keys: tuple[GatewayKey, ...]
) -> dict[str, Destination]:
    """The Langfuse projects for traces by name: "default", where its keys are set, and those of
    `LANGFUSE_PROJECTS`. Empty where tracing is off."""
    enabled = reader.get(table.TRACING_ENABLED)
    allow_http = reader.get(table.ALLOW_HTTP)

    def langfuse_url(text: str) -> str:
        return check_base_url(text, allow_http=allow_http)

    set_url = table.BASE_URL if reader.env.get(table.BASE_URL.name) else table.HOST
    base_url = reader.find(set_url.then(langfuse_url)) or (
        None if reader.env.get(set_url.name) else table.BASE_URL.default_value
    )

    def projects(entries: JsonObject) -> dict[str, Destination | None]:
        return {
            project: _parse_project(project, entry, base_url, langfuse_url)
            for project, entry in entries.items()
        }

    # Traces for one project must not be sent to another one.
    named = reader.find(table.PROJECTS.then(projects)) or {}
    if any(key.langfuse not in (GatewayKey.langfuse, *named) for key in gateway_keys):
        reader.problems.append(f"{table.GATEWAY_API_KEYS} names a project not in {table.PROJECTS}")
    public_key = reader.find(table.PUBLIC_KEY)
    secret_key = reader.find(table.SECRET_KEY)
    # A malformed value counts as off: the switch was probably set in order to switch tracing off.
    if not enabled or table.TRACING_ENABLED.name in reader.failed:
        return {}
    if (public_key is None) != (secret_key is None):
        reader.warnings.append(f"{table.PUBLIC_KEY} and {table.SECRET_KEY} go together")
    found = {project: destination for project, destination in named.items() if destination}
    if base_url and public_key and secret_key:
        default = Destination(GatewayKey.langfuse, base_url, public_key, secret_key)
        return {default.name: default, **found}
    return found


def _parse_project(
    name: str, entry: JsonValue, base_url: str | None, langfuse_url: Callable[[str], str]
) -> Destination | None:
    """Parse an entry of `LANGFUSE_PROJECTS`: an object with keys and perhaps a base URL, by default
    `base_url`. `langfuse_url` checks a base URL. The result is None where there is no base URL.
    Raises ValueError where the entry is malformed."""
    members = ("public_key", "secret_key", "base_url")
    if name == GatewayKey.langfuse:
        raise ValueError(f"has {name}, which is {table.PUBLIC_KEY}'s and {table.SECRET_KEY}'s")
    if not isinstance(entry, dict) or not entry.keys() <= set(members):
        raise ValueError(f"must map names to objects with {', '.join(members)}")
    try:
        public_key, secret_key = (validators.text(entry.get(member)) for member in members[:2])
        url = langfuse_url(validators.text(entry["base_url"])) if "base_url" in entry else base_url
    except ValueError as error:
        raise ValueError(f"has a project whose keys or base_url are no good: it {error}") from None
    return Destination(name, url, public_key, secret_key) if url else None


def _load_provider_keys(
    reader: _Reader, routing: ProviderRouting, has_gateway_keys: bool
) -> dict[str, str]:
    """The deployment's own provider keys by slug. Adds a problem where two slugs share the name of
    a secret, and a warning where the keys are not used, since there are no gateway keys."""
    found: dict[str, str] = {}
    owners: dict[str, str] = {}
    for slug in routing.providers:
        name = provider_secret_name(slug)
        key = reader.find(table.PROVIDER_KEY.named(name))
        if key is None:
            continue
        if name in owners:
            reader.problems.append(f"{name} could be the key of {owners[name]} and of {slug}")
        found[slug], owners[name] = key, slug
    if found and not has_gateway_keys:
        reader.warnings.append(
            f"{', '.join(owners)}: used for nobody, since no {table.GATEWAY_API_KEYS} are "
            "configured"
        )
    return found


def _load_config_keys(
    reader: _Reader, named: Mapping[str, Target], routing: ProviderRouting
) -> dict[str, str]:
    """The provider keys that the deployer's configs refer to, by the name of their secret. A secret
    that is not set, and an unknown provider in a config, add a problem."""
    found: dict[str, str] = {}
    for config, leaf in ((name, leaf) for name in named for leaf in named[name].leaves):
        if leaf.provider and leaf.provider not in routing.providers:
            reader.problems.append(f"{table.CONFIGS}: {config}: {leaf.path}.provider is not known")
        if leaf.secret is None:
            continue
        key = reader.find(table.PROVIDER_KEY.named(leaf.secret))
        if key is None:
            reader.problems.append(
                f"{table.CONFIGS}: {config} names {leaf.secret}, which is not set"
            )
        else:
            found[leaf.secret] = key
    return found


def _load_routing(reader: _Reader) -> ProviderRouting:
    providers = reader.find(table.PROVIDERS.then(apply_provider_overrides)) or PROVIDERS

    def known_slug(text: str) -> str:
        slug = text.lower()
        if slug not in providers:
            raise ValueError("names no known provider")
        return slug

    parameters = {
        name: reader.find(setting.then(partial(check_url_parameter, name)))
        for name, setting in table.PARAMETERS.items()
    }
    return ProviderRouting(
        providers=providers,
        default_provider=reader.get(table.DEFAULT_PROVIDER.then(known_slug)),
        url_parameters={name: value for name, value in parameters.items() if value},
        allowed_custom_hosts=reader.find(table.ALLOWED_CUSTOM_HOSTS.then(parse_allowed_hosts))
        or frozenset(),
    )
