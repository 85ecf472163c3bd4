"""The Worker: Cloudflare calls `fetch` for each request and `queue` for each batch of messages."""

from typing import Any

from workers import WorkerEntrypoint

from cloudflare.bindings import CloudflareEnvironment, queue_messages, trace_queue_binding
from cloudflare.platform import CloudflareIsolate, CloudflareRequest, to_js_response
from core.types import GatewayResponse, Refusal
from export.outbox import deliver_queue_messages
from gateway.errors import error_response
from gateway.handler import handle
from redaction.logs import describe_error, log, set_secrets
from settings.load import Settings, load_settings

# Variables and secrets do not change during the life of an isolate, so they are read once.
_settings: Settings | None = None


class Default(WorkerEntrypoint):
    """The handlers of the Worker."""

    # The SDK's own types of these are not defined in Python.
    ctx: Any
    env: Any

    async def fetch(self, request: Any) -> object:
        """Handle one request of a client: take the SDK's `Request` and return a JavaScript
        `Response`. An exception in the gateway is logged and becomes a response with status 500, in
        the error format of the API that was called."""
        platform = CloudflareRequest(request.js_object, self.ctx, self.env)
        try:
            response = await handle(platform.call, isolate_settings(self.env), platform)
        except Exception as error:
            platform.log("request_failed", error=describe_error(error))
            refusal = Refusal(500, "The gateway failed. Its log says where.")
            response = error_response(refusal, platform.call)
        return to_js_response(response) if isinstance(response, GatewayResponse) else response

    async def queue(self, batch: Any, *_: object) -> None:
        """Deliver to Langfuse the observations in one batch of queue messages, which were not
        delivered directly.

        `batch` is the SDK's message batch:
        https://developers.cloudflare.com/queues/configuration/javascript-apis/#consumer
        """
        platform = CloudflareIsolate(trace_queue_binding(self.env))
        await deliver_queue_messages(queue_messages(batch), isolate_settings(self.env), platform)


def isolate_settings(env: Any) -> Settings:
    """The settings of this isolate. The first call reads them from the Worker's `env`, logs what is
    wrong with them, and sets the secrets that the log removes."""
    global _settings
    if _settings is None:
        _settings = load_settings(
            CloudflareEnvironment(env), has_queue=trace_queue_binding(env) is not None
        )
        set_secrets(_settings.secrets)
        if _settings.problem:
            log("misconfigured", problem=_settings.problem)
        for warning in _settings.warnings:
            log("setting_ignored", warning=warning)
        if not _settings.destinations:
            log("tracing_off", reason="no Langfuse destination is configured")
    return _settings
