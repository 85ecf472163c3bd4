"""Configs: what to do where one attempt at one provider may not be enough.

In Portkey's schema, of which what the gateway does not know is refused: a guardrail that is not
there is worse than an error. A config is the deployer's (`CONFIGS`) or a caller's
(`x-portkey-config`); only the first may name a secret.
https://portkey.ai/docs/api-reference/inference-api/config-object
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import checks
import conditions
import strict_json
from keys import secret_name
from provider_table import CUSTOM_HOST, PARAMETERS
from vocabulary import Call, Refusal

HEADER, TIMEOUT_HEADER = "x-portkey-config", "x-portkey-request-timeout"
MODES = ("single", "fallback", "loadbalance", "conditional")
# Nested retries multiply what a request costs.
LEVELS, MOST_TARGETS, MOST_RETRIES = 3, 50, 5
MOST_EXPRESSIONS = 50
LONGEST_TIMEOUT, LONGEST_AGE = 600.0, 30 * 24 * 3600
NAME = re.compile(r"[\w.@/-]{1,64}", re.ASCII)
_SECRET = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
# What a target says in the words of the request's headers.
_HEADERS = {
    name: header
    for header in (CUSTOM_HOST, *(header for header, _ in PARAMETERS.values()))
    for words in [header.removeprefix("x-portkey-").replace("-", "_")]
    for name in (words, words.removeprefix("azure_"))  # Portkey's code and its docs differ
}
# What asks for nothing that the gateway does not do anyway.
_GRANTED = ("id", "forward_headers", "strict_open_ai_compliance")


@dataclass(frozen=True)
class Retry:
    """How often a target is asked again, and after which statuses. A provider that says when it
    wants to be asked again is, unless `use_retry_after_header` is off."""

    attempts: int = 0
    on_status_codes: frozenset[int] = frozenset((429, 500, 502, 503, 504))
    use_retry_after_header: bool = True


@dataclass(frozen=True)
class Target:
    """A provider to ask or, with `targets`, a way to choose among several.

    `path` is its place in the config, such as `config.targets[1]`. `trusted` is set where the
    deployer wrote it. `api_key` is a caller's own key, `secret` the name of one of the deployment's
    secrets. `headers` are the `x-portkey-*` headers that the target stands for. `timeout` is in
    seconds, until a reply begins. `on_status_codes` are the statuses after which a fallback goes
    on; None for all but the 2xx. `cache_age` is how many seconds a reply may be kept, of the whole
    config; 0 for none.
    """

    path: str = "config"
    name: str = ""
    trusted: bool = False
    provider: str = ""
    api_key: str | None = field(default=None, repr=False)
    secret: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    override_params: Mapping[str, Any] = field(default_factory=dict)
    retry: Retry = Retry()
    timeout: float | None = None
    weight: float = 1.0
    mode: str = "single"
    on_status_codes: frozenset[int] | None = None
    conditions: tuple[tuple[Mapping[str, Any], str], ...] = ()
    default: str | None = None
    targets: tuple["Target", ...] = ()
    cache_age: int = 0

    @property
    def leaves(self) -> tuple["Target", ...]:
        """The providers to ask that are in it."""
        if not self.targets:
            return (self,)
        return tuple(leaf for target in self.targets for leaf in target.leaves)

    @property
    def needs_body(self) -> bool:
        """Whether it looks into a request's body, changes it or may send it twice."""
        if self.cache_age or self.mode == "conditional" or len(self.leaves) > 1:
            return True
        return any(leaf.retry.attempts or leaf.override_params for leaf in self.leaves)


def read(value: Any, *, trusted: bool) -> Target:
    """A config from its JSON. Raises ValueError, which says where what is wrong."""
    _count(value)
    return _read(value, Target(trusted=trusted), LEVELS)


def read_named(value: Mapping[str, Any]) -> dict[str, Target]:
    """The deployer's own configs by name. Raises ValueError."""
    named = {}
    for name, config in value.items():
        if not NAME.fullmatch(name):
            raise ValueError("must name its configs by letters, digits and hyphens")
        try:
            named[name] = read(config, trusted=True)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return named


