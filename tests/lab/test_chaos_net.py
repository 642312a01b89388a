"""A way that is a network, for real: frames between two namespaces."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from plantroom.lab import chaos_net
from plantroom.lab.chaos_net import NetWay
from plantroom.lab.chaos_plan import Weather

WAIT_S = 60.0

pytestmark = pytest.mark.skipif(not chaos_net.may(), reason="needs root and /dev/net/tun")

Ask = Callable[[bytes], Awaitable[bytes]]


async def through(use: Callable[[NetWay, Ask], Awaitable[None]]) -> None:
    """Run `use` with a way to a server that sends back what it gets, over one connection."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    way = NetWay("wan", server.sockets[0].getsockname()[1], random.Random(1))  # noqa: S311
    async with way.running():
        host, _, port = way.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        async def ask(data: bytes) -> bytes:
            writer.write(data)
            async with asyncio.timeout(WAIT_S):
                return await reader.readexactly(len(data))

        assert await ask(b"before") == b"before"
        await use(way, ask)
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("fault", ["cut", "swallow"])
def test_what_is_sent_while_nothing_passes_arrives_once_it_does(fault: str) -> None:
    async def use(way: NetWay, ask: Ask) -> None:
        getattr(way, fault)()
        answer = asyncio.ensure_future(ask(b"meanwhile"))
        done, _ = await asyncio.wait([answer], timeout=0.5)
        assert not done
        way.mend()
        assert await answer == b"meanwhile"  # the same connection: nobody was told

    asyncio.run(through(use))


def test_weather_and_throttle_take_their_time_and_lose_nothing() -> None:
    async def use(way: NetWay, ask: Ask) -> None:
        way.weather = Weather(delay_s=0.1, jitter_s=0.01, loss=0.2)
        begin_s = time.monotonic()
        assert await ask(b"x" * 5_000) == b"x" * 5_000
        assert time.monotonic() - begin_s >= 0.15
        way.weather = Weather()
        way.bytes_per_s = 20_000
        begin_s = time.monotonic()
        assert await ask(b"y" * 8_000) == b"y" * 8_000
        assert time.monotonic() - begin_s >= 0.2
        way.mend()

    asyncio.run(through(use))
