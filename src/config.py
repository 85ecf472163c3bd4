"""Every variable and secret that the Worker reads: its name, its default and its check.

A malformed value never breaks the Worker: what guards keys fails closed (`problem`), what only
concerns tracing switches off the part that it configures and is reported once (`warnings`).
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import addresses
import checks
import routing
from checks import MAX_FIELD_BYTES
from context import CONTENT_MODES
from provider_table import PARAMETERS
from routing import Routing

# Langfuse behaves by the names of its own SDKs and of its own gateway; this is none of them.
NAME, VERSION = "ai-gateway-worker", "0.1.0"

TRACED_ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/responses",
)
MEGABYTE = 1024 * 1024

BINDINGS = ("CF_VERSION_METADATA",)
SECRETS = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "GATEWAY_API_KEYS")
VARIABLES = (
    "LANGFUSE_BASE_URL",
    "LANGFUSE_HOST",
    "LANGFUSE_ALLOW_HTTP",
    "LANGFUSE_TRACING_ENABLED",
    "LANGFUSE_TRACING_ENVIRONMENT",
    "LANGFUSE_RELEASE",
    "LANGFUSE_SAMPLE_RATE",
    "LANGFUSE_CONTENT",
    "LANGFUSE_REDACT",
    "LANGFUSE_MAX_FIELD_BYTES",
    "LANGFUSE_PROTOCOL",
    "LANGFUSE_DELIVERY",
    "LANGFUSE_FLUSH_AT",
    "LANGFUSE_FLUSH_INTERVAL",
    "LANGFUSE_TIMEOUT",
    "LANGFUSE_RETRY_SECONDS",
    "LANGFUSE_DEBUG",
    "TRACED_ENDPOINTS",
    "MAX_REQUEST_BYTES",
    "MAX_CAPTURE_BYTES",
    "TRACE_STREAM_USAGE",
    "DEFAULT_PROVIDER",
    "PROVIDERS",
    "ALLOWED_CUSTOM_HOSTS",
    *(variable for _, variable in PARAMETERS.values()),
)
# Cloudflare lets a variable hold 5 KB; the text of these goes on in NAME_2, NAME_3 and so on.
# https://developers.cloudflare.com/workers/platform/limits/#environment-variables
JSON_VARIABLES = ("GATEWAY_API_KEYS", "LANGFUSE_REDACT", "PROVIDERS")
CONTINUATIONS = tuple(f"{name}_{part}" for name in JSON_VARIABLES for part in range(2, 10))


@dataclass(frozen=True)
class Destination:
    """A Langfuse project: where observations go, and with which credentials.

    Its name may stand where its keys may not.
    """

    name: str
    base_url: str
    public_key: str
    secret_key: str = field(repr=False)

    @property
    def credential(self) -> str:
        """The key pair as HTTP's Basic scheme has it."""
        return base64.b64encode(f"{self.public_key}:{self.secret_key}".encode()).decode()


@dataclass(frozen=True)
class Settings:
    """The Worker's configuration, checked.

    `destination` is None where tracing is off. `gateway_keys` maps a caller's name to the SHA-256
    of its key in hex, and is None where no gateway key is asked for. `problem` is set where the
    Worker must refuse to serve, and says why.
    """

    destination: Destination | None = None
    protocol: str = "auto"
    delivery: str = "direct"
    flush_at: int = 1
    flush_interval: float = 1.0
    timeout: float = 5.0
    delivery_seconds: float = 25.0
    debug: bool = False
    environment: str | None = None
    release: str | None = None
    sample_rate: float = 1.0
    content: str = "full"
    redact: tuple[re.Pattern[str], ...] = ()
    max_field_bytes: int = MAX_FIELD_BYTES
    traced_endpoints: frozenset[str] = frozenset(TRACED_ENDPOINTS)
    max_request_bytes: int = 32 * MEGABYTE
    max_capture_bytes: int = 4 * MEGABYTE
    stream_usage: bool = False
    routing: Routing = field(default_factory=Routing)
    gateway_keys: Mapping[str, str] | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    problem: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def destinations(self) -> dict[str, Destination]:
        """Every destination by its name."""
        return {self.destination.name: self.destination} if self.destination else {}


