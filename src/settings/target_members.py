"""The members of a target in a routing config: each is checked by a function of its own."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from core.json_values import as_list
from core.limits import MAX_CACHE_AGE_SECONDS, MAX_REQUEST_TIMEOUT_SECONDS, MAX_RETRIES
from core.strict_json import JsonObject, JsonValue
from settings import validators
from settings.conditions import check_query
from settings.provider_table import CUSTOM_HOST_HEADER, URL_PARAMETERS

MODES = ("single", "fallback", "loadbalance", "conditional")

_SECRET_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,99}")

# Members of a target, and the request header that each of them replaces.
HEADER_MEMBERS = {
    name: header
    for header in (CUSTOM_HOST_HEADER, *(header for header, _ in URL_PARAMETERS.values()))
    for member in [header.removeprefix("x-portkey-").replace("-", "_")]
    for name in (member, member.removeprefix("azure_"))  # Portkey's code and its docs differ
}

# Members without effect, since they request only what the gateway does in any case.
IGNORED_MEMBERS = ("id", "forward_headers", "strict_open_ai_compliance")


@dataclass(frozen=True)
class RetryPolicy:
    """How often a target is called again, and after which statuses of its reply.

    `attempts` is the largest number of retries, without the first call. A retry waits at least as
    long as the reply's `Retry-After` requires, unless `use_retry_after_header` is False.
    """

    attempts: int = 0
    on_status_codes: frozenset[int] = frozenset((429, 500, 502, 503, 504))
    use_retry_after_header: bool = True


class TargetMembers(TypedDict, total=False):
    """Fields of `routing_configs.Target`, as the members of a target's JSON object define them.

    `targets` are JSON values, which are not checked yet.
    """

    name: str
    provider: str
    api_key: str
    secret: str
    headers: Mapping[str, str]
    override_params: Mapping[str, JsonValue]
    retry: RetryPolicy
    timeout_seconds: float
    weight: float
    mode: str
    on_status_codes: frozenset[int]
    conditions: tuple[tuple[JsonObject, str], ...]
    default: str | None
    targets: list[JsonValue]
    cache_age_seconds: int


def _read_strategy(value: JsonValue) -> TargetMembers:
    members = _check_object(value, ("mode", "on_status_codes", "conditions", "default"))
    mode = members.get("mode")
    if mode not in MODES:
        raise ValueError(f"must have a mode: {', '.join(MODES)}")
    strategy: TargetMembers = {"mode": mode}
    if "on_status_codes" in members:
        strategy["on_status_codes"] = _check_statuses(members["on_status_codes"])
    if mode == "conditional":
        strategy["conditions"] = tuple(map(_read_condition, _check_list(members.get("conditions"))))
        strategy["default"] = validators.text(members["default"]) if "default" in members else None
    return strategy


def _read_condition(value: JsonValue) -> tuple[JsonObject, str]:
    members = _check_object(value, ("query", "then"))
    return check_query(members.get("query")), validators.text(members.get("then"))


def _read_retry(value: JsonValue) -> TargetMembers:
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


def _read_api_key(value: JsonValue) -> TargetMembers:
    if not isinstance(value, dict):
        key = validators.credential(value)
        if " " in key:
            raise ValueError("must be a key")
        return {"api_key": key}
    name = _check_object(value, ("secret",)).get("secret")
    if not isinstance(name, str) or not _SECRET_NAME.fullmatch(name):
        raise ValueError("must name a secret in capital letters")
    return {"secret": name}


def _read_cache(value: JsonValue) -> TargetMembers:
    members = _check_object(value, ("mode", "max_age"))
    if members.get("mode") != "simple":
        raise ValueError("must have the mode simple")
    return {
        "cache_age_seconds": int(
            _check_number(members.get("max_age", MAX_CACHE_AGE_SECONDS), 1, MAX_CACHE_AGE_SECONDS)
        )
    }


def _read_targets(value: JsonValue) -> TargetMembers:
    return {"targets": _check_list(value)}


def _read_override_params(value: JsonValue) -> TargetMembers:
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:  # 1e999 is parsed as infinity, which cannot be sent
        raise ValueError("must hold no number that is too large for JSON") from None
    return {"override_params": value}


def _read_timeout(value: JsonValue) -> TargetMembers:
    return {"timeout_seconds": _check_number(value, 1, 1000 * MAX_REQUEST_TIMEOUT_SECONDS) / 1000}


def _check_object(value: JsonValue, names: tuple[str, ...]) -> JsonObject:
    """Check that a JSON value is an object with no other members than `names`; return the members
    that are not null. Raises ValueError otherwise."""
    if not isinstance(value, dict) or not value.keys() <= set(names):
        raise ValueError(f"must be an object with {', '.join(names)}")
    return {name: member for name, member in value.items() if member is not None}


def _check_list(value: JsonValue) -> list[JsonValue]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list that is not empty")
    return value


def _check_number(value: JsonValue, least: float, most: float) -> float:
    # Only for a float: `isfinite` raises OverflowError for a very large whole number.
    infinite = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or infinite:
        raise ValueError("must be a number")
    if not least <= value <= most:
        raise ValueError(f"must be from {least:g} to {most:g}")
    return value


def _check_statuses(value: JsonValue) -> frozenset[int]:
    codes = [code for code in as_list(value) if type(code) is int]
    if codes != value:
        raise ValueError("must have a list of statuses as on_status_codes")
    return frozenset(codes)


# The members of a target. Each function checks a member's value and returns fields of `Target`.
MEMBER_READERS: Mapping[str, Callable[[JsonValue], TargetMembers]] = {
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
