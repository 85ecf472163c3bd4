"""The benchmark's requests, and the recorded replies of its provider."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp

from local import echo
from local.server import Server

KB, MB = 1000, 1_000_000
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


@dataclass(frozen=True)
class Scenario:
    """One kind of call. `request` is the size of the request's body and `reply` that of the reply,
    in bytes. A reply with `chunks` is a stream of that many, with a pause of `pause` milliseconds
    before each. `connections` make calls concurrently; `calls` is the number of calls in a round.
    """

    name: str
    calls: int
    connections: int = 1
    request: int = 500
    reply: int = 500
    chunks: int = 0
    pause: int = 0
    path: str = CHAT

    @property
    def label(self) -> str:
        """Its name in tables, in the JSON and in the budget."""
        return f"{self.name}, {self.connections} at once"

    def described(self) -> dict[str, Any]:
        """Its entry in the JSON."""
        return asdict(self)

    @property
    def recording(self) -> str:
        """The name of the recorded reply, which is sent as the model of the request."""
        kind = "embedding" if self.path == EMBEDDINGS else "chat"
        return f"{kind}-{self.reply}-{self.chunks}-{self.pause}"

    @property
    def body(self) -> str:
        """The request's body."""
        members: dict[str, Any] = {"model": self.recording}
        if self.path == EMBEDDINGS:
            return json.dumps({**members, "input": "What is the answer?"})
        if self.chunks:
            members |= {"stream": True, "stream_options": {"include_usage": True}}
        # As a coding agent's request: a conversation with the files that it has read.
        line = "    return {name: value for name, value in members.items() if value}\n"
        length = self.request - 150
        messages = [{"role": "system", "content": "You are a helpful assistant."}]
        while length > 0:
            text = (line * (min(length, 20 * KB) // len(line) + 1))[: min(length, 20 * KB)]
            messages.append({"role": "user", "content": text})
            length -= 20 * KB
        return json.dumps({**members, "messages": messages})


SCENARIOS = (
    Scenario("whole 0.5 KB", 100),
    Scenario("whole 0.5 KB", 320, 16),
    Scenario("whole 0.5 KB", 384, 64),
    Scenario("whole 2 KB", 320, 16, request=2 * KB, reply=2 * KB),
    Scenario("whole 20 KB", 160, 16, reply=20 * KB),
    Scenario("whole 1 MB", 32, 16, reply=MB),
    Scenario("request of 100 KB", 160, 16, request=100 * KB),
    Scenario("request of 500 KB", 48, 16, request=500 * KB),
    Scenario("request of 2 MB", 16, 16, request=2 * MB),
    # The provider pauses before each chunk, so that the gateway is mostly idle.
    Scenario("stream of 5, paced", 25, 1, chunks=5, pause=10),
    Scenario("stream of 50, paced", 3, 1, chunks=50, pause=10),
    Scenario("stream of 50, paced", 16, 16, chunks=50, pause=10),
    Scenario("stream of 50, paced", 64, 64, chunks=50, pause=10),
    Scenario("stream of 200", 100, 1, chunks=200),
    Scenario("stream of 200", 160, 16, chunks=200),
    Scenario("stream of 200", 128, 64, chunks=200),
    Scenario("stream of 1,000", 32, 16, chunks=1000),
    Scenario("stream of 2,000", 16, 16, chunks=2000),
    Scenario("embeddings", 160, 16, path=EMBEDDINGS),
)
# For the warm-up: Python in WebAssembly gets faster over some 500 calls.
WARM_UP = (
    Scenario("whole 0.5 KB", 350, 16),
    Scenario("stream of 200", 150, 16, chunks=200),
)
# Its reply has 1 MB.
LARGE_STREAM = Scenario("stream of 5,000", 64, 64, chunks=5000)
# Calls that must not increase the memory of an isolate, in the ratio of their `calls`.
EVERYDAY = (
    Scenario("whole 0.5 KB", 4, 16),
    Scenario("stream of 50", 1, 16, chunks=50),
)


async def recordings(scenarios: Iterable[Scenario]) -> dict[str, Any]:
    """The replies for these scenarios by the names of their recordings, from the echo provider."""
    results: dict[str, Any] = {}
    with Server(echo.app(0)) as server:
        async with aiohttp.ClientSession(server.url) as session:
            for scenario in scenarios:
                headers = {"x-echo-length": str(scenario.reply)}
                if scenario.chunks:
                    # Each chunk is a word of five letters.
                    headers = {"x-echo-chunks": str(scenario.chunks)}
                async with session.post(
                    scenario.path, data=scenario.body, headers=headers
                ) as response:
                    text = await response.text()
                    assert response.status == 200, text
                pieces = [f"{event}\n\n" for event in text.split("\n\n")[:-1]]
                results[scenario.recording] = {
                    "streamed": bool(scenario.chunks),
                    "pause": scenario.pause,
                    "pieces": pieces if scenario.chunks else [text],
                }
    return results
