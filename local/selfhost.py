"""`make self-host`: build a folder that serves the gateway on any machine.

The folder contains workerd, the Worker and a config. It requires neither Python nor Node. Variables
and secrets come from the environment in which workerd is started, see docs/self-hosting.md.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from local.runtime import workerd
from local.runtime.snapshots import snapshot_of
from settings.provider_table import PROVIDERS, provider_secret_name
from settings.table import CONTINUATION_NAMES, SECRET_NAMES, VARIABLE_NAMES

PORT = 8787
# The addresses that workerd does not count as public, of which the deployer may allow some.
PRIVATE = [
    *map(ip_network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    *map(ip_network, ("100.64.0.0/10", "169.254.0.0/16", "::1", "fc00::/7", "fe80::/10")),
]
# Files that every build contains. A folder without them is not replaced.
BUILT = ("config.capnp", "bundle.json", "host.mjs", "workerd")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DONE = """\
Built {out}. To run it on http://127.0.0.1:{port}:

  {out}/workerd serve --experimental {out}/config.capnp
"""


def private_range(text: str) -> str:
    """A range of private addresses, or one address, in normalized CIDR notation.

    Raises ValueError for any other text, and for public addresses.
    """
    network = ip_network(text)
    if not any(_is_within(network, private) for private in PRIVATE):
        raise ValueError(f"{text} is no range of private addresses; public ones are reached anyway")
    return str(network)


def variable_name(text: str) -> str:
    """`text`, where it is a valid name of an environment variable. Raises ValueError otherwise."""
    if not _NAME.fullmatch(text) or text in workerd.LOADERS:
        raise ValueError(f"{text} is no name of a variable")
    return text


def known_variables() -> list[str]:
    """The names of all variables and secrets that the Worker may read: the gateway's own, one key
    for each known provider, and those in wrangler.toml."""
    provider_keys = (provider_secret_name(slug) for slug in PROVIDERS)
    known = (
        *SECRET_NAMES,
        *VARIABLE_NAMES,
        *CONTINUATION_NAMES,
        *provider_keys,
    )
    return list(dict.fromkeys((*known, *defaults())))


def defaults() -> dict[str, object]:
    """The variables in wrangler.toml, which apply where the environment has none of that name."""
    return workerd.wrangler_config().get("vars", {})


def build(out: Path, *, allow: Iterable[str] = (), variables: Iterable[str] = ()) -> None:
    """Write the folder `out`; an earlier build there is replaced.

    `allow` has ranges of private addresses that the gateway may call in addition to public ones.
    `variables` has names of variables that it reads in addition to the known ones. A gateway that
    runs from the earlier build is not disturbed.

    Raises `NotInstalled`, ValueError for an invalid range or name, or where `out` exists and is not
    a build, and RuntimeError where the Worker cannot be imported.
    """
    workerd.require_installed()
    networks = ["public", *map(private_range, allow)]
    names = [*known_variables(), *map(variable_name, variables)]
    if out.is_symlink() or (out.exists() and not all((out / name).exists() for name in BUILT)):
        raise ValueError(f"{out} is there already, and no earlier build")
    out.parent.mkdir(parents=True, exist_ok=True)
    date, flags = workerd.compatibility()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f"{out.name}-") as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        modules = workerd.bundle()
        workerd.write_modules(folder, modules, snapshot_of(modules), links=False)
        shutil.copy2(workerd.WORKERD, folder / "workerd")
        text = workerd.config(
            date=date,
            flags=flags,
            variables={name: name for name in names},
            values={workerd.DEFAULTS: defaults()},
            allow=networks,
            port=PORT,
        )
        (folder / "config.capnp").write_text(text)
        (folder / ".gitignore").write_text("*\n")
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)


def _is_within(network: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and network.subnet_of(other)
    return isinstance(other, IPv6Network) and network.subnet_of(other)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.selfhost")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="the folder (dist)")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="RANGE",
        help="private addresses that the gateway may call, such as 10.1.2.0/24; may be repeated",
    )
    parser.add_argument(
        "--variable",
        action="append",
        default=[],
        metavar="NAME",
        help="a variable to read beside the known ones: OUR_CLAUDE_API_KEY; may be repeated",
    )
    options = parser.parse_args()
    try:
        build(options.out, allow=options.allow, variables=options.variable)
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error))
    print(DONE.format(out=options.out, port=PORT))


if __name__ == "__main__":
    main()
