"""The stand-alone broker's figures over HTTP: `/metrics` and `/healthz`, and nothing else."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import h11

from plantroom.broker.server import Broker
from plantroom.wire.errors import ConfigError
from plantroom.wire.metrics import CONTENT_TYPE, render

LOGGER = logging.getLogger("plantroom.broker.exposition")
TIMEOUT_S = 5.0
CONNECTIONS_MAX = 16
_READ_BYTES = 8192
Answer = tuple[int, str, bytes]


@asynccontextmanager
async def exposed(broker: Broker, host: str, port: int) -> AsyncIterator[int]:
    """Serve the broker's figures until the end of the block; gives the bound port.

    Raises:
        ConfigError: when the port is taken.
    """
    turns = asyncio.Semaphore(CONNECTIONS_MAX)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not turns.locked():
                async with turns, asyncio.timeout(TIMEOUT_S):
                    await _exchange(broker, reader, writer)
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            LOGGER.debug("a request got no answer: %s", error or type(error).__name__)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    try:
        server = await asyncio.start_server(serve, host, port)
    except OSError as error:
        raise ConfigError(
            f"cannot listen: {error.strerror}",
            where=f"{host}:{port}",
            remedy="choose another http.port, or stop what uses it",
        ) from error
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def _exchange(
    broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer one request, then close: nothing is kept open for a scraper."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=_READ_BYTES)
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await reader.read(_READ_BYTES))
    if not isinstance(event, h11.Request):
        return
    status, kind, body = answer(broker, event.method, event.target)
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    parts: list[h11.Event] = [h11.Response(status_code=status, headers=headers)]
    parts += [h11.Data(data=body)] if event.method != b"HEAD" else []
    parts += [h11.EndOfMessage()]
    for part in parts:
        writer.write(http.send(part) or b"")
    await writer.drain()


def answer(broker: Broker, method: bytes, target: bytes) -> Answer:
    """Return status, content type and body."""
    plain = "text/plain; charset=utf-8"
    if method not in {b"GET", b"HEAD"}:
        return 405, plain, b"only GET\n"
    path = target.partition(b"?")[0]
    if path == b"/metrics":
        return 200, CONTENT_TYPE, render(broker.metrics()).encode()
    if path == b"/healthz":
        failing = broker.failing
        return (200, plain, b"ok\n") if not failing else (503, plain, f"{failing}\n".encode())
    return 404, plain, b"/metrics or /healthz\n"
