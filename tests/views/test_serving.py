import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Self

import httpx
import pytest
from starlette.applications import Starlette

from plantroom.views import serving
from plantroom.views.board import Board
from plantroom.views.history import HistoryQuery, Series
from plantroom.views.serving import serve
from plantroom.views.web import make_app
from plantroom.wire.errors import ConfigError

WAIT_S = 20.0


async def nothing(_query: HistoryQuery) -> Series | None:
    return None


async def status() -> Mapping[str, object]:
    return {}


def app() -> Starlette:
    return make_app(board=Board(), history=nothing, status=status, metrics=list, title="T")


def test_serves_until_cancelled_with_a_browser_following_and_signals_untouched() -> None:
    async def main() -> None:
        bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        running = asyncio.create_task(serve(app(), "127.0.0.1", 0, on_bound=bound.set_result))
        async with asyncio.timeout(WAIT_S):
            address = f"http://127.0.0.1:{await bound}"
            async with httpx.AsyncClient(base_url=address) as client:
                assert (await client.get("/healthz")).text == "ok\n"
                after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
                assert after == before
                async with client.stream("GET", "/feed") as feed:
                    assert await anext(feed.aiter_lines()) == "event: status"
                    running.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await running
            with pytest.raises(httpx.ConnectError):
                async with httpx.AsyncClient(base_url=address) as client:
                    await client.get("/healthz")

    asyncio.run(main())


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[int]:
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(serve(app(), "127.0.0.1", 0, on_bound=bound.set_result))
    try:
        async with asyncio.timeout(WAIT_S):
            yield await bound
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


class Caller:
    """A connection that says what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def at(cls, port: int, said: bytes) -> Self:
        caller = cls(*await asyncio.open_connection("127.0.0.1", port))
        caller.writer.write(said)
        return caller

    async def is_ended(self) -> bool:
        try:
            return not await self.reader.read(1)
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("said", [b"", b"GET /hea", HEAD, HEAD + b"\r\n" + HEAD])
def test_request_that_does_not_come_in_time_is_not_waited_for(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "REQUEST_S", 0.05)

    async def main() -> None:
        async with served() as port:
            caller = await Caller.at(port, said)
            with contextlib.suppress(ConnectionError):
                while await caller.reader.read(1000):
                    caller.writer.write(b"X")  # more of the next head, and never the end of it
            await caller.close()

    asyncio.run(main())


def test_who_waits_longest_without_a_request_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS_MAX", 3)

    async def main() -> None:
        async with served() as port:
            feed = await Caller.at(port, HEAD.replace(b"healthz", b"feed") + b"\r\n")
            assert await feed.reader.readline() == b"HTTP/1.1 200 OK\r\n"
            idle = []
            for number in range(6):
                idle.append(await Caller.at(port, HEAD))
                if number > 1:
                    assert await idle[number - 2].is_ended()
            asking = await Caller.at(port, HEAD + b"\r\n")
            assert await asking.reader.readline() == b"HTTP/1.1 200 OK\r\n"
            assert await idle[4].is_ended()
            assert (await feed.reader.readuntil(b"event: status"))[-6:] == b"status"
            for caller in (feed, asking, *idle):
                await caller.close()

    asyncio.run(main())


def test_port_that_is_taken_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*http\.port"):
            asyncio.run(serve(app(), "127.0.0.1", port))


def test_address_of_another_machine_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        asyncio.run(serve(app(), "192.0.2.1", 0))
