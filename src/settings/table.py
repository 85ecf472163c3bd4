"""The table of settings: every variable, secret and binding that the Worker reads.

A row is the only place that has a setting's name. Messages and `load` refer to the row, and `make
docs` writes the README's table from it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from core import limits
from core.strict_json import JsonValue
from core.trace_context import CONTENT_MODES
from settings import validators
from settings.provider_table import PROVIDER_SECRET, URL_PARAMETERS

T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")

# Cloudflare limits a variable to 5 KB. A text continues in NAME_2 to NAME_9.
# https://developers.cloudflare.com/workers/platform/limits/#environment-variables
_CONTINUATIONS = range(2, 10)


@dataclass(frozen=True, eq=False)
class Setting(Generic[T_co]):
    """A row of the table. As a text, it is the setting's name.

    `default` is a value as wrangler.toml would have it, or "" where nothing is the default.
    `validate` takes a value that is set and returns it parsed; it raises ValueError where the value
    is malformed. `doc` is Markdown for the README: what the setting does.

    With `fails_closed`, all calls are refused where the value is malformed; else the default is
    used. With `continues`, the value is JSON that may be split over several variables.
    """

    name: str
    kind: Literal["secret", "variable", "binding"]
    default: str
    validate: Callable[[JsonValue], T_co]
    doc: str
    fails_closed: bool = False
    continues: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def default_value(self) -> T_co:
        """The default, parsed. Raises ValueError for a setting without a default."""
        return self.validate(self.default)

    @property
    def continuation_names(self) -> tuple[str, ...]:
        """The names of the variables in which the value may continue, in order."""
        return tuple(f"{self}_{part}" for part in _CONTINUATIONS) if self.continues else ()

    def named(self, name: str) -> "Setting[T_co]":
        """The setting under another name."""
        return replace(self, name=name)

    def then(self, parse: Callable[[T_co], U]) -> "Setting[U]":
        """The setting with a second validator, which takes the first one's result."""
        return Setting(
            self.name,
            self.kind,
            self.default,
            lambda value: parse(self.validate(value)),
            self.doc,
            self.fails_closed,
            self.continues,
        )


