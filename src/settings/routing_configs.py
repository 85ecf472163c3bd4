"""Routing configs: parses the JSON that defines fallback, load balancing, conditions and retries.

Configs have Portkey's schema. A member that the gateway does not support is an error, since a
guardrail without effect would be worse. A config is the deployer's (`CONFIGS`) or a caller's
(`x-portkey-config`); only a deployer's may name a secret.
https://portkey.ai/docs/api-reference/inference-api/config-object
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from core import strict_json
from core.limits import (
    MAX_CACHE_AGE_SECONDS,
    MAX_REGEX_CONDITIONS,
    MAX_REQUEST_TIMEOUT_SECONDS,
    MAX_RETRIES,
    MAX_TARGET_DEPTH,
    MAX_TARGETS,
)
from core.types import Call, Refusal
from settings import table, validators
from settings.conditions import check_query
from settings.provider_table import CUSTOM_HOST_HEADER, URL_PARAMETERS, provider_secret_name

CONFIG_HEADER, TIMEOUT_HEADER = "x-portkey-config", "x-portkey-request-timeout"

MODES = ("single", "fallback", "loadbalance", "conditional")

CONFIG_NAME = re.compile(r"[\w.@/-]{1,64}", re.ASCII)

_SECRET_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,99}")

# Members of a target, and the request header that each of them replaces.
_HEADER_MEMBERS = {
    name: header
    for header in (CUSTOM_HOST_HEADER, *(header for header, _ in URL_PARAMETERS.values()))
    for member in [header.removeprefix("x-portkey-").replace("-", "_")]
    for name in (member, member.removeprefix("azure_"))  # Portkey's code and its docs differ
}

# Members without effect, since they request only what the gateway does in any case.
_IGNORED_MEMBERS = ("id", "forward_headers", "strict_open_ai_compliance")


@dataclass(frozen=True)
class RetryPolicy:
    """How often a target is called again, and after which statuses of its reply.

    `attempts` is the largest number of retries, without the first call. A retry waits at least as
    long as the reply's `Retry-After` requires, unless `use_retry_after_header` is False.
    """

    attempts: int = 0
    on_status_codes: frozenset[int] = frozenset((429, 500, 502, 503, 504))
    use_retry_after_header: bool = True


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
    headers: Mapping[str, str] = field(default_factory=dict)
    override_params: Mapping[str, Any] = field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()
    timeout_seconds: float | None = None
    weight: float = 1.0
    mode: str = "single"
    on_status_codes: frozenset[int] | None = None
    conditions: tuple[tuple[Mapping[str, Any], str], ...] = ()
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


def parse_config(value: Any, *, trusted: bool) -> Target:
    """Check the JSON value of a routing config; return its outermost target.

    `trusted` is True for a config of the deployer. Raises ValueError where the config is malformed
    or too large, with a message that contains the place of the error.
    """
    _check_size(value)
    return _parse_target(value, Target(trusted=trusted), MAX_TARGET_DEPTH)


def parse_named_configs(value: Mapping[str, Any]) -> dict[str, Target]:
    """Check the deployer's configs, a JSON object {name: config}; return the outermost target of
    each by its name. Raises ValueError for a malformed name or config."""
    named = {}
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


def _check_size(value: Any) -> None:
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
            listed = item.get("targets")
            listed = listed if isinstance(listed, list) else []
            targets += sum(not (isinstance(t, dict) and t.get("targets")) for t in listed)
        elif isinstance(item, list):
            pending += item
    if targets > MAX_TARGETS:
        raise ValueError(f"config.targets must be at most {MAX_TARGETS} in all")
    if expressions > MAX_REGEX_CONDITIONS:
        raise ValueError(f"config may have at most {MAX_REGEX_CONDITIONS} times $regex")


def _parse_target(value: Any, inherited: Target, levels: int) -> Target:
    """Check the JSON value of a target, and return it with all targets nested in it.

    `inherited` has the target's path, and the values that it inherits from the target around it. At
    most `levels` levels of targets may be nested in it. Raises ValueError, naming the place.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{inherited.path} must be a JSON object")
    root = inherited.path == Target.path
    changes: dict[str, Any] = {}
    headers: dict[str, str] = {}
    for name, member in value.items():
        # Some clients write null for a member that they do not set.
        if member is None or name in _IGNORED_MEMBERS:
            continue
        path = f"{inherited.path}.{name}"
        if (name not in _MEMBER_READERS and name not in _HEADER_MEMBERS) or (
            name == "cache" and not root
        ):
            raise ValueError(f"{path[:100]} is not known here")
        try:
            if name in _HEADER_MEMBERS:
                headers[_HEADER_MEMBERS[name]] = validators.text(member)
            else:
                changes.update(_MEMBER_READERS[name](member))
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