def chosen(call: Call, named: Mapping[str, Target]) -> Target | Refusal | None:
    """The config that a call asks for: JSON, or the name of one of the deployer's. None for none.

    A caller that sends JSON says in it what any caller may say, and names no secret.
    """
    said = call.headers.get(HEADER, "").strip()
    if not said:
        return None
    if not said.startswith("{"):
        name = repr(said[:64])
        return named.get(said) or Refusal(
            400,
            f"This gateway has no config {name}. Name one that it has, or send JSON.",
            quote=name,
        )
    try:
        return read(strict_json.parse(said), trusted=False)
    except ValueError as error:
        return Refusal(400, f"{HEADER}: {error}.", quote=str(error))


def timeout(call: Call) -> float | Refusal | None:
    """The seconds that a call itself gives each attempt until a reply begins, None where it does
    not say. They count before a config's."""
    said = call.headers.get(TIMEOUT_HEADER, "").strip()
    if not said:
        return None
    if not re.fullmatch("[0-9]{1,9}", said) or not 0 < int(said) <= 1000 * LONGEST_TIMEOUT:
        return Refusal(
            400, f"{TIMEOUT_HEADER} must be milliseconds, at most {LONGEST_TIMEOUT:g} s."
        )
    return int(said) / 1000


def _count(value: Any) -> None:
    """Raises ValueError for more than there is time and memory to read.

    Each target has a copy of the parameters that all override, and each expression is compiled.
    """
    targets = expressions = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += [member for name, member in item.items() if name != "override_params"]
            expressions += "$regex" in item
            listed = item.get("targets")
            listed = listed if isinstance(listed, list) else []
            targets += sum(not (isinstance(t, dict) and t.get("targets")) for t in listed)
        elif isinstance(item, list):
            waiting += item
    if targets > MOST_TARGETS:
        raise ValueError(f"config.targets must be at most {MOST_TARGETS} in all")
    if expressions > MOST_EXPRESSIONS:
        raise ValueError(f"config may have at most {MOST_EXPRESSIONS} times $regex")


def _read(value: Any, given: Target, levels: int) -> Target:
    """A target, of which `given` are the place and what the config around it says for all."""
    if not isinstance(value, dict):
        raise ValueError(f"{given.path} must be a JSON object")
    root = given.path == Target.path
    changes: dict[str, Any] = {}
    headers: dict[str, str] = {}
    for name, member in value.items():
        # A null is what some clients write for what they do not set.
        if member is None or name in _GRANTED:
            continue
        path = f"{given.path}.{name}"
        if (name not in _READERS and name not in _HEADERS) or (name == "cache" and not root):
            raise ValueError(f"{path[:100]} is not known here")
        try:
            if name in _HEADERS:
                headers[_HEADERS[name]] = checks.text(member)
            else:
                changes.update(_READERS[name](member))
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None
    changes["headers"] = headers
    targets = changes.pop("targets", ())
    changes["override_params"] = {**given.override_params, **changes.get("override_params", {})}
    made = replace(given, **changes)
    if made.secret and not made.trusted:
        raise ValueError(f"{given.path}.api_key must be a key of yours: no caller names a secret")
    if made.api_key and made.trusted:
        # Whoever calls would spend it, and a variable's text is there to be read.
        raise ValueError(f'{given.path}.api_key must be {{"secret": NAME}}')
    if made.secret and CUSTOM_HOST in made.headers:
        raise ValueError(f"{given.path}.custom_host: a secret goes where PROVIDERS says")
    if made.secret and not (made.secret + "_").startswith(f"{secret_name(made.provider)}_"):
        named = f"{secret_name(made.provider)}, with or without an ending such as _EU"
        raise ValueError(f"{given.path}.api_key must name {named}")
    if not targets:
        if made.mode != "single" or "targets" in value:
            raise ValueError(f"{given.path}.targets must be a list with at least one target")
        return made
    if levels == 0:
        raise ValueError(f"{given.path}.targets are nested deeper than {LEVELS} levels")
    if made.provider or made.api_key or made.secret or made.headers:
        raise ValueError(f"{given.path} has targets, which name their providers themselves")
    if made.mode == "single" and len(targets) > 1:
        raise ValueError(f"{given.path}.strategy must say how to choose among the targets")
    inner = Target(
        trusted=made.trusted,
        override_params=made.override_params,
        retry=made.retry,
        timeout=made.timeout,
    )
    read = tuple(
        _read(target, replace(inner, path=f"{made.path}.targets[{index}]"), levels - 1)
        for index, target in enumerate(targets)
    )
    if made.mode == "loadbalance" and not any(target.weight for target in read):
        raise ValueError(f"{given.path}.targets must not all have the weight 0")
    names = {target.name for target in read if target.name}
    for name in (*(then for _, then in made.conditions), made.default):
        if name is not None and name not in names:
            raise ValueError(f"{given.path}.strategy names no target of this config")
    return replace(made, targets=read)


