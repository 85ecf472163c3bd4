"""Whether the rights of a gateway key cover a call."""

import re

from core.json_body import JsonBody
from core.types import Call, Refusal, UpstreamCall
from settings.gateway_keys import GatewayKey
from settings.load import Settings
from upstream.request_body import all_models

_JSON_CONTENT_TYPE = re.compile(r'application/json\s*(;\s*charset="?utf-8"?)?', re.IGNORECASE)


def refuse_beyond_rights(
    caller: GatewayKey,
    call: Call,
    upstream: UpstreamCall,
    body: JsonBody | None,
    settings: Settings,
) -> Refusal | None:
    """Return the `Refusal` of a call whose provider or model the caller's gateway key does not
    cover; None where it covers them.

    `upstream` and `body` are what would be sent. For a key that is limited to some models, all
    models that the body names are checked, and so is the deployment in an Azure URL. Where no model
    can be read, the call is refused. Models are read only on a traced endpoint, from a JSON body of
    at most `max_capture_bytes` without a content encoding.
    """
    if caller.models is None:
        return caller.refusal_for(upstream.provider)
    models: list[str] = []
    # The provider must read the same models as are read here, whichever parser it has. An encoding
    # or a second content type could make it read something else.
    is_json = _JSON_CONTENT_TYPE.fullmatch(call.headers.get("content-type", "").strip())
    is_plain = call.headers.get("content-encoding", "identity").strip().lower() == "identity"
    if body and is_json and is_plain and body.size_bytes <= settings.max_capture_bytes:
        try:
            models = all_models(body)
        except ValueError:
            models = []
    if not models or call.path not in settings.traced_endpoints:
        return Refusal(
            403,
            "This gateway key opens only some models, and so only what this gateway traces, in "
            f"JSON of at most {settings.max_capture_bytes} bytes that names a model.",
        )
    return caller.refusal_for(upstream.provider, [*models, *filter(None, [upstream.deployment])])
