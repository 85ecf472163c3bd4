"""Builds a folder that serves the gateway on a machine of your own: `make self-host`.

In it are workerd, the Worker and its config; it needs neither Python nor Node. Variables and
secrets are those of the environment in which workerd starts. docs/self-hosting.md says how to run
it.
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
from settings.load import CONTINUATION_NAMES, SECRET_NAMES, VARIABLE_NAMES
from settings.provider_table import PROVIDERS, provider_secret_name

PORT = 8787
# What workerd holds back where only public addresses are allowed, and a deployer may name.
PRIVATE = [
    *map(ip_network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    *map(ip_network, ("100.64.0.0/10", "169.254.0.0/16", "::1", "fc00::/7", "fe80::/10")),
]
# What every build has written, so that nobody else's folder is taken for one.
BUILT = ("config.capnp", "bundle.json", "host.mjs", "workerd")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DONE = """\
Built {out}. To run it on http://127.0.0.1:{port}:

  {out}/workerd serve --experimental {out}/config.capnp
"""


def private_range(text: str) -> str:
    """A range of private addresses, or one address, in CIDR notation. Raises ValueError."""
    network = ip_network(text)
    if not any(_is_within(network, private) for private in PRIVATE):
        raise ValueError(f"{text} is no range of private addresses; public ones are reached anyway")
    return str(network)


def variable_name(text: str) -> str:
    """The name of a variable of the environment. Raises ValueError."""
    if not _NAME.fullmatch(text) or text in workerd.LOADERS:
        raise ValueError(f"{text} is no name of a variable")
    return text


def known_variables() -> list[str]:
    """Every variable and secret that the Worker may read: those of every deployment, a key for each
    provider of the table, and what wrangler.toml sets."""
    provider_keys = (provider_secret_name(slug) for slug in PROVIDERS)
    known = (
        *SECRET_NAMES,
        *VARIABLE_NAMES,
        *CONTINUATION_NAMES,
        *provider_keys,
    )
    return list(dict.fromkeys((*known, *defaults())))


def defaults() -> dict[str, object]:
    """What wrangler.toml sets, for where the environment does not."""
    return workerd.wrangler_config().get("vars", {})


def build(out: Path, *, allow: Iterable[str] = (), variables: Iterable[str] = ()) -> None:
    """Write the folder, in place of one that an earlier build has left.

    `allow` are ranges of private addresses that the gateway may call beside the public ones, and
    `variables` the names of variables that it reads beside those that are known. A gateway that
    runs from the earlier folder is not disturbed. Raises `NotInstalled`, and ValueError for what is
    no such range or name, and where something else is in the folder's place.
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
        workerd.write_modules(folder, workerd.bundle(), links=False)
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
    except (workerd.NotInstalled, ValueError) as error:
        sys.exit(str(error))
    print(DONE.format(out=options.out, port=PORT))


if __name__ == "__main__":
    main()
