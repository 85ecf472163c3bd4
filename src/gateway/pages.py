"""The responses to `/` and `/health`: a page about the gateway, and its state for monitoring."""

import json

from core.strict_json import JsonObject
from core.types import Call, GatewayResponse, Refusal
from core.version import VERSION
from export.outbox import get_outbox
from settings.gateway_keys import GatewayKey, authenticate
from settings.load import Settings

PAGE_PATHS = ("/", "/health")

TEXT = """\
This is an AI gateway. Apps use it in place of their AI provider's address:
an OpenAI SDK with this address and /v1 as its base URL, an Anthropic SDK with this address.
"""

# The page has no script and loads nothing; its content security policy enforces that.
PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>AI gateway</title>
<style>
:root { color-scheme: light dark }
body { font: 17px/1.6 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto; padding: 0 24px }
h1 { font-size: 1.5rem }
code { font-family: ui-monospace, monospace; font-size: .95em }
</style>
<h1>This is an AI gateway</h1>
<p>It is made for programs: apps use it in place of their AI provider\u2019s address.</p>
<p>Give an OpenAI SDK this address and <code>/v1</code> as its base URL, an Anthropic SDK this
address as it is.</p>
"""

VARY_ACCEPT = ("vary", "accept")

PAGE_HEADERS = (
    VARY_ACCEPT,
    (
        "content-security-policy",
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
)


def page_response(call: Call, settings: Settings) -> GatewayResponse | Refusal:
    """Return the response to a call of "/" or "/health"; a `Refusal` (405) for another method than
    GET and HEAD.

    `/` is an HTML page for a browser and plain text for other clients, without any information
    about this deployment. `/health` is JSON with `status` (`ok`, or `misconfigured` with HTTP
    status 503), `version` and `tracing` (whether it is on). A call with a valid gateway key also
    gets `delivery`: the state of the outbox for the traces of that key.
    """
    if call.method not in ("GET", "HEAD"):
        return Refusal(405, f"{call.path} answers GET.", (("allow", "GET, HEAD"),))
    if call.path == "/health":
        # Uptime checks look at the status alone.
        return GatewayResponse(
            503 if settings.problem else 200, json.dumps(_health(call, settings))
        )
    if "text/html" in call.headers.get("accept", "").lower():
        return GatewayResponse(200, PAGE, "text/html; charset=utf-8", PAGE_HEADERS)
    return GatewayResponse(200, TEXT, "text/plain; charset=utf-8", (VARY_ACCEPT,))


def _health(call: Call, settings: Settings) -> JsonObject:
    status: JsonObject = {
        "status": "misconfigured" if settings.problem else "ok",
        "version": VERSION,
        "tracing": bool(settings.destinations),
    }
    # Without configured gateway keys no caller can be authenticated, and none gets `delivery`.
    caller = authenticate(call, settings.gateway_keys)
    if isinstance(caller, GatewayKey):
        destination = settings.destination_for(caller)
        if destination:
            status["delivery"] = get_outbox(destination, settings).status()
    return status
