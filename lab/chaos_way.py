"""A way that can be bad: a TCP proxy that cuts, swallows, delays, throttles, and loses time.

Bytes are never changed, lost or reordered within a connection, since TCP would not let a program
see that: a lost segment shows as the wait for its retransmission.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from plantroom.lab.chaos_plan import Weather
from plantroom.lab.ports import HOST

_CHUNK_BYTES: Final = 16 * 1024
_IN_FLIGHT_MAX: Final = 64  # chunks on their way in one direction
_RETRANSMIT_S_MIN: Final = 0.2  # RFC 6298 allows 1 s, Linux waits 0.2 s
_CONNECT_S: Final = 10.0

_Chunk = tuple[float, bytes]  # when it may arrive


class BadWay:
    """Forwards connections to one port of this machine; faults act on all of them."""

    def __init__(self, name: str, port: int, chance: random.Random) -> None:
        self.name = name
        self.weather = Weather()
        self.bytes_per_s = 0
        self.carried_bytes = {"up": 0, "down": 0}
        self._target_port = port
        self._chance = chance
        self._is_open = True
        self._passes = asyncio.Event()
        self._passes.set()
        self._links: set[asyncio.Task[None]] = set()
        self._own_port = 0

    @property
    def address(self) -> str:
        """Where to connect."""
        return f"{HOST}:{self._own_port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["BadWay"]:
        """Listen while the block runs."""
        server = await asyncio.start_server(self._accepted, HOST, 0)
        self._own_port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._links, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._is_open = False
        for link in list(self._links):
            link.cancel()

    def swallow(self) -> None:
        """Keep connections, accept new ones, and forward nothing: half open."""
        self._passes.clear()

    def mend(self) -> None:
        """Forward again, at any speed; the weather stays."""
        self._is_open = True
        self.bytes_per_s = 0
        self._passes.set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # pragma: no cover -- asyncio always runs it in one
            return
        self._links.add(task)
        try:
            if self._is_open:
                await self._forward(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # the way is bad, which is what it is for
        finally:
            self._links.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_CONNECT_S):
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target_port)
        try:
            async with asyncio.TaskGroup() as both:
                ends = {"up": (reader, far_writer), "down": (far_reader, writer)}
                for towards, (source, sink) in ends.items():
                    chunks: asyncio.Queue[_Chunk] = asyncio.Queue(_IN_FLIGHT_MAX)
                    both.create_task(self._take(source, chunks), name="lab.way-take")
                    both.create_task(self._bring(chunks, sink, towards), name="lab.way-bring")
        except* OSError:
            pass
        finally:
            far_writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, chunks: "asyncio.Queue[_Chunk]") -> None:
        loop = asyncio.get_running_loop()
        arrives_s = 0.0
        while chunk := await reader.read(_CHUNK_BYTES):
            arrives_s = max(arrives_s, loop.time() + self._travels_s())  # never overtakes
            await chunks.put((arrives_s, chunk))
        raise ConnectionResetError

    def _travels_s(self) -> float:
        weather = self.weather
        delay_s = weather.delay_s + self._chance.uniform(-weather.jitter_s, weather.jitter_s)
        while weather.loss and self._chance.random() < weather.loss:
            delay_s += max(_RETRANSMIT_S_MIN, 2 * weather.delay_s)
        return max(0.0, delay_s)

    async def _bring(
        self, chunks: "asyncio.Queue[_Chunk]", writer: asyncio.StreamWriter, towards: str
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            arrives_s, chunk = await chunks.get()
            await asyncio.sleep(max(0.0, arrives_s - loop.time()))
            if self.bytes_per_s:
                await asyncio.sleep(len(chunk) / self.bytes_per_s)
            await self._passes.wait()
            writer.write(chunk)
            self.carried_bytes[towards] += len(chunk)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
