import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from plantroom.lab.chaos_plan import Weather
from plantroom.lab.chaos_way import BadWay

WAIT_S = 60.0
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
    writer.close()


@asynccontextmanager
async def way_to_echo() -> AsyncIterator[BadWay]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with BadWay("wan", port, random.Random(1)).running() as way:  # noqa: S311
        yield way
    server.close()


@asynccontextmanager
async def connected(way: BadWay) -> AsyncIterator[Streams]:
    host, _, port = way.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def asked(streams: Streams, text: bytes) -> bytes:
    reader, writer = streams
    writer.write(text)
    async with asyncio.timeout(WAIT_S):
        return await reader.readexactly(len(text))


async def ended(reader: asyncio.StreamReader) -> bool:
    """Say whether nothing more comes: a reset is as good as an orderly end."""
    async with asyncio.timeout(WAIT_S):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


def test_good_way_carries_bytes_both_ways_and_counts_them() -> None:
    async def scenario() -> None:
        async with way_to_echo() as way, connected(way) as streams:
            text = random.Random(2).randbytes(300_000)  # noqa: S311 -- reproducible
            assert await asked(streams, text) == text
            assert way.carried_bytes == {"up": 300_000, "down": 300_000}

    asyncio.run(scenario())


def test_cut_resets_what_is_there_and_refuses_what_comes_until_it_is_mended() -> None:
    async def scenario() -> None:
        async with way_to_echo() as way, connected(way) as (reader, _):
            way.cut()
            assert await ended(reader)
            async with connected(way) as (other, _writer):
                assert await ended(other)
            way.mend()
            async with connected(way) as again:
                assert await asked(again, b"back") == b"back"

    asyncio.run(scenario())


def test_swallowed_bytes_arrive_in_order_once_it_is_mended() -> None:
    async def scenario() -> None:
        async with way_to_echo() as way, connected(way) as (reader, writer):
            assert await asked((reader, writer), b"before") == b"before"
            way.swallow()
            writer.write(b"held ")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1)
            writer.write(b"back")
            way.mend()
            async with asyncio.timeout(WAIT_S):
                assert await reader.readexactly(9) == b"held back"

    asyncio.run(scenario())


def test_delay_and_throttle_take_their_time_and_overtake_nothing() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with way_to_echo() as way, connected(way) as streams:
            way.weather = Weather(delay_s=0.05, jitter_s=0.05, loss=0.2)
            begun_s = loop.time()
            text = random.Random(3).randbytes(100_000)  # noqa: S311 -- reproducible
            assert await asked(streams, text) == text
            way.weather = Weather()
            way.bytes_per_s = 10_000
            begun_s = loop.time()
            assert await asked(streams, b"x" * 2_000) == b"x" * 2_000
            assert loop.time() - begun_s > 0.35  # 0.2 s each way

    asyncio.run(scenario())
