"""Connections: bytes in pieces, garbage, sizes, keep-alive, storage that fails."""

import asyncio
import logging

import pytest

from plantroom.broker.codes import Code
from plantroom.broker.connection import Connection
from plantroom.broker.memory import MemorySink
from plantroom.broker.settings import BrokerLimits
from plantroom.wire.errors import StorageFullError
from plantroom.wire.identity import Principal
from tests.broker.harness import HVAC, connect, publish, running, until


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, b"\x30\x03\x00\x01a", b"\x10\xff\xff\xff\xff\xff"],
)
def test_garbage_is_named_in_the_audit_and_closed(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running() as live:
            good = await live.client("good")
            bad = await live.open()
            bad.send(garbage)
            assert await bad.closed()
            assert await good.silent()

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    lines = [r.getMessage() for r in caplog.records if "event=refused" in r.getMessage()]
    assert len(lines) == 1
    assert "reason=" in lines[0]


def test_packets_may_come_byte_by_byte() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            for byte in connect("slow") + publish("a/b", b"payload" * 40, packet_id=7):
                raw.send(bytes((byte,)))
                await raw.writer.drain()
                await asyncio.sleep(0)
            assert (await raw.frame())[0] == 0x20
            await raw.acknowledged(7)

    asyncio.run(scenario())


def test_oversized_packet_is_refused_before_it_is_read() -> None:
    async def scenario() -> None:
        async with running(limits=BrokerLimits(packet_bytes_max=2048, sys_interval_s=0.0)) as live:
            raw = await live.client("big", version=5)
            raw.send(b"\x32\x81\x80\x01")
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, Code.PACKET_TOO_LARGE)
            assert b"2048 are allowed" in body
            assert await raw.closed()

    asyncio.run(scenario())


def test_keepalive_is_enforced_at_one_and_a_half_times() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("quiet", version=5, keepalive_s=100)
            live.clock.jump(145)
            assert await raw.silent()
            live.clock.jump(151)
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, Code.KEEP_ALIVE_TIMEOUT)
            assert await raw.closed()

    asyncio.run(scenario())


def test_keepalive_counts_from_the_packet_itself() -> None:
    # [MQTT-3.1.2-22]: not from when the broker last looked at its clock, which may be long before
    async def scenario() -> None:
        async with running() as live:
            await live.client("prompt", version=5, keepalive_s=1)
            (connection,) = live.broker._engine.connections
            assert isinstance(connection, Connection)
            live.clock.jump(1)  # nothing is awaited up to the last line: no look at it meanwhile
            connection.data_received(b"\xc0\0")
            live.clock.jump(1.5)
            assert connection.overdue(live.clock.monotonic_us()) is None
            live.clock.jump(0.001)
            assert connection.overdue(live.clock.monotonic_us()) == "keep-alive timeout"

    asyncio.run(scenario())


def test_a_client_that_is_not_read_is_not_silent() -> None:
    # a slow disk or a slow decision is the broker's delay: the client's PINGREQ waits unread
    async def scenario() -> None:
        async with running() as live:
            await live.client("unread", version=5, keepalive_s=1)
            (connection,) = live.broker._engine.connections
            assert isinstance(connection, Connection)
            connection.stop()
            live.clock.jump(10)
            assert connection.overdue(live.clock.monotonic_us()) is None
            connection.go_on()
            live.clock.jump(1.5)
            assert connection.overdue(live.clock.monotonic_us()) is None
            live.clock.jump(0.001)
            assert connection.overdue(live.clock.monotonic_us()) == "keep-alive timeout"

    asyncio.run(scenario())


def test_connection_without_connect_is_closed_in_time() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            await until(lambda: live.broker._engine.connections)
            live.clock.jump(11)
            assert await raw.closed()

    asyncio.run(scenario())


def test_full_disk_is_0x97_for_mqtt_5_and_good_again_afterwards() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, taps=("t/#",)) as live:
            raw = await live.client("five", version=5)
            sink.fault = StorageFullError("no space left")
            raw.publish("t/1", packet_id=1)
            assert await raw.frame() == (0x40, b"\x00\x01" + bytes((Code.QUOTA_EXCEEDED,)))
            assert not sink.segments
            sink.fault = None
            raw.publish("t/1", packet_id=2)
            await raw.acknowledged(2)
            assert len(sink.segments) == 1

    asyncio.run(scenario())


def test_full_disk_holds_mqtt_3_without_puback_and_closes_it_after_10_s() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, taps=("t/#",)) as live:
            raw = await live.client("three")
            sink.fault = StorageFullError("no space left")
            raw.publish("t/1", packet_id=1)
            await until(lambda: live.broker._engine.journal.failures)
            sink.fault = None
            raw.publish("t/1", packet_id=2)  # not even this one: PUBACKs keep their order
            live.clock.jump(9)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.6):
                    await raw.reader.read(1)
            live.clock.jump(2)
            assert await raw.closed()
            assert not sink.segments

    asyncio.run(scenario())


def test_expired_svid_ends_the_connection() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("old", version=5)
            (connection,) = live.broker._engine.connections
            connection.peer.principal = Principal(
                spiffe_id=HVAC,
                serial="1",
                not_after_s=live.clock.wall_us() // 1_000_000 + 100,
            )
            assert await raw.silent()
            live.clock.jump(101)
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, Code.MAXIMUM_CONNECT_TIME)

    asyncio.run(scenario())


def test_client_that_does_not_read_is_cut_off() -> None:
    async def scenario() -> None:
        limits = BrokerLimits(
            sys_interval_s=0.0, session_queue_bytes_max=65_536, outbound_bytes_max=65_536
        )
        async with running(limits=limits) as live:
            lazy = await live.client("lazy")
            await lazy.subscribe(("a/#", 1))
            busy = await live.client("busy")
            for number in range(1, 200):
                busy.publish("a/b", b"x" * 50_000, packet_id=number)
                await busy.acknowledged(number)
            await until(lambda: live.broker._engine.counters.slow_consumers)
            assert await busy.silent()

    asyncio.run(scenario())
