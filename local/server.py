"""Runs an aiohttp application on loopback in a thread of its own.

The demo, the scripted providers of the tests and the inbox all stand on this, so that a test
or a script that knows nothing of asyncio can start a server, talk to it and stop it.
"""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

# A handler that is still running when the server closes (an open stream, a played outage) gets
# this long before it is cancelled.
SHUTDOWN_SECONDS = 0.05

T = TypeVar("T")


class Server:
    """An aiohttp application that listens until `close()`.

    In: the application; a port (0 picks a free one) and a host. Out: `url`, without a slash at
    its end, and `loop`, for `server.loop.call_soon_threadsafe(event.set)` from another thread.
    It listens when the constructor returns; what goes wrong on the way there (a taken port, a
    failing `on_startup`) is raised from it.

    A handler is cancelled when its client disconnects, so that a provider played by a test
    notices a gateway that aborts (aiohttp leaves that off by default:
    https://docs.aiohttp.org/en/stable/web_advanced.html#web-handler-cancellation).
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
        """Stops listening, cancels what is still running, ends the thread. May be called twice."""
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

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def _start(self, host: str, port: int) -> int:
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, reuse_address=True).start()
        return self._runner.addresses[0][1]
