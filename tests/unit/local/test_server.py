"""The thread that runs an aiohttp application for the demo and the tests."""

import asyncio
import http.client
import threading

import pytest
from aiohttp import web

from local.server import Server


def hanging() -> tuple[web.Application, threading.Event, threading.Event]:
    """An application whose one handler never answers; told when it began and when it ended."""
    began, ended = threading.Event(), threading.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        began.set()
        try:
            return await asyncio.Future()
        finally:
            ended.set()

    application = web.Application()
    application.router.add_get("/", hang)
    return application, began, ended


def test_a_client_that_leaves_cancels_its_handler():
    application, began, ended = hanging()
    with Server(application) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", "/")
        assert began.wait(5)
        connection.close()
        assert ended.wait(5)


def test_closing_does_not_wait_for_handlers():
    application, began, ended = hanging()
    server = Server(application)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/")
    assert began.wait(5)
    closing = threading.Thread(target=server.close)
    closing.start()
    closing.join(2)
    assert not closing.is_alive()
    assert ended.is_set()
    server.close()
    connection.close()


def test_a_taken_port_is_an_error():
    with (
        Server(web.Application()) as server,
        pytest.raises(OSError, match="in use"),
    ):
        Server(web.Application(), port=server.port)
