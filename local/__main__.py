"""`python -m local demo | dev | key`: the programs of `make demo`, `make dev` and `make key`."""

import argparse
import hashlib
import json
import os
import secrets
import signal
import socket
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from dotenv import dotenv_values

from local import echo
from local.inbox import Inbox
from local.runtime import ROOT, NotInstalled, Runtime, wrangler_config
from local.server import Server
from settings.provider_table import PROVIDERS

GATEWAY_PORT, INBOX_PORT = 8787, 8788
KEPT_TRACES = 2_000  # and as many observations: those of coding agents are large
LANGFUSE_SECRETS = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "LANGFUSE_PROJECTS")
BANNER = """
  gateway  {gateway}      point an OpenAI or Anthropic SDK here
  inbox    {inbox}      open this page: it shows each trace as it comes in

Try it from a second terminal; the answers come from a built-in echo provider, not from a model.

{curl_lines}

Ctrl-C stops everything.
"""
HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}
OPENAI = {"model": "gpt-4o-mini", **HELLO}
ANTHROPIC = {"model": "claude-opus-4-6", "max_tokens": 99, **HELLO}
STREAMED = {"stream": True}
# Without this option, the stream of a chat contains no token counts.
WITH_USAGE = {**STREAMED, "stream_options": {"include_usage": True}}
CALLS = {
    "/v1/chat/completions": (OPENAI, {**OPENAI, **WITH_USAGE}),
    "/v1/messages": (ANTHROPIC, {**ANTHROPIC, **STREAMED}),
}
# A config that an example in docs/gateway.md refers to.
CONFIGS = {
    "reliable": {
        "strategy": {"mode": "fallback", "on_status_codes": [429, 500, 502, 503, 504]},
        "retry": {"attempts": 1},
        "request_timeout": 30000,
        "targets": [
            {"provider": "openai"},
            {"provider": "anthropic", "override_params": {"model": "claude-opus-4-6"}},
        ],
    }
}


def environment(folder: Path) -> dict[str, Any]:
    """The Worker's variables and secrets as `wrangler dev` reads them: `[vars]` of the folder's
    `wrangler.toml`, overridden by its `.dev.vars`.

    https://developers.cloudflare.com/workers/local-development/environment-variables/
    """
    secrets = {name: value for name, value in dotenv_values(folder / ".dev.vars").items() if value}
    return {**wrangler_config(folder).get("vars", {}), **secrets}


def curl_lines(gateway: str) -> list[str]:
    """curl commands that call the gateway at this URL: OpenAI and Anthropic, whole and streamed."""
    return [
        f"curl{' -N' * ('stream' in body)} {gateway}{path} \\\n"
        f"  -H 'content-type: application/json' \\\n  -d '{json.dumps(body)}'"
        for path, bodies in CALLS.items()
        for body in bodies
    ]


def demo(port: int, inbox_port: int) -> None:
    """Run the gateway, an echo provider and a Langfuse inbox on loopback until interrupted."""
    with ExitStack() as stack:
        provider = stack.enter_context(Server(echo.app()))
        inbox = Inbox(keep=KEPT_TRACES, keep_requests=0)
        page = stack.enter_context(Server(inbox.app(), port=free_port(inbox_port)))
        env = {
            **wrangler_config()["vars"],
            **inbox_variables(page.url),
            "PROVIDERS": everything_at(f"{provider.url}/v1"),
            "CONFIGS": json.dumps(CONFIGS),
        }
        gateway = stack.enter_context(Runtime(env, port=free_port(port), on_log=print))
        commands = curl_lines(gateway.url)
        inbox.example = commands[1]
        lines = "\n\n".join(commands)
        print(BANNER.format(gateway=gateway.url, inbox=page.url, curl_lines=lines), flush=True)
        gateway.wait()