def load(env: Mapping[str, Any], *, has_queue: bool = False) -> Settings:
    """Check the Worker's environment, in which a queue may be bound.

    `env` holds the values that are set of `SECRETS`, `VARIABLES`, `BINDINGS` and `CONTINUATIONS`;
    text as Cloudflare gives it, or a value that wrangler's JSON bindings already parsed. Never
    raises.
    """
    reader = _Reader(env)
    redact = reader.get("LANGFUSE_REDACT", checks.expressions, ())
    content = reader.get("LANGFUSE_CONTENT", checks.one_of(*CONTENT_MODES), "full")
    if reader.failed & {"LANGFUSE_CONTENT", "LANGFUSE_REDACT"}:
        # Somebody wanted something left out, and what it was cannot be told.
        content = min(content, "usage", key=CONTENT_MODES.index)
    destination = _destination(reader)
    secrets = [str(env[name]) for name in (*SECRETS, *CONTINUATIONS) if env.get(name)]
    if destination:
        secrets.append(destination.credential)
    delivery = reader.get("LANGFUSE_DELIVERY", checks.one_of("direct", "queue"), Settings.delivery)
    if delivery == "queue" and not has_queue:
        reader.warnings.append("LANGFUSE_DELIVERY is queue, but no queue is bound as TRACE_QUEUE")
        delivery = "direct"
    return Settings(
        protocol=reader.get(
            "LANGFUSE_PROTOCOL", checks.one_of("auto", "ingestion", "otlp"), Settings.protocol
        ),
        delivery=delivery,
        flush_at=reader.get("LANGFUSE_FLUSH_AT", checks.count, Settings.flush_at),
        flush_interval=reader.get(
            "LANGFUSE_FLUSH_INTERVAL", checks.milliseconds, Settings.flush_interval
        ),
        timeout=reader.get("LANGFUSE_TIMEOUT", checks.seconds, Settings.timeout),
        delivery_seconds=reader.get(
            "LANGFUSE_RETRY_SECONDS", checks.delivery_seconds, Settings.delivery_seconds
        ),
        debug=reader.get("LANGFUSE_DEBUG", checks.flag, Settings.debug),
        environment=reader.get("LANGFUSE_TRACING_ENVIRONMENT", checks.environment, None),
        release=reader.get("LANGFUSE_RELEASE", checks.text, None) or _version_id(env),
        sample_rate=reader.get("LANGFUSE_SAMPLE_RATE", checks.rate, Settings.sample_rate),
        content=content,
        redact=redact,
        max_field_bytes=reader.get("LANGFUSE_MAX_FIELD_BYTES", checks.field_size, MAX_FIELD_BYTES),
        traced_endpoints=reader.get("TRACED_ENDPOINTS", checks.paths, Settings.traced_endpoints),
        max_request_bytes=reader.get("MAX_REQUEST_BYTES", checks.size, Settings.max_request_bytes),
        max_capture_bytes=reader.get("MAX_CAPTURE_BYTES", checks.size, Settings.max_capture_bytes),
        stream_usage=reader.get("TRACE_STREAM_USAGE", checks.flag, Settings.stream_usage),
        routing=_routing(reader),
        gateway_keys=reader.get("GATEWAY_API_KEYS", _gateway_keys, None, guards=True),
        destination=destination,
        secrets=tuple(secrets),
        problem="; ".join(reader.problems) or None,
        warnings=tuple(reader.warnings),
    )


class _Reader:
    """Reads values by name and collects what is wrong with them."""

    def __init__(self, env: Mapping[str, Any]) -> None:
        self.env = env
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.failed: set[str] = set()

    def get(
        self, name: str, parse: Callable[[Any], Any], default: Any, *, guards: bool = False
    ) -> Any:
        value = self._whole(name)
        if value is None or value == "":
            return default
        try:
            return parse(value)
        except ValueError as error:
            # The message is ours; the value may be a secret and is never part of it.
            self.failed.add(name)
            (self.problems if guards else self.warnings).append(f"{name} {error}")
            return default

    def _whole(self, name: str) -> Any:
        value = self.env.get(name)
        if name in JSON_VARIABLES and (value is None or isinstance(value, str)):
            parts = (part for part in CONTINUATIONS if part.startswith(f"{name}_"))
            return (value or "") + "".join(str(self.env.get(part) or "") for part in parts)
        return value


def _destination(reader: _Reader) -> Destination | None:
    public_key = reader.get("LANGFUSE_PUBLIC_KEY", checks.text, None)
    secret_key = reader.get("LANGFUSE_SECRET_KEY", checks.text, None)
    # Whoever set the switch to something else meant to switch it off.
    enabled = reader.get("LANGFUSE_TRACING_ENABLED", checks.flag, True)
    if not enabled or "LANGFUSE_TRACING_ENABLED" in reader.failed:
        return None
    if not public_key or not secret_key:
        if public_key or secret_key:
            reader.warnings.append("LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY go together")
        return None
    allow_http = reader.get("LANGFUSE_ALLOW_HTTP", checks.flag, False)

    def langfuse_url(value: Any) -> str:
        return addresses.base_url(checks.text(value), allow_http=allow_http)

    name = "LANGFUSE_BASE_URL" if reader.env.get("LANGFUSE_BASE_URL") else "LANGFUSE_HOST"
    base_url = reader.get(name, langfuse_url, None) or (
        None if reader.env.get(name) else "https://cloud.langfuse.com"
    )
    return Destination("default", base_url, public_key, secret_key) if base_url else None


def _routing(reader: _Reader) -> Routing:
    def known(value: Any) -> str:
        slug = checks.text(value).lower()
        if slug not in table:
            raise ValueError("names no known provider")
        return slug

    def hosts(value: Any) -> frozenset[str]:
        return addresses.allowed_hosts(checks.words(value))

    def parameter(name: str) -> Callable[[Any], str]:
        return lambda value: routing.parameter(name, checks.text(value))

    def providers(value: Any) -> Mapping[str, Any]:
        return routing.overridden(checks.json_object(value))

    default = Routing()
    table = reader.get("PROVIDERS", providers, default.table, guards=True)
    parameters = {
        name: reader.get(variable, parameter(name), None, guards=True)
        for name, (_, variable) in PARAMETERS.items()
    }
    return Routing(
        table=table,
        default=reader.get("DEFAULT_PROVIDER", known, default.default),
        parameters={name: value for name, value in parameters.items() if value},
        custom_hosts=reader.get("ALLOWED_CUSTOM_HOSTS", hosts, frozenset(), guards=True),
    )


def _version_id(env: Mapping[str, Any]) -> str | None:
    # https://developers.cloudflare.com/workers/runtime-apis/bindings/version-metadata/
    version = env.get("CF_VERSION_METADATA")
    return version.get("id") or None if isinstance(version, dict) else None


def _gateway_keys(value: Any) -> dict[str, str]:
    keys = checks.json_object(value)
    digits = set("0123456789abcdef")
    for digest in keys.values():
        if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= digits:
            raise ValueError("must map each caller's name to the SHA-256 of its key in hex")
    if not keys:
        raise ValueError("must name at least one caller")
    return keys
