"""Tests of `Server`, which runs an aiohttp application in a thread."""

import asyncio
import http.client
import threading

import pytest
from aiohttp import web

from local.server import Server


def hanging_application() -> tuple[web.Application, threading.Event, threading.Event]:
    """An application whose handler never returns, with events for its start and its end."""
    started, ended = threading.Event(), threading.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        started.set()
        try:
            return await asyncio.Future()
        finally:
            ended.set()

    application = web.Application()
    application.router.add_get("/", hang)
    return application, started, ended


def test_a_handler_is_cancelled_when_its_client_disconnects():
    application, started, ended = hanging_application()
    with Server(application) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", "/")
        assert started.wait(5)
        connection.close()
        assert ended.wait(5)


def test_close_does_not_wait_for_handlers():
    application, started, ended = hanging_application()
    server = Server(application)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/")
    assert started.wait(5)
    close_thread = threading.Thread(target=server.close)
    close_thread.start()
    close_thread.join(2)
    assert not close_thread.is_alive()
    assert ended.is_set()
    server.close()
    connection.close()


def test_a_port_in_use_raises_an_error():
    with (
        Server(web.Application()) as server,
        pytest.raises(OSError, match="in use"),
    ):
        Server(web.Application(), port=server.port)
