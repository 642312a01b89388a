"""The queue below a real broker on real sockets, and what taking from it promises."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from plantroom.broker import segments
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.store import MIGRATIONS as BROKER_TABLES
from plantroom.broker.store import SqliteStore
from plantroom.gateway.derive import Deriver
from plantroom.gateway.holding import FULL, Holding
from plantroom.gateway.queue_schema import CONFIRMED
from plantroom.gateway.queue_schema import MIGRATIONS as QUEUE_TABLES
from plantroom.gateway.spool import Queue
from plantroom.gateway.tables import Life, move
from plantroom.wire.clock import SystemClock
from plantroom.wire.database import Database
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Principal
from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink


def nobody(_connection: Any) -> Principal:
    raise IdentityError("no TLS here", reason="test")


@asynccontextmanager
async def real(path: Path, lab: Any, **limits: Any) -> AsyncIterator[tuple[Queue, int, Holding]]:
    """A broker, its queue and the stage between them, on one file."""
    database = Database.open(path, BROKER_TABLES | QUEUE_TABLES)
    clock = SystemClock()
    life = Life(incarnation=1, clock=clock, random_bits=lambda _: 5)
    queue = Queue(database, life, lab.limits(**limits))
    await queue.start()
    broker = Broker(
        limits=BrokerLimits(),
        store=SqliteStore(database),
        admit=nobody,
        decisions=None,
        clock=clock,
        taps=(f"v1/{lab.SITE}/telemetry/+",),
    )
    async with broker:
        holding = Holding(broker.tap_hold)
        deriver = Deriver(
            database,
            queue,
            arrivals=segments.arrivals,
            trust_domain=lab.TRUST_DOMAIN,
            holding=holding,
            derived=lambda _: None,
        )
        broker.on_tapped(deriver.wake)
        port = await broker.listen("127.0.0.1", 0, None)
        stage = asyncio.create_task(deriver.run())
        try:
            yield queue, port, holding
        finally:
            stage.cancel()
            await asyncio.gather(stage, return_exceptions=True)
    database.close()


def telemetry(lab: Any, first: int, count: int) -> Message:
    arrival = lab.pack([lab.reading(n) for n in range(first, first + count)])
    return Message(topic=arrival.topic, payload=arrival.payload, user=arrival.user)


async def waiting(queue: Queue, wanted: int) -> None:
    async with asyncio.timeout(60):
        while (await queue.standings()).waiting.readings != wanted:  # noqa: ASYNC110 -- on disk
            await asyncio.sleep(0.01)


def test_what_a_broker_has_acknowledged_is_in_the_queue(tmp_path: Path, lab: Any) -> None:
    async def scenario() -> None:
        async with real(tmp_path / "q.db", lab) as (queue, port, _):
            async with MqttLink("127.0.0.1", port, "s", None) as link:
                codes = await asyncio.gather(
                    *(link.publish(telemetry(lab, 10 * n, 10)) for n in range(20))
                )
                assert set(codes) == {0}
            await waiting(queue, 200)
        async with real(tmp_path / "q.db", lab) as (queue, _, _):
            [book] = await queue.ledger()
            assert book["received"] == [[0, 199]]

    asyncio.run(scenario())


def test_a_full_queue_is_refused_with_quota_exceeded_until_it_drains(
    tmp_path: Path, lab: Any
) -> None:
    async def scenario() -> None:
        async with (
            real(tmp_path / "q.db", lab, readings_max=100) as (queue, port, holding),
            MqttLink("127.0.0.1", port, "s", None) as link,
        ):
            assert await link.publish(telemetry(lab, 0, 100)) == 0
            await waiting(queue, 100)
            assert await link.publish(telemetry(lab, 100, 10)) == 0x97
            other = Message(topic="v1/building-1/presence/hvac-001", payload=b"x")
            assert await link.publish(other) == 0
            await queue._database.write(lambda sql: move(sql, range(1, 51), CONFIRMED))
            holding.set(FULL, holds=await queue.tidy())
            assert await link.publish(telemetry(lab, 100, 10)) == 0
            await waiting(queue, 60)

    asyncio.run(scenario())


def test_what_was_taken_for_a_lost_link_is_back_in_line(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(10))))
        await rig.queue.connected([])

        async def take() -> list[int]:
            taken = await rig.queue.take("backfill", readings_max=4, bytes_max=9999, notes_max=9)
            return [row.seq for row in taken.rows]

        assert await take() == [0, 1, 2, 3]
        assert await take() == [4, 5, 6, 7]
        await rig.queue.connected([])
        assert await take() == [0, 1, 2, 3]

    asyncio.run(scenario())


def test_a_batch_is_bounded_by_bytes_but_never_empty(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(10))))
        await rig.queue.connected([])
        size = len(lab.reading(0).canonical())
        taken = await rig.queue.take("backfill", readings_max=9, bytes_max=3 * size, notes_max=9)
        assert len(taken.rows) == 3
        taken = await rig.queue.take("backfill", readings_max=9, bytes_max=1, notes_max=9)
        assert len(taken.rows) == 1
        assert taken.heads == {lab.device(): {7: 9}}

    asyncio.run(scenario())


def test_a_live_backlog_that_grows_too_long_is_left_to_backfill(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.queue.connected([])
        for first in range(0, 21_000, 1_500):
            await rig.receive(lab.pack(map(lab.reading, range(first, first + 1_500))))
        taken = await rig.queue.take("live", readings_max=5, bytes_max=99999, notes_max=0)
        assert not taken.rows
        await rig.receive(lab.pack([lab.reading(21_000)]))
        taken = await rig.queue.take("live", readings_max=5, bytes_max=99999, notes_max=0)
        assert [row.seq for row in taken.rows] == [21_000]
        taken = await rig.queue.take("backfill", readings_max=5, bytes_max=99999, notes_max=0)
        assert [row.seq for row in taken.rows] == [0, 1, 2, 3, 4]

    asyncio.run(scenario())
