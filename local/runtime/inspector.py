"""The memory of an isolate in a running workerd, measured over the Chrome DevTools Protocol.

https://chromedevtools.github.io/devtools-protocol/v8/Runtime/#method-getHeapUsage
"""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import aiohttp

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Memory:
    """An isolate's memory in bytes, as the platform counts it against its limit of 128 MB.

    `heap` is JavaScript's heap, `buffers` the content of array buffers outside of it, and `wasm`
    the memory of WebAssembly, which never shrinks.
    https://developers.cloudflare.com/workers/platform/limits/#memory
    """

    heap: int
    buffers: int
    wasm: int

    @property
    def total(self) -> int:
        return self.heap + self.buffers + self.wasm


class Inspector:
    """A connection to workerd's inspector on a port of loopback. Its methods may be called from any
    thread."""

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
        """The isolate's memory after a garbage collection."""
        return self._run(self._memory())

    def close(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        bounded = asyncio.wait_for(work, TIMEOUT_SECONDS)
        return asyncio.run_coroutine_threadsafe(bounded, self._loop).result()

    async def _close(self) -> None:
        if self._session:
            await self._session.close()

    async def _memory(self) -> Memory:
        if self._socket is None:
            await self._connect()
        memories = await self._find_memories()
        sizes, usage = (
            await self._call(
                "Runtime.callFunctionOn",
                objectId=memories,
                functionDeclaration="function () { return this.map((m) => m.buffer.byteLength); }",
                returnByValue=True,
            ),
            await self._call("Runtime.getHeapUsage"),
        )
        heap = usage["usedSize"] + usage["embedderHeapUsedSize"]
        return Memory(heap, usage["backingStorageSize"], sum(sizes["result"]["value"]))

    async def _connect(self) -> None:
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"{self._base}/json") as response:
            targets = await response.json(content_type=None)
        (target,) = (t for t in targets if t["id"] == "worker")  # the other one is the cache
        url = target["webSocketDebuggerUrl"]
        self._socket = await self._session.ws_connect(url, max_msg_size=0)
        await self._call("Runtime.enable")
        # An enabled session gets a message for each line of the log, which is not read here.
        await self._call("Runtime.disable")

    async def _find_memories(self) -> str:
        """The object id of an array of all memories of WebAssembly, which the heap's usage does not
        include. The query collects garbage first."""
        prototype = await self._call(
            "Runtime.evaluate", expression="WebAssembly.Memory.prototype", contextId=self._context
        )
        found = await self._call(
            "Runtime.queryObjects", prototypeObjectId=prototype["result"]["objectId"]
        )
        return found["objects"]["objectId"]

    async def _call(self, method: str, **params: Any) -> Any:
        self._id += 1
        await self._socket.send_json({"id": self._id, "method": method, "params": params})
        while (answer := await self._socket.receive_json()).get("id") != self._id:
            if answer.get("method") == "Runtime.executionContextCreated":
                self._context = answer["params"]["context"]["id"]
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]
