"""A disk that takes nothing more: no promise is made, and who needs none is served."""

import asyncio
from typing import Any

from plantroom.broker.codes import Code
from plantroom.broker.memory import MemorySink
from plantroom.broker.properties import Property
from plantroom.wire.errors import StorageFullError
from tests.broker.harness import DISCONNECT, running


def test_no_session_is_promised_while_nothing_can_be_stored() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink) as live:
            sink.fault = StorageFullError("no space left")
            raw = await live.open()
            _, body = await raw.connect(
                "p", version=5, clean=False, properties={Property.SESSION_EXPIRY: 60}
            )
            assert body[1] == Code.QUOTA_EXCEEDED
            assert await raw.closed()

    asyncio.run(scenario())


def test_who_needs_nothing_stored_is_served_when_nothing_can_be() -> None:
    async def scenario() -> None:
        sink, properties = MemorySink(), {Property.SESSION_EXPIRY: 60}
        async with running(sink=sink) as live:
            reader = await live.client("r", version=5, properties=properties)
            await reader.subscribe(("a", 1))
            reader.send(DISCONNECT)
            assert await reader.closed()
            writer = await live.client("w")
            writer.publish("a")
            await writer.acknowledged()
            sink.fault = StorageFullError("no space left")
            reader = await live.open()
            answer = await reader.connect("r", version=5, clean=False, properties=properties)
            assert answer[1][:2] == b"\1\0", "its session is there already"
            assert (await reader.frame())[0] & 0xF0 == 0x30, "and so is its queue"
            passer_by = await live.client("p", version=5)
            assert await passer_by.subscribe(("a", 1)) == b"\1"

    asyncio.run(scenario())


def test_connection_that_was_refused_leaves_neither_session_nor_will() -> None:
    async def scenario() -> None:
        sink, properties = MemorySink(), {Property.SESSION_EXPIRY: 60}
        async with running(sink=sink) as live:
            watcher = await live.client("w")
            await watcher.subscribe(("will", 0))
            sink.fault = StorageFullError("no space left")
            raw = await live.open()
            options: dict[str, Any] = {"version": 5, "properties": properties}
            answer = await raw.connect("p", clean=False, will=("will", b"", 0, False), **options)
            assert answer[1][1] == Code.QUOTA_EXCEEDED
            assert await raw.closed()
            sink.fault = None
            again = await live.client("q", **options)
            assert await watcher.silent()
            answer = await (await live.open()).connect("p", clean=False, **options)
            assert answer[1][:2] == b"\0\0"
            assert await again.silent()

    asyncio.run(scenario())
