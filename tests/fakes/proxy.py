"""A TCP proxy that can cut its link, go silent, and come back."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

CHUNK_BYTES = 65_536


class Proxy:
    """Forwards to one target, on a thread of its own; `address` is where to connect."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._open = True
        self._passes = asyncio.Event()
        self._passes.set()
        self._links: set[asyncio.Task[None]] = set()
        self._port: int = 0
        self.bytes_up = 0
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="proxy")

    @property
    def address(self) -> str:
        """Where the proxy listens."""
        return f"127.0.0.1:{self._port}"

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        self._loop.call_soon_threadsafe(self._cut)

    def swallow(self) -> None:
        """Keep connections open and forward nothing: half open."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def restore(self) -> None:
        """Forward again."""
        self._loop.call_soon_threadsafe(self._restore)

    def _cut(self) -> None:
        self._open = False
        for link in self._links:
            link.cancel()

    def _restore(self) -> None:
        self._open = True
        self._passes.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            if self._open:
                await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the link is down, which is what it is for
        finally:
            self._links.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, far_writer, up=True), name="proxy.up")
                both.create_task(self._pump(far_reader, writer), name="proxy.down")
        except* OSError:
            pass
        finally:
            far_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool = False
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._passes.wait()
            self.bytes_up += len(chunk) if up else 0
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError

    @contextlib.contextmanager
    def running(self) -> Iterator["Proxy"]:
        """Listen while the block runs."""
        self._thread.start()
        assert self._ready.wait(60)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