# Readers of one member each: its JSON to fields of a Target. They raise ValueError, whose message
# follows the member's path.


def _strategy(value: Any) -> dict[str, Any]:
    members = _object(value, ("mode", "on_status_codes", "conditions", "default"))
    mode = members.get("mode")
    if mode not in MODES:
        raise ValueError(f"must have a mode: {', '.join(MODES)}")
    strategy: dict[str, Any] = {"mode": mode}
    if "on_status_codes" in members:
        strategy["on_status_codes"] = _statuses(members["on_status_codes"])
    if mode == "conditional":
        strategy["conditions"] = tuple(map(_condition, _list(members.get("conditions"))))
        strategy["default"] = checks.text(members["default"]) if "default" in members else None
    return strategy


def _condition(value: Any) -> tuple[Mapping[str, Any], str]:
    members = _object(value, ("query", "then"))
    return conditions.check(members.get("query")), checks.text(members.get("then"))


def _retry(value: Any) -> dict[str, Any]:
    header = "use_retry_after_header"
    members = _object(value, ("attempts", "on_status_codes", header, f"{header}s"))
    codes = members.get("on_status_codes")
    honour = members.get(header, members.get(f"{header}s", True))
    if not isinstance(honour, bool):
        raise ValueError(f"must have true or false as {header}")
    return {
        "retry": Retry(
            int(_number(members.get("attempts", 0), 0, MOST_RETRIES)),
            Retry.on_status_codes if codes is None else _statuses(codes),
            honour,
        )
    }


def _api_key(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        key = checks.credential(value)
        if " " in key:
            raise ValueError("must be a key")
        return {"api_key": key}
    name = _object(value, ("secret",)).get("secret")
    if not isinstance(name, str) or not _SECRET.fullmatch(name):
        raise ValueError("must name a secret in capital letters")
    return {"secret": name}


def _cache(value: Any) -> dict[str, Any]:
    members = _object(value, ("mode", "max_age"))
    if members.get("mode") != "simple":
        raise ValueError("must have the mode simple")
    return {"cache_age": int(_number(members.get("max_age", LONGEST_AGE), 1, LONGEST_AGE))}


def _targets(value: Any) -> dict[str, Any]:
    return {"targets": _list(value)}


def _overrides(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:  # 1e999 is read, but cannot be sent
        raise ValueError("must hold no number that is too large for JSON") from None
    return {"override_params": value}


def _timeout(value: Any) -> dict[str, Any]:
    return {"timeout": _number(value, 1, 1000 * LONGEST_TIMEOUT) / 1000}


def _object(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or not value.keys() <= set(names):
        raise ValueError(f"must be an object with {', '.join(names)}")
    return {name: member for name, member in value.items() if member is not None}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list that is not empty")
    return value


def _number(value: Any, least: float, most: float) -> float:
    # A whole number may be too large to be made a float of, which `isfinite` does.
    infinite = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or infinite:
        raise ValueError("must be a number")
    if not least <= value <= most:
        raise ValueError(f"must be from {least:g} to {most:g}")
    return value


def _statuses(value: Any) -> frozenset[int]:
    if not isinstance(value, list) or not all(type(code) is int for code in value):
        raise ValueError("must have a list of statuses as on_status_codes")
    return frozenset(value)


_READERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "strategy": _strategy,
    "targets": _targets,
    "name": lambda value: {"name": checks.text(value)},
    "weight": lambda value: {"weight": _number(value, 0, 1e9)},
    "provider": lambda value: {"provider": checks.text(value).lower().removeprefix("@")},
    "api_key": _api_key,
    "override_params": _overrides,
    "retry": _retry,
    "request_timeout": _timeout,
    "cache": _cache,
}
