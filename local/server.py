"""An aiohttp application that runs on loopback in its own thread.

The demo, the inbox and the tests' providers use it: synchronous code can start a server, send it
requests and stop it.
"""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

# How long a handler that is still running when the server closes, such as an open stream or a
# simulated outage, may continue before it is cancelled.
SHUTDOWN_SECONDS = 0.05

T = TypeVar("T")


class Server:
    """A server that listens from its construction until `close()`.

    Port 0 is any free port. `url` has no slash at its end; `loop` is the server's event loop, for
    calls from another thread such as `server.loop.call_soon_threadsafe(event.set)`. The constructor
    raises what prevents the server from listening: a port in use, a failing `on_startup`.

    A handler is cancelled when its client disconnects, so that a test's provider can observe a
    gateway that aborts. aiohttp does not do this by default:
    https://docs.aiohttp.org/en/stable/web_advanced.html#web-handler-cancellation
    """

    def __init__(self, app: web.Application, port: int = 0, host: str = "127.0.0.1") -> None:
        self.loop = asyncio.new_event_loop()
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_SECONDS,
            handle_signals=False,
            access_log=None,
        )
        self._thread = threading.Thread(target=self._run, name="local-server", daemon=True)
        self._thread.start()
        try:
            self.port = self._call(self._start(host, port))
        except BaseException:
            self.close()
            raise
        self.url = f"http://{host}:{self.port}"

    def close(self) -> None:
        """Stop listening, cancel the running handlers and end the thread. May be called twice."""
        if self.loop.is_closed():
            return
        try:
            self._call(self._runner.cleanup())
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def _start(self, host: str, port: int) -> int:
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, reuse_address=True).start()
        return self._runner.addresses[0][1]