def _read_strategy(value: Any) -> dict[str, Any]:
    members = _check_object(value, ("mode", "on_status_codes", "conditions", "default"))
    mode = members.get("mode")
    if mode not in MODES:
        raise ValueError(f"must have a mode: {', '.join(MODES)}")
    strategy: dict[str, Any] = {"mode": mode}
    if "on_status_codes" in members:
        strategy["on_status_codes"] = _check_statuses(members["on_status_codes"])
    if mode == "conditional":
        strategy["conditions"] = tuple(map(_read_condition, _check_list(members.get("conditions"))))
        strategy["default"] = validators.text(members["default"]) if "default" in members else None
    return strategy


def _read_condition(value: Any) -> tuple[Mapping[str, Any], str]:
    members = _check_object(value, ("query", "then"))
    return check_query(members.get("query")), validators.text(members.get("then"))


def _read_retry(value: Any) -> dict[str, Any]:
    header = "use_retry_after_header"
    members = _check_object(value, ("attempts", "on_status_codes", header, f"{header}s"))
    codes = members.get("on_status_codes")
    honour = members.get(header, members.get(f"{header}s", True))
    if not isinstance(honour, bool):
        raise ValueError(f"must have true or false as {header}")
    return {
        "retry": RetryPolicy(
            int(_check_number(members.get("attempts", 0), 0, MAX_RETRIES)),
            RetryPolicy.on_status_codes if codes is None else _check_statuses(codes),
            honour,
        )
    }


def _read_api_key(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        key = validators.credential(value)
        if " " in key:
            raise ValueError("must be a key")
        return {"api_key": key}
    name = _check_object(value, ("secret",)).get("secret")
    if not isinstance(name, str) or not _SECRET_NAME.fullmatch(name):
        raise ValueError("must name a secret in capital letters")
    return {"secret": name}


def _read_cache(value: Any) -> dict[str, Any]:
    members = _check_object(value, ("mode", "max_age"))
    if members.get("mode") != "simple":
        raise ValueError("must have the mode simple")
    return {
        "cache_age_seconds": int(
            _check_number(members.get("max_age", MAX_CACHE_AGE_SECONDS), 1, MAX_CACHE_AGE_SECONDS)
        )
    }


def _read_targets(value: Any) -> dict[str, Any]:
    return {"targets": _check_list(value)}


def _read_override_params(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:  # 1e999 is parsed as infinity, which cannot be sent
        raise ValueError("must hold no number that is too large for JSON") from None
    return {"override_params": value}


def _read_timeout(value: Any) -> dict[str, Any]:
    return {"timeout_seconds": _check_number(value, 1, 1000 * MAX_REQUEST_TIMEOUT_SECONDS) / 1000}


def _check_object(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Check that a JSON value is an object with no other members than `names`; return the members
    that are not null. Raises ValueError otherwise."""
    if not isinstance(value, dict) or not value.keys() <= set(names):
        raise ValueError(f"must be an object with {', '.join(names)}")
    return {name: member for name, member in value.items() if member is not None}


def _check_list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list that is not empty")
    return value


def _check_number(value: Any, least: float, most: float) -> float:
    # Only for a float: `isfinite` raises OverflowError for a very large whole number.
    infinite = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or infinite:
        raise ValueError("must be a number")
    if not least <= value <= most:
        raise ValueError(f"must be from {least:g} to {most:g}")
    return value


def _check_statuses(value: Any) -> frozenset[int]:
    if not isinstance(value, list) or not all(type(code) is int for code in value):
        raise ValueError("must have a list of statuses as on_status_codes")
    return frozenset(value)


# The members of a target. Each function checks a member's value and returns fields of `Target`.
_MEMBER_READERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "strategy": _read_strategy,
    "targets": _read_targets,
    "name": lambda value: {"name": validators.text(value)},
    "weight": lambda value: {"weight": _check_number(value, 0, 1e9)},
    "provider": lambda value: {"provider": validators.text(value).lower().removeprefix("@")},
    "api_key": _read_api_key,
    "override_params": _read_override_params,
    "retry": _read_retry,
    "request_timeout": _read_timeout,
    "cache": _read_cache,
}
