"""Whether a client's wait depends on how Langfuse fares.

    PYTHONPATH=src .venv/bin/python -m bench.delivery # after `make bench`, which installs psutil

One gateway for each Langfuse (well, slow, hanging, not there) and one that traces nothing get the
same calls in turns, so that what else the machine does meets all alike. Only ratios are to be read:
client and provider share one interpreter, and compete with the gateways for the machine.
"""

import argparse
import asyncio
import json
import time
from contextlib import ExitStack

import aiohttp
from aiohttp import web

from bench.figures import percentile
from bench.subjects import KEYS, cpu
from local.inbox import Inbox
from local.runtime import Runtime
from local.server import Server

SLOW = 2.0
ROUNDS = 10
CONCURRENCY = (1, 16)
WELL = "fast"
CHUNK = {"model": "m", "choices": [{"index": 0, "delta": {"content": "word "}}]}
STREAM = f"data: {json.dumps(CHUNK)}\n\n".encode()


async def reply(request: web.Request) -> web.StreamResponse:
    """The provider: it returns a short reply without a pause."""
    if not (await request.json())["stream"]:
        return web.json_response({"model": "m", "choices": [{"message": {"content": "word"}}]})
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(20):
        await response.write(STREAM)
    await response.write(b"data: [DONE]\n\n")
    return response


async def slow(request: web.Request) -> None:
    await asyncio.sleep(SLOW)


async def hang(request: web.Request) -> None:
    await asyncio.Event().wait()


def inbox(stack: ExitStack, fault: object) -> str:
    """Start a Langfuse with this `fault`. Returns its URL."""
    server = Inbox(*KEYS.values(), keep_requests=0)
    server.fault = fault  # type: ignore[assignment]
    return stack.enter_context(Server(server.app())).url


def gateways(stack: ExitStack) -> dict[str, Runtime]:
    """Start the gateways. The keys describe the state of their Langfuse."""
    provider = web.Application()
    provider.router.add_post("/{path:.*}", reply)
    url = stack.enter_context(Server(provider)).url
    kinds = {
        WELL: {**KEYS, "LANGFUSE_BASE_URL": inbox(stack, None)},
        f"{SLOW:.0f} s slow": {**KEYS, "LANGFUSE_BASE_URL": inbox(stack, slow)},
        "hanging": {**KEYS, "LANGFUSE_BASE_URL": inbox(stack, hang)},
        "dead": {**KEYS, "LANGFUSE_BASE_URL": "http://127.0.0.1:1"},
        "off": {},
    }
    providers = json.dumps({"bench": {"base_url": f"{url}/v1"}})
    return {
        kind: stack.enter_context(
            Runtime({"PROVIDERS": providers, "DEFAULT_PROVIDER": "bench", **env})
        )
        for kind, env in kinds.items()
    }


async def measure(url: str, calls: int, at_once: int, streamed: bool) -> list[float]:
    """Make `calls` calls, `at_once` of them concurrently. Returns the time of each until the end of
    its reply, in seconds."""
    body = {"model": "m", "stream": streamed, "messages": [{"role": "user", "content": "Hello"}]}
    times: list[float] = []
    numbers = iter(range(calls))
    async with aiohttp.ClientSession(url) as session:

        async def work() -> None:
            for _ in numbers:
                began = time.perf_counter()
                async with session.post("/v1/chat/completions", json=body) as response:
                    await response.read()
                    assert response.status == 200
                times.append(time.perf_counter() - began)

        await asyncio.gather(*(work() for _ in range(at_once)))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500, help="of each kind to each gateway")
    calls = parser.parse_args().calls
    with ExitStack() as stack:
        running = gateways(stack)
        for runtime in running.values():
            asyncio.run(measure(runtime.url, 20, 4, True))
        before = {kind: cpu(runtime.pid) for kind, runtime in running.items()}
        print(f"{calls} calls each: p50 and p99 in ms, and their ratio to {WELL}")
        for streamed in (False, True):
            for at_once in CONCURRENCY:
                times: dict[str, list[float]] = {kind: [] for kind in running}
                for _ in range(ROUNDS):
                    for kind, runtime in running.items():
                        times[kind] += asyncio.run(
                            measure(runtime.url, calls // ROUNDS, at_once, streamed)
                        )
                print(f"\n{'streamed' if streamed else 'whole'}, {at_once} at once")
                for kind, found in times.items():
                    p50, p99 = (percentile(found, share) for share in (0.5, 0.99))
                    well = [percentile(times[WELL], share) for share in (0.5, 0.99)]
                    print(
                        f"  {kind:10} {1000 * p50:7.1f} {1000 * p99:7.1f}"
                        f"   x {p50 / well[0]:.2f} x {p99 / well[1]:.2f}"
                    )
        print("\nCPU of the gateway a call, in ms, with all that it does for Langfuse until now")
        total_calls = calls * 2 * len(CONCURRENCY)
        for kind, runtime in running.items():
            print(f"  {kind:10} {1000 * (cpu(runtime.pid) - before[kind]) / total_calls:7.1f}")


if __name__ == "__main__":
    main()
