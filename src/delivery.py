"""Observations on their way to Langfuse."""

from collections.abc import Mapping
from typing import Protocol

import ingestion
from config import VERSION, Destination, Settings
from logs import log
from tracing import Observation
from vocabulary import NetworkError, Received


class Post(Protocol):
    """The platform's HTTP POST: the whole answer within `timeout` seconds, or `NetworkError`."""

    async def __call__(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> Received: ...


async def deliver(observation: Observation, settings: Settings, post: Post) -> None:
    """Send an observation to the deployment's Langfuse; one log line where that fails."""
    destination = observation.destination
    best, *others = ingestion.kinds(observation)
    delivery = await _send(observation, best, destination, settings, post)
    for kind in others:
        if delivery.refused:
            delivery = await _send(observation, kind, destination, settings, post)
    if not delivery.delivered:
        log("trace_not_delivered", reason=delivery.reason, trace_id=observation.trace.id)


async def _send(
    observation: Observation, kind: str, destination: Destination, settings: Settings, post: Post
) -> ingestion.Delivery:
    url = destination.base_url + ingestion.PATH
    batch = ingestion.batch(observation, kind)
    try:
        answer = await post(url, _headers(destination), batch, settings.timeout)
    except NetworkError as error:
        return ingestion.Delivery(False, f"Langfuse could not be reached: {error}")
    return ingestion.read_answer(answer)


def _headers(destination: Destination) -> dict[str, str]:
    return {
        "authorization": f"Basic {destination.credential}",
        "content-type": "application/json",
        "x-langfuse-public-key": destination.public_key,
        # Never a Langfuse SDK's name: the server behaves by it.
        "x-langfuse-sdk-name": "langfuse-ai-gateway",
        "x-langfuse-sdk-version": VERSION,
    }