# The rows, in the order of the README. Links in them start from there.
PUBLIC_KEY = Setting(
    "LANGFUSE_PUBLIC_KEY",
    "secret",
    "",
    validators.text,
    "the public key of the Langfuse project for traces. Without both keys, tracing is off",
)
SECRET_KEY = Setting(
    "LANGFUSE_SECRET_KEY",
    "secret",
    "",
    validators.text,
    "the secret key of the same project",
)
PROJECTS = Setting(
    "LANGFUSE_PROJECTS",
    "secret",
    "",
    validators.json_object,
    'JSON, `{"name": {"public_key": "…", "secret_key": "…"}}`: '
    "[more projects](docs/gateway.md#several-langfuse-projects), for gateway keys that name them",
    fails_closed=True,
    continues=True,
)
GATEWAY_API_KEYS = Setting(
    "GATEWAY_API_KEYS",
    "secret",
    "",
    validators.json_object,
    'JSON, `{"name": "SHA-256 of the key in hex"}`, or in place of the hash an object with '
    "[rights](docs/gateway.md#gateway-keys). Without it, no gateway key is required",
    fails_closed=True,
    continues=True,
)
ALLOW_ANONYMOUS = Setting(
    "ALLOW_ANONYMOUS",
    "variable",
    "false",
    validators.flag,
    "`true` also admits callers without a gateway key, who send a provider key of their own",
)
CONFIGS = Setting(
    "CONFIGS",
    "variable",
    "",
    validators.json_object,
    'JSON, `{"name": {…}}`: [configs](docs/gateway.md#named-configs) that `x-portkey-config` may '
    "name",
    fails_closed=True,
    continues=True,
)
# Read once for each provider, under the name of its secret.
PROVIDER_KEY = Setting(
    PROVIDER_SECRET,
    "secret",
    "",
    validators.credential,
    "[your key for a provider](docs/gateway.md#your-provider-keys-in-the-gateway), such as "
    "`OPENAI_API_KEY`, for callers with a gateway key. "
    f"[`{CONFIGS}`](docs/gateway.md#named-configs) may refer to more, such as `OPENAI_API_KEY_EU`",
    fails_closed=True,
)
BASE_URL = Setting(
    "LANGFUSE_BASE_URL",
    "variable",
    "https://cloud.langfuse.com",
    validators.text,
    "the address of Langfuse: https, except for loopback",
)
HOST = Setting(
    "LANGFUSE_HOST",
    "variable",
    "",
    validators.text,
    f"the same, where `{BASE_URL}` is not set",
)
ALLOW_HTTP = Setting(
    "LANGFUSE_ALLOW_HTTP",
    "variable",
    "false",
    validators.flag,
    "`true` allows an http base URL",
)
TRACING_ENABLED = Setting(
    "LANGFUSE_TRACING_ENABLED",
    "variable",
    "true",
    validators.flag,
    "any value other than `true` or `1` switches tracing off",
)
ENVIRONMENT = Setting(
    "LANGFUSE_TRACING_ENVIRONMENT",
    "variable",
    "",
    validators.environment,
    "the environment of the traces: at most 40 of a-z, 0-9, `-`, `_`",
)
RELEASE = Setting(
    "LANGFUSE_RELEASE",
    "variable",
    "",
    validators.text,
    "the release of the traces; if unset, the id of the deployed version",
)
SAMPLE_RATE = Setting(
    "LANGFUSE_SAMPLE_RATE",
    "variable",
    "1.0",
    validators.fraction,
    "the share of traces that is kept",
)
CONTENT = Setting(
    "LANGFUSE_CONTENT",
    "variable",
    "full",
    validators.one_of(*CONTENT_MODES),
    "`usage` records no content, `off` nothing",
)
REDACT = Setting(
    "LANGFUSE_REDACT",
    "variable",
    "",
    validators.regex_list,
    "JSON list of regular expressions: [what they match](docs/tracing.md#redaction) is not "
    "recorded",
    continues=True,
)
MAX_FIELD_BYTES = Setting(
    "LANGFUSE_MAX_FIELD_BYTES",
    "variable",
    str(limits.MAX_FIELD_BYTES),
    validators.field_byte_count,
    "the limit of each input and output, in bytes; the default is the maximum",
)
PROTOCOL = Setting(
    "LANGFUSE_PROTOCOL",
    "variable",
    "auto",
    validators.one_of("auto", "ingestion", "otlp"),
    "`auto`: by the server's version; `ingestion` or `otlp` uses only that one",
)
TIMEOUT = Setting(
    "LANGFUSE_TIMEOUT",
    "variable",
    "5",
    validators.timeout_seconds,
    "seconds for one upload, at most 30",
)
RETRY_SECONDS = Setting(
    "LANGFUSE_RETRY_SECONDS",
    "variable",
    "25",
    validators.retry_seconds,
    "how long after a reply its trace is retried, at most 28",
)
FLUSH_AT = Setting(
    "LANGFUSE_FLUSH_AT",
    "variable",
    "1",
    validators.batch_size,
    f"observations per batch, at most {limits.MAX_BATCH_OBSERVATIONS}",
)
FLUSH_INTERVAL = Setting(
    "LANGFUSE_FLUSH_INTERVAL",
    "variable",
    "1000",
    validators.interval_seconds,
    "how long an observation waits for others, in ms, at most 10000",
)
DELIVERY = Setting(
    "LANGFUSE_DELIVERY",
    "variable",
    "direct",
    validators.one_of("direct", "queue"),
    "`queue` sends every trace through the queue",
)
DEBUG = Setting(
    "LANGFUSE_DEBUG",
    "variable",
    "false",
    validators.flag,
    "`true` logs each trace that was stored",
)
TRACE_QUEUE = Setting(
    "TRACE_QUEUE",
    "binding",
    "",
    bool,
    "a Cloudflare Queue for traces that Langfuse does not accept in time",
)
TRACED_ENDPOINTS = Setting(
    "TRACED_ENDPOINTS",
    "variable",
    "/v1/chat/completions, /v1/completions, /v1/messages, /v1/embeddings, /v1/responses",
    validators.gateway_paths,
    "the paths that are traced, comma-separated",
)
MAX_REQUEST_BYTES = Setting(
    "MAX_REQUEST_BYTES",
    "variable",
    str(32 * limits.MEGABYTE),
    validators.byte_count,
    "in bytes; a larger body to a traced endpoint is answered with a 413",
)
MAX_CAPTURE_BYTES = Setting(
    "MAX_CAPTURE_BYTES",
    "variable",
    str(4 * limits.MEGABYTE),
    validators.byte_count,
    "how much of a body is read for the trace, in bytes",
)
STREAM_USAGE = Setting(
    "TRACE_STREAM_USAGE",
    "variable",
    "false",
    validators.flag,
    "`true` requests the usage of chat streams",
)
DEFAULT_PROVIDER = Setting(
    "DEFAULT_PROVIDER",
    "variable",
    "openai",
    validators.text,
    "the provider of calls that [name none](docs/gateway.md#which-provider)",
)
VERSION_METADATA = Setting(
    "CF_VERSION_METADATA",
    "binding",
    "",
    validators.version_id,
    "the deployed version (`[version_metadata]` in `wrangler.toml`)",
)
RATE_LIMIT = Setting(
    "RATE_LIMIT",
    "binding",
    "",
    bool,
    "a [rate limit](docs/gateway.md#rate-limits) for each gateway key",
)
ALLOWED_ORIGINS = Setting(
    "ALLOWED_ORIGINS",
    "variable",
    "",
    validators.origins,
    "comma-separated origins of [web pages](docs/gateway.md#browsers) that may call; `*` for all",
)
PROVIDERS = Setting(
    "PROVIDERS",
    "variable",
    "",
    validators.json_object,
    'JSON, `{"name": {"base_url": "https://…/v1"}}`: [more '
    "providers](docs/gateway.md#the-table-is-yours-to-change), or other addresses for known ones",
    fails_closed=True,
    continues=True,
)
ALLOWED_CUSTOM_HOSTS = Setting(
    "ALLOWED_CUSTOM_HOSTS",
    "variable",
    "",
    validators.comma_separated,
    "comma-separated [hosts](docs/gateway.md#hosts-of-your-own) that `x-portkey-custom-host` may "
    "name",
    fails_closed=True,
)
# One for each parameter of base URLs, by the parameter's name.
PARAMETERS = {
    parameter: Setting(
        variable,
        "variable",
        "",
        validators.text,
        f"the [parameter](docs/gateway.md#parameters) `{{{parameter}}}` of base URLs, for requests "
        f"without `{header}`",
        fails_closed=True,
    )
    for parameter, (header, variable) in URL_PARAMETERS.items()
}

_ROWS: list[Setting[object]] = [row for row in [*globals().values()] if isinstance(row, Setting)]

SETTINGS = (*_ROWS, *PARAMETERS.values())

SECRET_NAMES = tuple(
    row.name for row in SETTINGS if row.kind == "secret" and row is not PROVIDER_KEY
)

VARIABLE_NAMES = tuple(row.name for row in SETTINGS if row.kind == "variable")

BINDING_NAMES = tuple(row.name for row in SETTINGS if row.kind == "binding")

CONTINUATION_NAMES = tuple(name for row in SETTINGS for name in row.continuation_names)
