"""A stateful fuzzer: sequences of valid and invalid packets, both versions, cut anywhere.

A seed makes a case: some connections, for each of them a script of packets that a client could or
could not send, in pieces of any size, interleaved. After every case a well-behaved client gets its
round trip, and nothing is left: no connection, no task, no descriptor, no session beyond those that
are to be kept. What the broker logged as an error would fail the test as well.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from plantroom.broker.primitives import varint
from plantroom.broker.properties import Property
from plantroom.broker.settings import BrokerLimits
from tests.broker.exactly_once import frame
from tests.broker.harness import (
    DISCONNECT,
    Live,
    Raw,
    connect,
    packet,
    padded,
    publish,
    running,
    subscribe,
    text,
    unsubscribe,
    until,
)

CASES = 60
LONG_CASES = int(os.environ.get("PLANTROOM_FUZZ_CASES", "3000"))
CASE_S = 10.0
TOPICS = ("a", "a/b", "a/b/c", "$SYS/x", "", "a/+", "#", "/", "ü/\u0001", "\0")
FILTERS = ("a", "a/#", "+/b", "#", "+", "$share/g/a/#", "$share//a", "a/#/b", "$SYS/#", "", "+a")
LIMITS = BrokerLimits(
    sys_interval_s=0.0,
    packet_bytes_max=65_536,
    session_queue_bytes_max=65_536,
    sessions_max=200,
    session_subscriptions_max=20,
    retained_max=50,
    outbound_bytes_max=65_536,
)


PUBLISHING = (Property.USER, Property.MESSAGE_EXPIRY, Property.TOPIC_ALIAS, Property.CONTENT_TYPE)
CONNECTING = (
    Property.USER,
    Property.SESSION_EXPIRY,
    Property.RECEIVE_MAXIMUM,
    Property.MAXIMUM_PACKET_SIZE,
)


class Script:
    """What one connection says; some never err, some now and then, some most of the time."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.version = rng.choice((4, 5))
        self.mistakes = rng.choice((0.0, 0.02, 0.3))
        self.right: tuple[Callable[[], bytes], ...] = (
            self.publish,
            self.publish,
            self.publish,
            self.acknowledge,
            self.acknowledge,
            self.subscribe,
            self.unsubscribe,
            lambda: b"\xc0\x00",
        )
        self.wrong: tuple[Callable[[], bytes], ...] = (
            self.connect,
            self.noise,
            self.broken,
            lambda: DISCONNECT,
        )

    def errs(self) -> bool:
        return self.rng.random() < self.mistakes

    def whole(self) -> bytes:
        parts = [] if self.errs() else [self.connect()]
        parts += [self.packet() for _ in range(self.rng.randrange(60))]
        return b"".join(parts)

    def packet(self) -> bytes:
        if self.errs():
            return self.rng.choice(self.wrong)()
        data = self.rng.choice(self.right)()
        return padded(data) if self.pads() else data

    def pads(self) -> bool:
        """Whether a packet says its length at length: right in MQTT 3.1.1, wrong in 5."""
        return self.rng.random() < (0.1 if self.version == 4 else self.mistakes / 10)

    def properties(self, fitting: tuple[Property, ...]) -> dict[int, Any]:
        rng = self.rng
        if self.version != 5 or rng.random() < 0.5:
            return {}
        values: dict[int, Any] = {
            Property.USER: (("k", "v"),) * rng.randrange(1, 40),
            Property.MESSAGE_EXPIRY: rng.randrange(3),
            Property.TOPIC_ALIAS: rng.randrange(20) if self.errs() else rng.randrange(1, 17),
            Property.CONTENT_TYPE: "x/y",
            Property.SUBSCRIPTION_ID: rng.randrange(1, 300),
            Property.SESSION_EXPIRY: rng.choice((0, 60, 2**32 - 1)),
            Property.RECEIVE_MAXIMUM: 0 if self.errs() else rng.choice((1, 3, 65_535)),
            Property.MAXIMUM_PACKET_SIZE: 0 if self.errs() else rng.choice((1, 20, 100_000)),
        }
        names = sorted(values) if self.errs() else fitting
        return {name: values[name] for name in rng.sample(names, rng.randrange(1, len(fitting)))}

    def connect(self) -> bytes:
        rng = self.rng
        will = None
        if rng.random() < 0.3:
            topic = rng.choice(TOPICS if self.errs() else TOPICS[:3])
            will = (topic, b"will", rng.randrange(3), rng.random() < 0.5)
        return connect(
            "x" * 2000 if self.errs() else rng.choice(("one", "two", "three", "four")),
            version=rng.randrange(256) if self.errs() else self.version,
            clean=rng.random() < 0.6,
            keepalive_s=rng.choice((0, 1, 60)),
            will=will,
            properties=self.properties(CONNECTING),
        )

    def publish(self) -> bytes:
        rng = self.rng
        return publish(
            rng.choice(TOPICS if self.errs() else TOPICS[:3]),
            rng.randbytes(rng.choice((0, 1, 100, 5000))),
            qos=3 if self.errs() else rng.randrange(3),
            packet_id=rng.choice((0, 65_535)) if self.errs() else rng.randrange(1, 9),
            retain=rng.random() < 0.3,
            dup=self.errs(),
            version=self.version,
            properties=self.properties(PUBLISHING),
        )

    def acknowledge(self) -> bytes:
        first = self.rng.choice((0x60, 0x41) if self.errs() else (0x40, 0x50, 0x62, 0x70))
        number = 0 if self.errs() else self.rng.randrange(1, 9)
        body = number.to_bytes(2, "big")
        if self.version == 5 and self.rng.random() < 0.3:
            body += bytes((self.rng.choice((0, 0x10, 0x80, 0x92)),))
        return packet(first, body)

    def subscribe(self) -> bytes:
        rng = self.rng
        options = (3, 0x2E, 0xC0) if self.errs() else (0, 1, 2, 2)
        filters = [(rng.choice(FILTERS), rng.choice(options)) for _ in range(3)]
        least = 0 if self.errs() else 1
        return subscribe(*filters[: rng.randrange(least, 4)], packet_id=1, version=self.version)

    def unsubscribe(self) -> bytes:
        return unsubscribe(self.rng.sample(FILTERS, 2), version=self.version)

    def noise(self) -> bytes:
        return self.rng.randbytes(self.rng.randrange(1, 60))

    def broken(self) -> bytes:
        """Make a good packet with one bit changed, or too long, or too short."""
        good = bytearray(self.rng.choice((self.publish, self.subscribe, self.acknowledge))())
        how = self.rng.randrange(3)
        if how == 0:
            good[self.rng.randrange(len(good))] ^= 1 << self.rng.randrange(8)
            return bytes(good)
        if how == 1:
            return bytes(good[:-1])
        return bytes((good[0],)) + varint(self.rng.choice((70_000, 268_435_455))) + text("a")


