"""The queue of a durable session is on the disk: nothing is lost, and memory is bounded."""

import asyncio
import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plantroom.broker.memory import MemorySink
from plantroom.broker.refill import PIECE_BYTES
from plantroom.broker.session import Session
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.sink import Entry, Sink
from plantroom.broker.store import MIGRATIONS, SqliteStore
from plantroom.wire.database import Database
from plantroom.wire.errors import StorageCorruptError, StorageError
from tests.broker.harness import DISCONNECT, Live, Raw, puback, publish, running, until

LIMITS = BrokerLimits(sys_interval_s=0.0, session_queue_bytes_max=65_536)
PAYLOAD = 500


@pytest.fixture(params=["memory", "sqlite"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    if request.param == "memory":
        yield MemorySink()
        return
    database = Database.open(tmp_path / "broker.db", MIGRATIONS)
    yield SqliteStore(database)
    database.close()


def body(number: int) -> bytes:
    return b"%07d" % number + bytes(PAYLOAD - 7)


async def publish_many(writer: Raw, first: int, count: int, *, qos: int = 1) -> None:
    """Publish in blocks; every message is acknowledged when this returns."""
    for start in range(first, first + count, 200):
        numbers = range(start, min(start + 200, first + count))
        writer.send(*(publish("a", body(n), packet_id=n % 60_000 + 1, qos=qos) for n in numbers))
        await writer.frames(len(numbers))
        if qos == 2:
            writer.send(*(b"\x62\2" + (n % 60_000 + 1).to_bytes(2, "big") for n in numbers))
            await writer.frames(len(numbers))


async def take(reader: Raw, count: int) -> list[int]:
    """Receive and acknowledge so many messages of QoS 1; return their numbers."""
    numbers = []
    for _ in range(count):
        first, data = await reader.frame()
        assert first & 0xF6 == 0x32, (first, data[:20])
        numbers.append(int(data[5:12]))
        reader.send(puback(int.from_bytes(data[3:5], "big")))
    return numbers


def session_of(live: Live, client_id: str = "r") -> Session:
    (client,) = [c for c in live.broker._engine.clients if c.key[1] == client_id]
    return client.session


def held_bytes(session: Session) -> int:
    return sum(len(part.run.data) for part in (*session.pending, *session.in_flight))


def test_offline_session_holds_positions_only_and_gets_all_in_order(sink: Sink) -> None:
    count = 3000

    async def scenario() -> None:
        async with running(sink=sink, limits=LIMITS) as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a", 1))
            reader.send(DISCONNECT)
            assert await reader.closed()
            await publish_many(await live.client("w"), 0, count)
            session = session_of(live)
            assert not session.pending
            assert session.pending_bytes == session.dropped == 0
        async with running(sink=sink, limits=LIMITS) as live:
            session = session_of(live)
            assert not session.pending, "recovery reads no messages"
            reader = await live.client("r", clean=False)
            got = await take(reader, 1000)
            assert held_bytes(session) < PIECE_BYTES + 3 * LIMITS.session_queue_bytes_max
            reader.cut()
        async with running(sink=sink, limits=LIMITS) as live:
            reader = await live.client("r", clean=False)
            again = await take(reader, 1)
            assert again[0] <= 1000
            got += [n for n in again + await take(reader, count - again[0] - 1) if n >= 1000]
            assert got == list(range(count))
            assert await reader.silent()
            await until(lambda: not live.broker._engine.journal.log_bytes, "the log to be pruned")

    asyncio.run(scenario())


def test_connected_session_that_is_slow_loses_nothing(sink: Sink) -> None:
    count = 2000

    async def scenario() -> None:
        async with running(sink=sink, limits=LIMITS) as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a", 1))
            writer = await live.client("w")
            await publish_many(writer, 0, count)  # the window closes, then memory is full
            session = session_of(live)
            assert session.backlog.behind
            assert session.pending_bytes <= LIMITS.session_queue_bytes_max
            task = asyncio.create_task(publish_many(writer, count, 500))
            assert await take(reader, count + 500) == list(range(count + 500))
            await task
            assert not session.backlog.behind
            await publish_many(writer, count + 500, 1)
            assert await take(reader, 1) == [count + 500], "from memory again"
            assert session.dropped == 0

    asyncio.run(scenario())


def test_qos_2_out_of_the_log_is_exactly_once_across_reconnects_and_restarts(sink: Sink) -> None:
    count = 300

    async def receive(reader: Raw, taken: list[int], open_ids: dict[int, int], stop: int) -> None:
        """A receiver that keeps packet ids until PUBREL, over connections."""
        while len(taken) < stop:
            first, data = await reader.frame()
            if first == 0x62:
                open_ids.pop(int.from_bytes(data, "big"), None)
                reader.send(b"\x70\2" + data)
                continue
            number = int.from_bytes(data[3:5], "big")
            if number not in open_ids:
                open_ids[number] = int(data[5:12])
                taken.append(int(data[5:12]))
            if len(taken) % 20:  # some PUBRECs are held back, so that others overtake them
                reader.send(b"\x50\2" + data[3:5])

    async def scenario() -> None:
        taken: list[int] = []
        open_ids: dict[int, int] = {}
        async with running(sink=sink, limits=LIMITS) as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a", 2))
            reader.cut()
            writer = await live.client("w")
            await publish_many(writer, 0, count, qos=2)
        for stop in (50, 51, 120, 200):
            async with running(sink=sink, limits=LIMITS) as live:
                for more in (0, 10):
                    reader = await live.client("r", clean=False)
                    await receive(reader, taken, open_ids, stop + more)
                    reader.cut()
        async with running(sink=sink, limits=LIMITS) as live:
            reader = await live.client("r", clean=False)
            await receive(reader, taken, open_ids, count)
        assert sorted(taken) == list(range(count))
        assert len(taken) == len(set(taken))

    asyncio.run(scenario())


def test_volatile_messages_keep_their_turn_behind_the_log(sink: Sink) -> None:
    async def scenario() -> None:
        async with running(sink=sink, limits=LIMITS, volatile=("v",)) as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a", 1), ("v", 1))
            writer = await live.client("w")
            await publish_many(writer, 0, 1300)
            assert session_of(live).backlog.behind
            writer.publish("v", body(1300))
            await writer.acknowledged()
            await publish_many(writer, 1301, 10)
            assert await take(reader, 1311) == list(range(1311))

    asyncio.run(scenario())


FULL = dataclasses.replace(LIMITS, log_bytes_max=1_048_576, hold_s=0.3)


async def fill(live: Live, writer: Raw) -> None:
    """Publish for an absent session until the log is full."""
    reader = await live.client("r", clean=False)
    await reader.subscribe(("a", 1))
    reader.cut()
    await publish_many(writer, 0, 2000)
    writer.publish("a", body(2000) + bytes(60_000))
    await writer.acknowledged()
    assert live.broker._engine.journal.log_bytes >= FULL.log_bytes_max


def test_full_log_refuses_the_publisher_and_nobody_else(sink: Sink) -> None:
    async def scenario() -> None:
        async with running(sink=sink, limits=FULL) as live:
            writer = await live.client("w")
            await fill(live, writer)
            writer.publish("a", b"no room", packet_id=9)
            connections: Any = live.broker._engine.connections
            await until(lambda: any(c.close_at_us for c in connections), "it to be held")
            live.clock.jump(FULL.hold_s)
            assert await writer.closed(), "3.1.1: held, then closed without PUBACK"
            other = await live.client("w5", version=5)
            other.publish("a", b"no room", packet_id=9)
            first, data = await other.frame()
            assert (first, data[:3]) == (0x40, b"\0\x09\x97")
            watcher = await live.client("watcher")
            await watcher.subscribe(("b", 1))
            other.publish("b", b"for the connected", packet_id=10)
            await other.acknowledged(10)
            assert (await watcher.frame())[1][5:] == b"for the connected"
            reader = await live.client("r", clean=False)
            assert await take(reader, 2001) == list(range(2001))
            assert await reader.silent()
            await until(lambda: not live.broker._engine.journal.full, "room in the log")
            other.publish("a", body(2001), packet_id=11)
            await other.acknowledged(11)
            assert await take(reader, 1) == [2001]

    asyncio.run(scenario())


def test_full_log_drops_for_those_who_are_away_if_told_so(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        limits = dataclasses.replace(FULL, log_full="drop")
        async with running(sink=sink, limits=limits, taps=("a",)) as live:
            writer = await live.client("w")
            await fill(live, writer)
            present = await live.client("present", clean=False)
            await present.subscribe(("a", 1))
            await publish_many(writer, 2001, 5)
            assert await take(present, 5) == list(range(2001, 2006))
            dropped = live.broker._engine.counters.publishes_dropped
            assert dropped == 5
            reader = await live.client("r", clean=False)
            assert await take(reader, 2001) == list(range(2001))
            assert await reader.silent()

    asyncio.run(scenario())
    assert "event=dropped" in caplog.text
    assert "client_id=r" in caplog.text


def test_queue_of_one_session_on_the_disk_is_bounded_and_only_its_own(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        limits = dataclasses.replace(LIMITS, session_log_bytes_max=65_536)
        async with running(sink=sink, limits=limits, taps=("a",)) as live:
            for name, topic in (("stranger", "a"), ("device", "d")):
                raw = await live.client(name, clean=False)
                await raw.subscribe((topic, 1))
                raw.send(DISCONNECT)
                assert await raw.closed()
            writer = await live.client("w")
            await publish_many(writer, 0, 2000)  # more than the stranger may have
            writer.publish("d", b"for the device", packet_id=7)
            await writer.acknowledged(7)
            figures = live.broker._engine.counters
            assert 0 < figures.publishes_dropped < 2000
            assert figures.limits["session_log_bytes_max"]
            device = await live.client("device", clean=False)
            assert (await device.frame())[1].endswith(b"for the device")
            kept = 2000 - figures.publishes_dropped
            stranger = await live.client("stranger", clean=False)
            assert await take(stranger, kept) == list(range(kept))
            await until(lambda: session_of(live, "stranger").behind_bytes == 0, "caught up")
            await publish_many(writer, 5000, 1)
            assert await take(stranger, 1) == [5000]

    asyncio.run(scenario())
    assert "session_log_bytes_max" in caplog.text


def test_damaged_segment_is_reported_and_the_rest_is_delivered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "broker.db"

    async def scenario(store: SqliteStore) -> None:
        async with running(sink=store, limits=LIMITS) as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a", 1))
            reader.cut()
            writer = await live.client("w")
            for number in range(5):
                await publish_many(writer, number, 1)
            with sqlite3.connect(path) as other:
                other.execute("UPDATE segment SET data = substr(data, 1, 60) WHERE id = 3")
            other.close()
            reader = await live.client("r", clean=False)
            assert await take(reader, 4) == [0, 1, 3, 4]
            assert live.broker._engine.counters.damaged == 1

    database = Database.open(path, MIGRATIONS)
    asyncio.run(scenario(SqliteStore(database)))
    database.close()
    assert "event=damaged" in caplog.text


class Faulty(MemorySink):
    """Reads fail as often as told."""

    def __init__(self, faults: list[StorageError]) -> None:
        super().__init__()
        self.faults = faults

    async def read(self, sid: int, start: int, end: int, size_bytes: int) -> list[Entry]:
        if self.faults:
            raise self.faults.pop()
        return await super().read(sid, start, end, size_bytes)


@pytest.mark.parametrize("error", [StorageError("busy"), StorageCorruptError("malformed")])
def test_read_that_fails_is_tried_again_or_ends_the_connection(error: StorageError) -> None:
    async def scenario() -> None:
        async with running(sink=Faulty([error]), limits=LIMITS) as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a", 1))
            reader.cut()
            await publish_many(await live.client("w"), 0, 3)
            reader = await live.client("r", clean=False)
            if isinstance(error, StorageCorruptError):
                assert await reader.closed()
                reader = await live.client("r", clean=False)
            assert await take(reader, 3) == [0, 1, 2]

    asyncio.run(scenario())
