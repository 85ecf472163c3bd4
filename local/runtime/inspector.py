"""How much memory a running workerd's isolate has, by the Chrome DevTools Protocol.

https://chromedevtools.github.io/devtools-protocol/v8/Runtime/#method-getHeapUsage
"""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import aiohttp

TIMEOUT = 30.0


@dataclass(frozen=True)
class Memory:
    """An isolate's memory in bytes, as the platform counts it: 128 MB of it is all there is.

    `heap` is JavaScript's own, `buffers` what its array buffers hold outside of that heap, `wasm`
    the memory of WebAssembly, which only ever grows.
    """

    heap: int
    buffers: int
    wasm: int

    @property
    def total(self) -> int:
        return self.heap + self.buffers + self.wasm


class Inspector:
    """A connection to the inspector on `port`; may be asked from any thread."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="inspector", daemon=True
        )
        self._thread.start()
        self._id = 0
        self._session: aiohttp.ClientSession | None = None
        self._socket: Any = None
        self._context = 0

    def memory(self) -> Memory:
        """What the isolate has now, after its garbage is collected."""
        return self._run(self._memory())

    def close(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        bounded = asyncio.wait_for(work, TIMEOUT)
        return asyncio.run_coroutine_threadsafe(bounded, self._loop).result()

    async def _close(self) -> None:
        if self._session:
            await self._session.close()

    async def _memory(self) -> Memory:
        if self._socket is None:
            await self._connect()
        memories = await self._find_memories()
        sizes, usage = (
            await self._ask(
                "Runtime.callFunctionOn",
                objectId=memories,
                functionDeclaration="function () { return this.map((m) => m.buffer.byteLength); }",
                returnByValue=True,
            ),
            await self._ask("Runtime.getHeapUsage"),
        )
        heap = usage["usedSize"] + usage["embedderHeapUsedSize"]
        return Memory(heap, usage["backingStorageSize"], sum(sizes["result"]["value"]))

    async def _connect(self) -> None:
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"{self._base}/json") as response:
            targets = await response.json(content_type=None)
        (target,) = (t for t in targets if t["id"] == "worker")  # and not the cache
        url = target["webSocketDebuggerUrl"]
        self._socket = await self._session.ws_connect(url, max_msg_size=0)
        await self._ask("Runtime.enable")
        # What a session that is enabled is told of each line of the log, nobody here would read.
        await self._ask("Runtime.disable")

    async def _find_memories(self) -> str:
        """The memories of WebAssembly, which the heap's usage leaves out. To find them is to
        collect the garbage."""
        kind = await self._ask(
            "Runtime.evaluate", expression="WebAssembly.Memory.prototype", contextId=self._context
        )
        found = await self._ask(
            "Runtime.queryObjects", prototypeObjectId=kind["result"]["objectId"]
        )
        return found["objects"]["objectId"]

    async def _ask(self, method: str, **params: Any) -> Any:
        self._id += 1
        await self._socket.send_json({"id": self._id, "method": method, "params": params})
        while (answer := await self._socket.receive_json()).get("id") != self._id:
            if answer.get("method") == "Runtime.executionContextCreated":
                self._context = answer["params"]["context"]["id"]
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]
