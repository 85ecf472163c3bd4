"""The Worker: Cloudflare's request in, the gateway's response out."""

from typing import Any

from workers import WorkerEntrypoint

import config
import delivery
import errors
import gateway
import logs
from bindings import messages, trace_queue
from edge import Edge, Isolate, to_response
from vocabulary import Answer, Refusal

# The environment is the same for an isolate's whole life, so it is checked once.
_settings: config.Settings | None = None


class Default(WorkerEntrypoint):
    """The Worker's handlers."""

    async def fetch(self, request: Any) -> Any:
        """Answer one request. The platform's request in, a JavaScript Response out."""
        edge = Edge(request.js_object, self.ctx, self.env)
        try:
            answer = await gateway.handle(edge.call, settings(self.env), edge)
        except Exception as error:  # the client's last resort: a clear error, in its dialect
            logs.log("request_failed", request_id=edge.call.request_id, error=logs.describe(error))
            answer = errors.answer(
                Refusal(500, "The gateway failed. Its log says where."), edge.call
            )
        return to_response(answer) if isinstance(answer, Answer) else answer

    async def queue(self, batch: Any, *_: Any) -> None:
        """Deliver a batch of the queue's: the traces that did not go to Langfuse directly.

        https://developers.cloudflare.com/queues/configuration/javascript-apis/#consumer
        """
        platform = Isolate(trace_queue(self.env))
        await delivery.deliver_messages(messages(batch), settings(self.env), platform)


def settings(env: Any) -> config.Settings:
    """The checked settings of this isolate; reports what is wrong with them once."""
    global _settings
    if _settings is None:
        _settings = config.load(_Environment(env), has_queue=trace_queue(env) is not None)
        logs.conceal(_settings.secrets)
        if _settings.problem:
            logs.log("misconfigured", problem=_settings.problem)
        for warning in _settings.warnings:
            logs.log("setting_ignored", warning=warning)
        if not _settings.destinations:
            logs.log("tracing_off", reason="no Langfuse destination is configured")
    return _settings


class _Environment:
    """The platform's environment by name."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def get(self, name: str, /) -> Any:
        value = getattr(self._env, name, None)
        # One that wrangler gives as JSON arrives as a JavaScript object.
        to_py = getattr(value, "to_py", None)
        return to_py() if to_py else value
