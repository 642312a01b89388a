"""Clients that do not read: bounded in bytes, given time for a burst, then cut off."""

import asyncio
import socket

from tests.broker.harness import Raw, running, subscribe, ticked, until
from tests.broker.test_robustness import LINGER_S, hits, limited, served


def narrow(raw: Raw) -> None:
    """Take little into the kernel, and nothing into the program."""
    raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]


def test_answers_that_nobody_reads_have_a_bound() -> None:
    """PINGRESP, SUBACK and PUBACK come from no queue, and still have to stop somewhere."""

    async def scenario() -> None:
        async with running(limits=limited(outbound_bytes_max=65_536)) as live:
            raw = await live.client("lazy", version=5)
            narrow(raw)
            (connection,) = live.broker._engine.connections
            most = 0

            asking = subscribe(*((f"{number}#", 0) for number in range(900)), version=5)
            async with asyncio.timeout(30):
                while connection.open:
                    raw.send(b"\xc0\x00", asking)
                    await asyncio.sleep(0)
                    most = max(most, connection.unread_bytes)
            assert most <= 65_536 + 2 * 65_535, "at most one answer over it"
            assert hits(live, "outbound_bytes_max") == 1
            live.clock.jump(LINGER_S)
            await until(lambda: not live.broker._engine.connections)
            await served(live)

    asyncio.run(scenario())


def test_client_that_stops_reading_is_cut_off_but_a_slow_reader_of_a_burst_is_not() -> None:
    async def scenario() -> None:
        limits = limited(outbound_bytes_max=65_536, slow_consumer_s=10.0)
        async with running(limits=limits) as live:
            writer = await live.client("w")
            for number in range(400):  # more than the kernel takes for a client that does not read
                writer.publish(f"r/{number}", b"x" * 40_000, qos=0, retain=True)
            assert await writer.silent()
            reader, stuck = await live.client("reader"), await live.client("stuck", version=5)
            for raw in (reader, stuck):
                raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
                raw.send(subscribe(("r/#", 0), version=raw.version))
            engine = live.broker._engine
            await until(lambda: sum(c.blocked for c in engine.connections) == 2)
            reader.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert [first for first, _ in await reader.frames(401)].count(0x31) == 400
            live.clock.jump(5)
            await ticked(live)  # a look at it, and then at the same again
            live.clock.jump(11)
            await until(lambda: engine.counters.slow_consumers == 1)
            assert await reader.silent()

    asyncio.run(scenario())


def test_client_that_does_not_read_does_not_outlive_the_broker() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("stuck", version=5)
            narrow(raw)
            raw.send(subscribe(*((f"{number}#", 0) for number in range(900)), version=5) * 200)
            (connection,) = live.broker._engine.connections
            transport = connection._transport  # type: ignore[attr-defined]
            await until(lambda: connection.blocked)
            live.keep_clients()
        assert not live.broker._engine.connections
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        raw.close()

    asyncio.run(scenario())
