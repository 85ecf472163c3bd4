"""Routing configs: parses the JSON that defines fallback, load balancing, conditions and retries.

Configs have Portkey's schema. A member that the gateway does not support is an error, since a
guardrail without effect would be worse. A config is the deployer's (`CONFIGS`) or a caller's
(`x-portkey-config`); only a deployer's may name a secret.
https://portkey.ai/docs/api-reference/inference-api/config-object
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from core import strict_json
from core.json_values import as_list
from core.limits import (
    MAX_REGEX_CONDITIONS,
    MAX_REQUEST_TIMEOUT_SECONDS,
    MAX_TARGET_DEPTH,
    MAX_TARGETS,
)
from core.strict_json import JsonObject, JsonValue
from core.types import Call, Refusal
from settings import table, validators
from settings.provider_table import CUSTOM_HOST_HEADER, provider_secret_name
from settings.target_members import (
    HEADER_MEMBERS,
    IGNORED_MEMBERS,
    MEMBER_READERS,
    RetryPolicy,
    TargetMembers,
)

CONFIG_HEADER, TIMEOUT_HEADER = "x-portkey-config", "x-portkey-request-timeout"

CONFIG_NAME = re.compile(r"[\w.@/-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Target:
    """A provider to call or, with `targets`, a strategy (`mode`) for choosing among several.

    `path` is its place in the config, such as `config.targets[1]`. `trusted` is True where the
    deployer wrote the config. `provider` is a slug, "" for the provider that the request names.
    `api_key` is a caller's own key, `secret` the name of a secret with a key of the deployment.
    `headers` are `x-portkey-*` headers by lower-case name, which replace the request's.
    `override_params` replace members of the request's JSON body. `timeout_seconds` is the time
    until a reply must begin.

    `mode` is one of `MODES`. `weight` is the target's share in load balancing, in relation to the
    other weights. `on_status_codes` are the statuses after which a fallback calls the next target;
    None for all but the 2xx. `conditions` are pairs of a query and the name of the target to call
    where it is true; where none is, the target named `default` is called. `cache_age_seconds` is
    how long a reply may be cached, 0 for no caching; only the outermost target has it.
    """

    path: str = "config"
    name: str = ""
    trusted: bool = False
    provider: str = ""
    api_key: str | None = field(default=None, repr=False)
    secret: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    override_params: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_seconds: float | None = None
    weight: float = 1.0
    mode: str = "single"
    on_status_codes: frozenset[int] | None = None
    conditions: tuple[tuple[JsonObject, str], ...] = ()
    default: str | None = None
    targets: tuple["Target", ...] = ()
    cache_age_seconds: int = 0

    @property
    def leaves(self) -> tuple["Target", ...]:
        """The targets without targets of their own: this one, or all that are nested in it."""
        if not self.targets:
            return (self,)
        return tuple(leaf for target in self.targets for leaf in target.leaves)

    @property
    def needs_body(self) -> bool:
        """Whether the gateway must read a request's whole body before it calls a provider, since it
        may test, change or repeat the body, or cache the reply."""
        if self.cache_age_seconds or self.mode == "conditional" or len(self.leaves) > 1:
            return True
        return any(leaf.retry.attempts or leaf.override_params for leaf in self.leaves)


def parse_config(value: JsonValue, *, trusted: bool) -> Target:
    """Check the JSON value of a routing config; return its outermost target.

    `trusted` is True for a config of the deployer. Raises ValueError where the config is malformed
    or too large, with a message that contains the place of the error.
    """
    _check_size(value)
    return _parse_target(value, Target(trusted=trusted), MAX_TARGET_DEPTH)


def parse_named_configs(value: JsonObject) -> dict[str, Target]:
    """Check the deployer's configs, a JSON object {name: config}; return the outermost target of
    each by its name. Raises ValueError for a malformed name or config."""
    named: dict[str, Target] = {}
    for name, config in value.items():
        if not CONFIG_NAME.fullmatch(name):
            raise ValueError("must name its configs by letters, digits and hyphens")
        try:
            named[name] = parse_config(config, trusted=True)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return named


def select_config(call: Call, named_configs: Mapping[str, Target]) -> Target | Refusal | None:
    """Return the config that a call's `x-portkey-config` header contains as JSON or names; None
    where the call has no such header. A refusal (400) where the JSON is not a valid config, or the
    name is not one of `named_configs`, the deployer's. JSON in the header is not trusted."""
    value = call.headers.get(CONFIG_HEADER, "").strip()
    if not value:
        return None
    if not value.startswith("{"):
        name = repr(value[:64])
        return named_configs.get(value) or Refusal(
            400,
            f"This gateway has no config {name}. Name one that it has, or send JSON.",
            quoted_input=name,
        )
    try:
        return parse_config(strict_json.parse(value), trusted=False)
    except ValueError as error:
        return Refusal(400, f"{CONFIG_HEADER}: {error}.", quoted_input=str(error))


