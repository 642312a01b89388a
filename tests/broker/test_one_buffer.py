"""One buffer for all who read: each is given its own bytes, over TCP and TLS, on both loops."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from plantroom.broker.one_buffer import OneBuffer
from plantroom.wire import tls
from plantroom.wire.identity import Identity
from plantroom.wire.tls import RotatingServerContext
from tests.fakes.issuer import Issuer

SIZES = (1, 16_384, 16_385, 300_000, 700_001)


class Heard(OneBuffer):
    """Keeps what comes, as it comes."""

    def __init__(self, wanted: int) -> None:
        self.parts: list[bytes] = []
        self.wanted = wanted
        self.done = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)
        if sum(map(len, self.parts)) == self.wanted:
            self.done.set_result(b"".join(self.parts))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("secured", [False, True], ids=["tcp", "tls"])
def test_each_of_two_gets_its_own_bytes(
    run: Callable[[Coroutine[Any, Any, None]], None],
    secured: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    issuer = Issuer("building-1.smart.local")
    server, client = issuer.identity("agent/gateway"), issuer.identity("agent/hvac-001")
    run(_two(server, client, secured=secured))


async def _two(server: Identity, client: Identity, *, secured: bool) -> None:
    total = sum(SIZES)
    heard: list[Heard] = []

    def make() -> Heard:
        heard.append(Heard(total))
        return heard[-1]

    loop = asyncio.get_running_loop()
    context = RotatingServerContext(server).context if secured else None
    listening = await loop.create_server(make, "127.0.0.1", 0, ssl=context)
    mine = tls.client_context(client, server_ids=[server.svid.spiffe_id]) if secured else None
    port = listening.sockets[0].getsockname()[1]
    writers = []
    for _ in range(2):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=mine)
        writers.append(writer)
    for size in SIZES:
        for name, writer in zip(b"ab", writers, strict=True):
            writer.write(bytes([name]) * size)
            await writer.drain()
    async with asyncio.timeout(60):
        found = [await each.done for each in heard]
    assert sorted(found) == [b"a" * total, b"b" * total]
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    listening.close()
    await listening.wait_closed()


def test_loops_in_two_threads_have_a_buffer_each() -> None:
    class Nobody(OneBuffer):
        def data_received(self, data: bytes) -> None:
            raise AssertionError(data)

    first, second = Nobody(), Nobody()
    with ThreadPoolExecutor(1) as thread:
        elsewhere = thread.submit(first.get_buffer, 1).result()
    assert first.get_buffer(1) is second.get_buffer(1) is not elsewhere
