"""The Worker in the real workerd on this machine, as `wrangler deploy` uploads it."""

from local.runtime.runtime import Runtime
from local.runtime.workerd import (
    NODE_MODULES,
    ROOT,
    NotInstalled,
    bundle,
    require_installed,
    wrangler_config,
)

__all__ = [
    "NODE_MODULES",
    "ROOT",
    "NotInstalled",
    "Runtime",
    "bundle",
    "require_installed",
    "wrangler_config",
]