def read_request_timeout(call: Call) -> float | Refusal | None:
    """Return the timeout in a call's `x-portkey-request-timeout` header, in seconds; None without
    that header. The reply of each attempt must begin within it; it replaces the timeouts of a
    config. A refusal (400) where the header is not a number of milliseconds within
    `MAX_REQUEST_TIMEOUT_SECONDS`."""
    value = call.headers.get(TIMEOUT_HEADER, "").strip()
    if not value:
        return None
    if (
        not re.fullmatch("[0-9]{1,9}", value)
        or not 0 < int(value) <= 1000 * MAX_REQUEST_TIMEOUT_SECONDS
    ):
        return Refusal(
            400,
            f"{TIMEOUT_HEADER} must be milliseconds, at most {MAX_REQUEST_TIMEOUT_SECONDS:g} s.",
        )
    return int(value) / 1000


def _check_size(value: JsonValue) -> None:
    """Raise ValueError for a config, as parsed JSON, with more than `MAX_TARGETS` targets or
    `MAX_REGEX_CONDITIONS` regular expressions at all levels together.

    They cost memory and time: each target has its own copy of the `override_params` around it, and
    each expression is compiled.
    """
    targets = expressions = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += [member for name, member in item.items() if name != "override_params"]
            expressions += "$regex" in item
            listed = as_list(item.get("targets"))
            targets += sum(not (isinstance(t, dict) and t.get("targets")) for t in listed)
        elif isinstance(item, list):
            pending += item
    if targets > MAX_TARGETS:
        raise ValueError(f"config.targets must be at most {MAX_TARGETS} in all")
    if expressions > MAX_REGEX_CONDITIONS:
        raise ValueError(f"config may have at most {MAX_REGEX_CONDITIONS} times $regex")


def _parse_target(value: JsonValue, inherited: Target, levels: int) -> Target:
    """Check the JSON value of a target, and return it with all targets nested in it.

    `inherited` has the target's path, and the values that it inherits from the target around it. At
    most `levels` levels of targets may be nested in it. Raises ValueError, naming the place.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{inherited.path} must be a JSON object")
    root = inherited.path == Target.path
    changes: TargetMembers = {}
    headers: dict[str, str] = {}
    for name, member in value.items():
        # Some clients write null for a member that they do not set.
        if member is None or name in IGNORED_MEMBERS:
            continue
        path = f"{inherited.path}.{name}"
        if (name not in MEMBER_READERS and name not in HEADER_MEMBERS) or (
            name == "cache" and not root
        ):
            raise ValueError(f"{path[:100]} is not known here")
        try:
            if name in HEADER_MEMBERS:
                headers[HEADER_MEMBERS[name]] = validators.text(member)
            else:
                changes.update(MEMBER_READERS[name](member))
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None
    changes["headers"] = headers
    targets = changes.pop("targets", ())
    changes["override_params"] = {**inherited.override_params, **changes.get("override_params", {})}
    parsed = replace(inherited, **changes)
    if parsed.secret and not parsed.trusted:
        raise ValueError(
            f"{inherited.path}.api_key must be a key of yours: no caller names a secret"
        )
    if parsed.api_key and parsed.trusted:
        # Any caller could use it, and the text of a variable is not secret.
        raise ValueError(f'{inherited.path}.api_key must be {{"secret": NAME}}')
    if parsed.secret and CUSTOM_HOST_HEADER in parsed.headers:
        place = f"{inherited.path}.custom_host"
        raise ValueError(f"{place}: a secret goes where {table.PROVIDERS} says")
    if parsed.secret and not (parsed.secret + "_").startswith(
        f"{provider_secret_name(parsed.provider)}_"
    ):
        named = f"{provider_secret_name(parsed.provider)}, with or without an ending such as _EU"
        raise ValueError(f"{inherited.path}.api_key must name {named}")
    if not targets:
        if parsed.mode != "single" or "targets" in value:
            raise ValueError(f"{inherited.path}.targets must be a list with at least one target")
        return parsed
    if levels == 0:
        raise ValueError(
            f"{inherited.path}.targets are nested deeper than {MAX_TARGET_DEPTH} levels"
        )
    if parsed.provider or parsed.api_key or parsed.secret or parsed.headers:
        raise ValueError(f"{inherited.path} has targets, which name their providers themselves")
    if parsed.mode == "single" and len(targets) > 1:
        raise ValueError(f"{inherited.path}.strategy must say how to choose among the targets")
    child_defaults = Target(
        trusted=parsed.trusted,
        override_params=parsed.override_params,
        retry=parsed.retry,
        timeout_seconds=parsed.timeout_seconds,
    )
    children = tuple(
        _parse_target(
            target, replace(child_defaults, path=f"{parsed.path}.targets[{index}]"), levels - 1
        )
        for index, target in enumerate(targets)
    )
    if parsed.mode == "loadbalance" and not any(target.weight for target in children):
        raise ValueError(f"{inherited.path}.targets must not all have the weight 0")
    names = {target.name for target in children if target.name}
    for name in (*(then for _, then in parsed.conditions), parsed.default):
        if name is not None and name not in names:
            raise ValueError(f"{inherited.path}.strategy names no target of this config")
    return replace(parsed, targets=children)
