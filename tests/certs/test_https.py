"""The small HTTPS server by itself: a handler that fails, and what closing leaves behind."""

import asyncio
import ssl
from typing import Any

from plantroom.certs.https import HttpsServer, Request, Response
from plantroom.wire import tls
from plantroom.wire.identity import Identity
from tests.fakes.ports import free_port


def contexts(gateway: Identity) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = tls.server_context(gateway)
    server.verify_mode = ssl.CERT_NONE
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


async def exchange(port: int, context: ssl.SSLContext, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=""
    )
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
        await writer.wait_closed()


def test_a_handler_that_fails_hurts_nobody_else(gateway: Identity, caplog: Any) -> None:
    server_context, client_context = contexts(gateway)

    async def handle(request: Request) -> Response:
        if request.path == "/bad":
            raise ZeroDivisionError
        return Response(status=200, body=b"{}")

    async def scenario() -> None:
        async with HttpsServer(handle, context=lambda: server_context) as server:
            port = await server.start("127.0.0.1", 0)
            get = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
            assert await exchange(port, client_context, get % b"/bad") == b""
            good = await exchange(port, client_context, get % b"/good")
            assert good.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in good.lower()
            assert server.refusals == {"internal-error": 1}

    asyncio.run(scenario())
    assert "ZeroDivisionError" in caplog.text


def test_a_client_that_waits_for_leave_to_send_gets_it(gateway: Identity) -> None:
    server_context, client_context = contexts(gateway)

    async def handle(request: Request) -> Response:
        return Response(status=200, body=request.body)

    async def scenario() -> None:
        async with HttpsServer(handle, context=lambda: server_context) as server:
            port = await server.start("127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_context, server_hostname=""
            )
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
            writer.write(head + b"Expect: 100-continue\r\n\r\n")
            assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 100")
            writer.write(b"hi")
            rest = await asyncio.wait_for(reader.read(), 20)
            assert b"HTTP/1.1 200" in rest
            assert rest.endswith(b"hi")
            writer.close()
            await writer.wait_closed()

    asyncio.run(scenario())


def test_closing_cuts_what_is_open_and_frees_the_port(gateway: Identity) -> None:
    server_context, client_context = contexts(gateway)

    async def scenario() -> None:
        busy = asyncio.Event()

        async def handle(_: Request) -> Response:
            busy.set()
            await asyncio.Event().wait()
            raise AssertionError

        server = HttpsServer(handle, context=lambda: server_context)
        async with server:
            port = await server.start("127.0.0.1", free_port())
            hanging = asyncio.create_task(
                exchange(port, client_context, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            )
            await asyncio.wait_for(busy.wait(), 20)
        await asyncio.wait_for(asyncio.gather(hanging, return_exceptions=True), 20)
        async with HttpsServer(handle, context=lambda: server_context) as again:
            assert await again.start("127.0.0.1", port) == port

    asyncio.run(scenario())
