"""What is known about one request of a client, from its admission on."""

from dataclasses import dataclass

from core.json_body import JsonBody
from core.memory_budget import Reservation
from core.platform import RequestPlatform
from core.trace_context import TraceContext
from core.types import Call, Destination
from settings.gateway_keys import GatewayKey
from settings.load import Settings
from settings.routing_configs import Target


@dataclass(frozen=True)
class RequestScope:
    """A client's call that passed admission and may be sent to a provider, with what admission read
    of it, and with what it is served by.

    `caller` is the gateway key that the call has, None where it has none. `config` is the routing
    config that the call selects, None where it selects none. `body` is None where the runtime
    streams the client's body to the provider unread. `timeout_seconds` is the limit that the call
    sets for the start of each reply, None where it sets none.

    `trace_context` and `destination` are None where the call is not traced. `reservation` is the
    request's share of the memory budget for captures, None where replies are not captured.
    """

    call: Call
    settings: Settings
    platform: RequestPlatform
    caller: GatewayKey | None = None
    config: Target | None = None
    body: JsonBody | None = None
    timeout_seconds: float | None = None
    trace_context: TraceContext | None = None
    destination: Destination | None = None
    reservation: Reservation | None = None
