"""What waits for the disk is bounded over all connections together, and nobody starves."""

import asyncio
from typing import Any

import pytest

from plantroom.broker.connection import Connection
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.turns import DISK, Turns
from tests.broker.harness import connect, publish, running, until
from tests.broker.test_journal import SlowSink

DEPTH = 100_000
CLIENTS = 300
PIECE = 20  # publishes that come at once
PUBLISH = publish("tap/a", b"x" * 500)


class Wire:
    """A client that always has something to send, and what the broker has read of it."""

    def __init__(self, live: Any, number: int) -> None:
        self.reading = True
        self.number = number
        self.pieces = self.acks = 0
        self.connection = Connection(
            live.broker._engine, live.broker._handler, lambda _: None, f"10.0.0.1:{number}"
        )
        self.connection.connection_made(self)
        self.connection.data_received(connect(f"c{number}"))

    # what a connection asks of its transport

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write(self, data: bytes) -> None:
        self.acks += data.count(b"\x40\x02")

    def close(self) -> None:
        self.reading = False
        self.connection.connection_lost(None)

    abort = close

    # the client

    def push(self) -> None:
        """Let the broker read one piece, if it reads."""
        if self.reading:
            self.pieces += 1
            self.connection.data_received(PUBLISH * PIECE)


async def connected(live: Any) -> list[Wire]:
    wires = [Wire(live, number) for number in range(CLIENTS)]
    await until(lambda: all(wire.connection.accepted and wire.reading for wire in wires))
    return wires


def test_what_all_connections_bring_is_bounded_together_however_many_there_are() -> None:
    async def scenario() -> None:
        sink = SlowSink()
        sink.go.set()
        limits = BrokerLimits(sys_interval_s=0.0, gather_s=0.0, commit_depth_bytes_max=DEPTH)
        async with running(sink=sink, limits=limits, taps=("tap/#",)) as live:
            wires = await connected(live)
            engine = live.broker._engine
            sink.go.clear()
            wires[0].push()
            await until(lambda: any(batch.segment for batch in sink.batches))  # and it hangs
            for _ in range(10):
                for wire in wires:
                    wire.push()
                await asyncio.sleep(0)
            held = sum(wire.pieces for wire in wires) * PIECE * len(PUBLISH)
            assert held <= 2 * DEPTH + 2 * PIECE * (len(PUBLISH) + 100)
            assert engine.journal.deep
            assert not any(wire.reading for wire in wires)
            sink.go.set()
            await until(lambda: all(wire.reading for wire in wires))
            await until(lambda: sum(w.acks for w in wires) == PIECE * sum(w.pieces for w in wires))

    asyncio.run(scenario())


@pytest.mark.parametrize("backwards", [False, True])
def test_nobody_starves_though_the_same_are_always_faster(backwards: bool) -> None:  # noqa: FBT001
    async def scenario() -> None:
        sink = SlowSink()
        sink.go.set()
        limits = BrokerLimits(sys_interval_s=0.0, gather_s=0.0, commit_depth_bytes_max=DEPTH)
        async with running(sink=sink, limits=limits, taps=("tap/#",)) as live:
            wires = await connected(live)
            for _ in range(2000):
                for wire in reversed(wires) if backwards else wires:
                    wire.push()
                await asyncio.sleep(0)
                if min(wire.pieces for wire in wires) >= 3:
                    break
            pieces = sorted(wire.pieces for wire in wires)
            assert pieces[0] >= 3, pieces
            await until(lambda: all(w.acks == PIECE * w.pieces for w in wires))

    asyncio.run(scenario())


class Asking:
    """Is resumed in its turn."""

    def __init__(self, turn: int, heard: list[int]) -> None:
        self.turn = turn
        self._heard = heard

    def resume(self, why: int = DISK) -> None:
        assert why == DISK
        self._heard.append(self.turn)


def test_who_was_heard_longest_ago_goes_first_and_alone() -> None:
    async def scenario() -> None:
        heard: list[int] = []
        full = False
        turns = Turns(lambda: full)
        for turn in (4, 2, 9, 7, 3, 8, 6, 5):
            turns.wait(Asking(turn, heard))
        turns.begin()
        assert heard == [2]
        turns.begin()  # it has begun
        await asyncio.sleep(0)
        assert heard == [2, 3, 4]
        full = True
        await asyncio.sleep(0)
        assert heard == [2, 3, 4]
        full = False
        turns.wait(Asking(1, heard))
        turns.begin()
        assert heard == [2, 3, 4, 1]
        for _ in range(3):
            await asyncio.sleep(0)
        assert heard == [2, 3, 4, 1, 5, 6, 7, 8, 9]

    asyncio.run(scenario())
