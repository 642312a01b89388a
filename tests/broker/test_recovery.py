"""What a new broker finds in the store of one that was killed."""

import asyncio
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantroom.broker import segments
from plantroom.broker.memory import MemorySink
from plantroom.broker.properties import Property
from plantroom.broker.sink import Sink
from plantroom.broker.store import MIGRATIONS, SqliteStore
from plantroom.wire.database import Database
from tests.broker.harness import (
    DISCONNECT,
    Raw,
    packet,
    puback,
    publish,
    running,
    subscribe,
    text,
    until,
)
from tests.fakes.ports import free_port
from tests.fakes.waiting import until as until_now

ROUNDS = 4


@pytest.fixture(params=["memory", "sqlite"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    if request.param == "memory":
        yield MemorySink()
        return
    database = Database.open(tmp_path / "broker.db", MIGRATIONS)
    yield SqliteStore(database)
    database.close()


def test_session_subscriptions_and_queue_survive(sink: Sink) -> None:
    async def scenario() -> None:
        async with running(sink=sink) as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a/#", 1), ("gone", 1))
            reader.send(packet(0xA2, b"\0\7" + text("gone")))
            await reader.frame()
            reader.send(DISCONNECT)
            assert await reader.closed()
            writer = await live.client("w", version=5)
            for number in range(1, 4):
                writer.publish("a/b", b"%d" % number, packet_id=number)
            await writer.frames(3)
        async with running(sink=sink) as live:
            (info,) = live.broker.sessions()
            assert info.subscriptions == ("a/#",)
            writer = await live.client("w")
            writer.publish("a/b", b"4")
            await writer.acknowledged()
            raw = await live.open()
            assert await raw.connect("r", clean=False) == (0x20, b"\1\0")
            frames = await raw.frames(4)
            assert [body[-1:] for _, body in frames] == [b"1", b"2", b"3", b"4"]
            assert not any(first & 8 for first, _ in frames), "never sent before"
            raw.send(puback(1), puback(2), puback(3), puback(4))
            assert await raw.silent()
            await until(lambda: not live.broker._engine.journal.log_bytes, "the log to be pruned")

    asyncio.run(scenario())


def test_what_was_sent_comes_again_with_dup_and_its_packet_id(sink: Sink) -> None:
    async def scenario() -> None:
        async with running(sink=sink) as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a", 1))
            writer = await live.client("w")
            writer.send(*(publish("a", b"%d" % n, packet_id=n) for n in range(1, 6)))
            before = await reader.frames(5)
            reader.send(puback(1), puback(2))
            assert await reader.silent()
            await writer.frames(5)
            writer.publish("other", packet_id=9)  # the cursor is stored with a group
            await writer.acknowledged(9)
        async with running(sink=sink) as live:
            reader = await live.client("r", clean=False)
            after = await reader.frames(3)
            assert after == [(first | 8, body) for first, body in before[2:]]

    asyncio.run(scenario())


def test_qos_2_state_survives_in_both_directions(sink: Sink) -> None:
    async def scenario() -> None:
        async with running(sink=sink) as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a", 2))
            writer = await live.client("w", clean=False)
            writer.publish("a", b"once", qos=2, packet_id=77)
            assert await writer.frame() == (0x50, b"\0\x4d")
            await reader.frame()
            reader.send(b"\x50\x02\0\1")
            assert await reader.frame() == (0x62, b"\0\1")
        async with running(sink=sink) as live:
            writer = await live.client("w", clean=False)
            reader = await live.client("r", clean=False)
            assert await reader.frame() == (0x62, b"\0\1")
            writer.publish("a", b"once", qos=2, packet_id=77, dup=True)
            assert await writer.frame() == (0x50, b"\0\x4d")
            assert await reader.silent(), "not a second time"
            writer.send(b"\x62\x02\0\x4d")
            assert await writer.frame() == (0x70, b"\0\x4d")
            reader.send(b"\x70\x02\0\1")
            assert await reader.silent()
        async with running(sink=sink) as live:
            reader = await live.client("r", clean=False)
            assert await reader.silent()

    asyncio.run(scenario())


def test_retained_messages_survive_with_their_properties(sink: Sink) -> None:
    async def scenario() -> None:
        async with running(sink=sink) as live:
            raw = await live.client("w", version=5)
            raw.publish("r", b"v", retain=True, properties={Property.CONTENT_TYPE: "x/y"})
            await raw.acknowledged()
        async with running(sink=sink) as live:
            raw = await live.client("r", version=5)
            await raw.subscribe(("r", 0))
            first, body = await raw.frame()
            assert first == 0x31
            assert b"x/y" in body

    asyncio.run(scenario())


def test_session_numbers_never_come_twice(sink: Sink) -> None:
    async def scenario() -> None:
        seen = set()
        for _ in range(3):
            async with running(sink=sink) as live:
                await live.client("c")
                seen.add(next(iter(live.broker._engine.clients)).session.sid)
        assert len(seen) == 3

    asyncio.run(scenario())


def start(folder: Path, port: int, more: str = "") -> "subprocess.Popen[bytes]":
    config = folder / "broker.toml"
    config.write_text(
        f'[listen]\nport = {port}\ntls = false\nlog_level = "ERROR"\n'
        f'[store]\npath = "{folder / "broker.db"}"\n[access]\nallow_all = true\n'
        f'[admin]\nsocket = "{folder / "broker.sock"}"\n{more}'
    )
    process = subprocess.Popen([sys.executable, "-m", "plantroom.broker", str(config)])

    def up() -> bool:
        assert process.poll() is None, "the broker has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until_now(up, deadline_s=60, what="the broker")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


async def load(port: int, number: int, rng: random.Random, process: int) -> tuple[set[bytes], int]:
    """Publish until the broker is killed; return what was acknowledged, and the next number."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = Raw(reader, writer)
    await raw.connect("w")
    kill_after = rng.randrange(20, 400)
    sent: dict[int, bytes] = {}
    acknowledged: set[bytes] = set()
    try:
        for count in range(1000):
            sent[number] = b"m%06d;" % number
            raw.publish("a/b", sent[number], packet_id=number % 60_000 + 1)
            number += 1
            if count == kill_after:
                os.kill(process, signal.SIGKILL)
            if count % 20 == 19:
                for _ in range(20):
                    _, body = await raw.frame()
                    wanted = int.from_bytes(body, "big")
                    acknowledged |= {v for n, v in sent.items() if n % 60_000 + 1 == wanted}
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        raw.close()
    return acknowledged, number


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    async def subscribe_once(port: int) -> None:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
        await raw.connect("r", clean=False)
        raw.send(subscribe(("a/#", 1)))
        assert await raw.frame() == (0x90, b"\0\1\1")
        raw.cut()

    async def drain(port: int, wanted: set[bytes]) -> set[bytes]:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
        assert await raw.connect("r", clean=False) == (0x20, b"\1\0")
        got: set[bytes] = set()
        while not wanted <= got:
            first, body = await raw.frame()
            assert first >> 4 == 3
            got.add(body[7:])
            raw.send(puback(int.from_bytes(body[5:7], "big")))
        raw.cut()
        return got

    rng = random.Random(20_261_122)  # noqa: S311 -- a test that replays
    port, number = free_port(), 0
    acknowledged: set[bytes] = set()
    delivered: set[bytes] = set()
    process = start(tmp_path, port)
    try:
        asyncio.run(subscribe_once(port))
        for _ in range(ROUNDS):
            more, number = asyncio.run(load(port, number, rng, process.pid))
            acknowledged |= more
            process.wait()
            stored = stored_messages(tmp_path / "broker.db")
            assert acknowledged <= stored | delivered
            process = start(tmp_path, port)
            if rng.random() < 0.5:
                delivered |= asyncio.run(drain(port, acknowledged - delivered))
        assert len(acknowledged) > 20 * ROUNDS
        assert acknowledged <= delivered | asyncio.run(drain(port, acknowledged - delivered))
    finally:
        process.kill()
        process.wait()


def stored_messages(path: Path) -> set[bytes]:
    with sqlite3.connect(path) as database:
        rows = [row[0] for row in database.execute("SELECT data FROM segment")]
    database.close()
    return {
        message.data[start : start + 8]
        for row in rows
        for message in segments.unpack(row)
        for start in range(len(message.data))
        if message.data[start : start + 1] == b"m" and message.data[start + 7 : start + 8] == b";"
    }