def dev(port: int, inbox_port: int) -> None:
    """Run the gateway with the variables of wrangler.toml and .dev.vars until interrupted.

    Without the keys of a Langfuse project, traces go to an inbox. With provider keys but without
    gateway keys, a gateway key is created for this run, which may use the provider keys.
    """
    with ExitStack() as stack:
        env, inbox, lines = environment(ROOT), Inbox(keep=KEPT_TRACES, keep_requests=0), []
        if not any(env.get(name) for name in LANGFUSE_SECRETS):
            page = stack.enter_context(Server(inbox.app(), port=free_port(inbox_port)))
            env |= inbox_variables(page.url)
            lines.append(
                f"inbox    {page.url}      traces go here, as .dev.vars has no Langfuse keys"
            )
        app_key = "$GATEWAY_KEY" if env.get("GATEWAY_API_KEYS") else "$OPENAI_API_KEY"
        if not env.get("GATEWAY_API_KEYS") and any(name.endswith("_API_KEY") for name in env):
            app_key, digest = new_key()
            env |= {"GATEWAY_API_KEYS": json.dumps({"dev": digest}), "ALLOW_ANONYMOUS": "true"}
            lines.append(f"key      {app_key}      for your app: opens the keys in .dev.vars")
        networks = ("public", "private", "local")
        gateway = stack.enter_context(
            Runtime(env, allow=networks, port=free_port(port), on_log=print)
        )
        inbox.example = with_key(curl_lines(gateway.url)[1], app_key)
        health = health_of(gateway.url)
        tracing = "on" if health["tracing"] else "off: are the Langfuse keys in .dev.vars?"
        if health["status"] != "ok":
            lines.append(f"status   {health['status']}: the log line above says what to change")
        lines = [f"gateway  {gateway.url}", *lines, f"tracing  {tracing}"]
        print("".join(f"\n  {line}" for line in lines) + f"\n\n{inbox.example}\n", flush=True)
        gateway.wait()


def health_of(gateway: str) -> dict[str, Any]:
    """What a gateway answers to `/health`, also where it is misconfigured (503)."""
    try:
        return json.load(urllib.request.urlopen(f"{gateway}/health"))
    except HTTPError as error:
        return json.load(error)


def inbox_variables(inbox: str) -> dict[str, str]:
    """The variables that send a gateway's traces to the inbox at this URL."""
    return {
        "LANGFUSE_PUBLIC_KEY": "pk-lf-local-inbox",
        "LANGFUSE_SECRET_KEY": "sk-lf-local-inbox",
        "LANGFUSE_BASE_URL": inbox,
    }


def with_key(command: str, key: str) -> str:
    """A curl command with a credential, as a real provider requires it."""
    first, rest = command.split(" \\\n", 1)
    return f'{first} \\\n  -H "authorization: Bearer {key}" \\\n{rest}'


def key(name: str) -> None:
    """Print a new gateway key and its entry for `GATEWAY_API_KEYS`."""
    value, digest = new_key()
    print(f"The key, for {name} alone:\n\n  {value}\n")
    print(
        "Its entry for GATEWAY_API_KEYS (`wrangler secret put GATEWAY_API_KEYS`, or .dev.vars):\n"
    )
    print(f"  {json.dumps({name: digest})}")


def new_key() -> tuple[str, str]:
    """A new gateway key, and its SHA-256 in hexadecimal."""
    value = f"gw_{secrets.token_urlsafe(32)}"
    return value, hashlib.sha256(value.encode()).hexdigest()


def everything_at(base_url: str) -> str:
    """A value of `PROVIDERS` that sends the calls to all providers to one base URL."""
    return json.dumps({slug: {"base_url": base_url} for slug in PROVIDERS})


def free_port(port: int) -> int:
    """The port if it is free. Otherwise print a message; 0 then stands for any free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            print(f"Port {port} is taken, so another one is.", flush=True)
            return 0
    return port


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local")
    commands = parser.add_subparsers(dest="command", required=True)
    port: dict[str, Any] = {"type": int, "default": os.environ.get("PORT", GATEWAY_PORT)}
    for name in ("demo", "dev"):
        command = commands.add_parser(name)
        command.add_argument("--port", **port)
        command.add_argument("--inbox-port", type=int, default=INBOX_PORT)
    commands.add_parser("key").add_argument("name", nargs="?", default="me")
    arguments = vars(parser.parse_args())
    for number in (signal.SIGTERM, signal.SIGHUP):  # SIGHUP when the terminal is closed
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        {"demo": demo, "dev": dev, "key": key}[arguments.pop("command")](**arguments)
    except KeyboardInterrupt:
        print("\nStopped.")
    except (NotInstalled, RuntimeError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
