"""Whether a gateway key may be used for a call."""

import re

from core.platform import RequestBody
from core.types import Call, Refusal, UpstreamCall
from settings.gateway_keys import GatewayKey
from settings.load import Settings
from upstream.request_body import all_models

_JSON_CONTENT_TYPE = re.compile(r'application/json\s*(;\s*charset="?utf-8"?)?', re.IGNORECASE)


def refuse_beyond_rights(
    caller: GatewayKey,
    call: Call,
    upstream: UpstreamCall,
    body: RequestBody | None,
    settings: Settings,
) -> Refusal | None:
    """A refusal where a gateway key does not open what a call asks for."""
    if caller.models is None:
        return caller.refusal_for(upstream.provider)
    models: list[str] = []
    # What goes to the provider must be what is read here, whichever parser that one has: none that
    # an encoding or a second type could make something else of.
    is_json = _JSON_CONTENT_TYPE.fullmatch(call.headers.get("content-type", "").strip())
    is_plain = call.headers.get("content-encoding", "identity").strip().lower() == "identity"
    if body and is_json and is_plain and body.size_bytes <= settings.max_capture_bytes:
        try:
            models = all_models(body.read(body.size_bytes))
        except ValueError:
            models = []
    if not models or call.path not in settings.traced_endpoints:
        return Refusal(
            403,
            "This gateway key opens only some models, and so only what this gateway traces, in "
            f"JSON of at most {settings.max_capture_bytes} bytes that names a model.",
        )
    return caller.refusal_for(upstream.provider, [*models, *filter(None, [upstream.deployment])])
