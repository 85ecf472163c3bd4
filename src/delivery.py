"""Observations on their way to Langfuse."""

from collections.abc import Mapping
from typing import Protocol

import ingestion
from config import VERSION, Destination, Settings
from logs import log
from tracing import Observation
from vocabulary import Fate, NetworkError, Part, Received, Verdict


class Post(Protocol):
    """The platform's HTTP POST: the whole answer within `timeout` seconds, or `NetworkError`."""

    async def __call__(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> Received: ...


async def deliver(observation: Observation, settings: Settings, post: Post) -> None:
    """Send an observation to the deployment's Langfuse; one log line where that fails."""
    parts = ingestion.parts(observation)
    verdict = await _send(observation, parts, settings, post)
    if others := [part.alternative for part in parts if part.id in verdict.parts]:
        parts = tuple(part for part in others if part)
        verdict = await _send(observation, parts, settings, post) if parts else verdict
    reason = verdict.reason or "; ".join(refused.reason for refused in verdict.parts.values())
    if verdict.fate is not Fate.STORED or verdict.parts:
        log("trace_not_delivered", reason=reason, trace_id=observation.trace.id)


async def _send(
    observation: Observation, parts: tuple[Part, ...], settings: Settings, post: Post
) -> Verdict:
    destination = observation.destination
    url = destination.base_url + ingestion.PATH
    try:
        batch = ingestion.body(parts)
        answer = await post(url, _headers(destination), batch, settings.timeout)
    except NetworkError as error:
        return Verdict(Fate.LATER, f"Langfuse could not be reached: {error}")
    return ingestion.read_answer(answer, parts, observation.ended)


def _headers(destination: Destination) -> dict[str, str]:
    return {
        "authorization": f"Basic {destination.credential}",
        **ingestion.HEADERS,
        "x-langfuse-public-key": destination.public_key,
        # Never a Langfuse SDK's name: the server behaves by it.
        "x-langfuse-sdk-name": "langfuse-ai-gateway",
        "x-langfuse-sdk-version": VERSION,
    }