async def speak(live: Live, rng: random.Random, script: bytes) -> None:
    """Say it in pieces; read, or do not; end in one of the ways to end."""
    raw = await live.open()
    reads = rng.random() < 0.7
    reading = asyncio.create_task(drain(raw), name="test.drain") if reads else None
    position = 0
    with suppress(ConnectionError):
        while position < len(script):
            size = rng.choice((1, 3, 50, 1000, 100_000))
            raw.send(script[position : position + size])
            position += size
            await asyncio.sleep(0)
            await raw.writer.drain()
    if reading is not None and rng.random() < 0.5:
        await asyncio.wait([reading], timeout=0.05)
    if rng.random() < 0.5:
        raw.cut()
    else:
        raw.close()
    if reading is not None:
        reading.cancel()
        await asyncio.wait([reading])


async def drain(raw: Raw) -> None:
    """Read, and answer as a client does: not always, and not always in time."""
    with suppress(ConnectionError):
        while data := await raw.reader.read(65_536):
            if len(data) % 3 and not raw.writer.is_closing():
                raw.send(b"".join(frame(first, 1) for first in (0x40, 0x50, 0x70)))


async def round_trip(live: Live, number: int) -> None:
    raw = await live.client("well-behaved", version=5)
    topic = f"well/{number}"
    assert list(await raw.subscribe((topic, 1))) == [1]
    raw.publish(topic, b"payload")
    frames = [await raw.frame() for _ in range(2)]
    assert sorted(first >> 4 for first, _ in frames) == [3, 4]
    raw.send(DISCONNECT)
    assert await raw.closed()
    raw.close()


async def case(live: Live, seed: int, number: int) -> None:
    """Run one case; everything is as before afterwards."""
    rng = random.Random(seed)  # noqa: S311 -- a test that replays
    started_s = time.monotonic()
    async with asyncio.timeout(2 * CASE_S), asyncio.TaskGroup() as tasks:
        for _ in range(rng.randrange(1, 6)):
            script = Script(rng).whole()
            tasks.create_task(speak(live, rng, script), name="test.speak")
    await round_trip(live, number)
    engine = live.broker._engine
    await until(lambda: not engine.connections, "every connection to end")
    assert len(engine.doorway) == engine.doorway.handshakes == 0
    for client in engine.clients:
        assert client.connection is None
        assert client.expiry_s > 0, "a session that was not to be kept"
    assert time.monotonic() - started_s < CASE_S
    live.keep_clients()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


async def campaign(seeds: Iterator[int]) -> None:
    async with running(limits=LIMITS) as live:
        await round_trip(live, 0)
        engine = live.broker._engine
        await until(lambda: not engine.connections)
        tasks, open_files = len(asyncio.all_tasks()), descriptors()
        for number, seed in enumerate(seeds, 1):
            try:
                await case(live, seed, number)
            except BaseException as error:
                error.add_note(f"fuzz seed {seed}, case {number}")
                raise
        live.clock.jump(100)
        await until(lambda: len(asyncio.all_tasks()) <= tasks, "every task to end")
        await until(lambda: descriptors() <= open_files, "every descriptor to be closed")
        counters = engine.counters
        assert counters.publishes_received > len(TOPICS)
        assert counters.protocol_errors > 0
        assert engine.tree.size == sum(len(client.subscriptions) for client in engine.clients)
        forever = [client for client in engine.clients if client.expiry_s >= 604_800]
        await until(lambda: len(engine.clients) <= len(forever), "sessions to expire")
        assert len(engine.clients) <= LIMITS.sessions_max
        assert engine.retained.size <= LIMITS.retained_max


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a client sends is an error of the broker's."""
    logging.getLogger("plantroom.broker.audit").setLevel(logging.ERROR)
    with caplog.at_level(logging.WARNING):
        yield
    logging.getLogger("plantroom.broker.audit").setLevel(logging.NOTSET)
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert said == []


@pytest.mark.usefixtures("complaints")
def test_packets_in_any_sequence_do_no_harm() -> None:
    asyncio.run(campaign(iter(range(CASES))))


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("complaints")
def test_packets_in_any_sequence_for_long() -> None:
    first = int(os.environ.get("PLANTROOM_CHAOS_SEED") or random.SystemRandom().randrange(1 << 48))
    print(f"{LONG_CASES} cases from seed {first}")  # noqa: T201 -- a report
    asyncio.run(campaign(iter(range(first, first + LONG_CASES))))
