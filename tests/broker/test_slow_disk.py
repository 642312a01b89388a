"""A disk that hangs: what waits for it is bounded, whatever the clients send meanwhile."""

import asyncio

import pytest

from plantroom.broker.settings import BrokerLimits
from tests.broker.harness import Live, Raw, publish, running, until
from tests.broker.test_journal import SlowSink

DEPTH = 65_536


async def hanging(live: Live, sink: SlowSink) -> Raw:
    """A client whose session is just being stored, for as long as the disk likes."""
    reader = await live.open()
    sink.go.clear()
    batches = len(sink.batches)
    reader.send(b"\x10\x0d\0\x04MQTT\x04\0\0\0\0\x01k")  # a session that is kept
    await until(lambda: len(sink.batches) > batches, "the commit that hangs")
    return reader


@pytest.mark.parametrize("kind", ["QoS 0", "PUBREL", "retained", "UNSUBSCRIBE"])
def test_reading_stops_when_too_much_waits(kind: str) -> None:
    one = {
        "QoS 0": publish("a/b", b"x" * 500, qos=0),
        "retained": publish("a/b", b"x" * 500, qos=0, retain=True),
        "PUBREL": b"\x62\x02\0\1",
        "UNSUBSCRIBE": b"\xa2\x06\0\1\0\2ab",
    }[kind]

    async def scenario() -> None:
        sink = SlowSink()
        sink.go.set()
        limits = BrokerLimits(sys_interval_s=0.0, commit_depth_bytes_max=DEPTH)
        async with running(sink=sink, limits=limits) as live:
            flood = await live.client("flood")
            await hanging(live, sink)
            engine = live.broker._engine
            flood.send(one * (16_000_000 // len(one)))
            await until(lambda: engine.journal.deep, "reading to stop")
            received = -1
            while received != engine.counters.bytes_received:
                received = engine.counters.bytes_received
                await asyncio.sleep(0.1)
            assert received < 2_000_000, f"{received} bytes of 16 million were read"
            sink.go.set()
            await until(lambda: engine.counters.bytes_received > received, "reading to go on")
            flood.cut()

    asyncio.run(scenario())
