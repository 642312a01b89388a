import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from plantroom.gateway.bridge import Bridge, Nobody, backoff_s
from plantroom.gateway.crossing import Upward
from plantroom.gateway.pace import Pace
from plantroom.wire.envelope import Presence, Refill, Span
from plantroom.wire.link import Message

PACE = Pace(
    live_readings_max=10,
    backfill_readings_max=10,
    linger_s=0.0,
    window=4,
    hello_s=0.3,
    answer_timeout_s=3.0,
)


def make_bridge(rig: Any, cloud: Any, lab: Any, **more: Any) -> Bridge:
    delivered: list[Message] = more.pop("delivered", [])

    async def deliver(message: Message) -> None:
        delivered.append(message)

    upward = more.pop("upward", None) or Upward(
        site=lab.SITE, trust_domain=lab.TRUST_DOMAIN, own_publisher="us"
    )
    return Bridge(
        rig.queue,
        upward,
        connect=cloud.connect,
        site=lab.SITE,
        trust_domain=lab.TRUST_DOMAIN,
        pace=more.pop("pace", PACE),
        clock=rig.clock,
        chance=lambda: 0.01,
        deliver=deliver,
        presence=lambda online: Presence(online=online, epoch=rig.queue.incarnation),
        sensors=more.pop("sensors", None),
    )


async def with_bridge(bridge: Bridge, work: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(bridge.run())
    worker = asyncio.ensure_future(work())
    try:
        await asyncio.wait({task, worker}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        await worker
    finally:
        worker.cancel()
        task.cancel()
        await asyncio.gather(task, worker, return_exceptions=True)


async def drained(rig: Any, bridge: Bridge, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            standings = await rig.queue.standings()
            if not standings.waiting.readings and not standings.notes:
                break
            bridge.wake()
            await asyncio.sleep(0.01)


def test_backlog_and_live_both_arrive_and_are_confirmed(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(25))))
        bridge = make_bridge(rig, cloud, lab)

        async def work() -> None:
            await lab.until(lambda: bridge.connected)
            await rig.receive(lab.pack(map(lab.reading, range(25, 40))))
            bridge.wake()
            await drained(rig, bridge)
            await lab.until(lambda: bridge.state == "live")

        await with_bridge(bridge, work)
        assert cloud.seqs() == list(range(40))
        lanes = {one.seq: batch.lane for batch in cloud.batches for one in batch.readings}
        assert {lanes[n] for n in range(25)} == {"backfill"}
        assert {lanes[n] for n in range(25, 40)} == {"live"}
        assert (await rig.book())["confirmed"] == [[0, 39]]
        assert len(await rig.seqs(2)) == 40  # history stays
        await rig.check()

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(12))
def test_loss_duplicates_reorder_cuts_and_restarts_lose_nothing(
    make_rig: Any, lab: Any, seed: int
) -> None:
    async def scenario() -> None:
        dice = random.Random(seed)  # noqa: S311 -- reproducible
        calm = False

        def chance(_name: str) -> bool:
            return not calm and dice.random() < 0.15

        rig = make_rig(clock=lab.FastClock(100))
        cloud = lab.SimCloud(chance)
        await rig.start()
        taken = 0
        for _ in range(3):
            bridge = make_bridge(
                rig,
                cloud,
                lab,
                pace=Pace(
                    live_readings_max=10,
                    backfill_readings_max=10,
                    linger_s=0.0,
                    window=4,
                    hello_s=0.1,
                    answer_timeout_s=4.0,
                ),
            )

            async def work(bridge: Bridge = bridge) -> None:
                nonlocal taken
                for _ in range(12):
                    count = dice.randrange(1, 12)
                    rows = list(map(lab.reading, range(taken, taken + count)))
                    taken += count
                    if dice.random() < 0.3:
                        rows.reverse()
                    await rig.receive(lab.pack(rows))
                    bridge.wake()
                    await asyncio.sleep(0.005)
                    if dice.random() < 0.2:
                        cloud.cut()

            await with_bridge(bridge, work)
            await rig.restart()
        calm = True
        bridge = make_bridge(rig, cloud, lab)
        await with_bridge(bridge, lambda: drained(rig, bridge))
        assert cloud.seqs() == list(range(taken))
        assert (await rig.book())["confirmed"] == [[0, taken - 1]]
        await rig.check()

    asyncio.run(scenario())


def test_a_receipt_of_another_incarnation_or_a_former_store_is_ignored(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        await rig.receive(lab.pack([lab.reading(0)]))
        taken = await rig.queue.take("live", readings_max=9, bytes_max=9999, notes_max=9)
        from plantroom.gateway.lanes import Lanes
        from plantroom.wire.envelope import Receipt

        flight = Lanes().launch("live", taken.rows)
        span = Span(device=lab.device(), epoch=7, first=0, last=0)

        def receipt(store: str) -> Receipt:
            return Receipt(incarnation=1, number=0, store_id=store, commit=1, stored=(span,))

        assert (await rig.queue.settle(receipt("a"), flight)).confirmed == 1
        assert await rig.queue.standing_of("b") == "changed"
        assert (await rig.book())["confirmed"] == []
        assert (await rig.queue.settle(receipt("a"), flight)).standing == "former"
        assert (await rig.book())["confirmed"] == []
        del cloud

    asyncio.run(scenario())


def test_a_new_store_is_filled_again_from_the_history(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(30))))
        bridge = make_bridge(rig, cloud, lab)

        async def work() -> None:
            await drained(rig, bridge)
            cloud.store_id, cloud.commits = "store-2", 0
            cloud.stored.clear()
            await lab.until(lambda: len(cloud.seqs()) == 30)
            await drained(rig, bridge)

        await with_bridge(bridge, work)
        assert cloud.seqs() == list(range(30))
        assert (await rig.book())["confirmed"] == [[0, 29]]

    asyncio.run(scenario())


def test_ranges_that_have_shrunk_are_sent_again(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(30))))
        bridge = make_bridge(rig, cloud, lab)

        async def work() -> None:
            await drained(rig, bridge)
            for seq in range(10, 20):
                del cloud.stored[lab.device(), 7, seq]
            await lab.until(lambda: len(cloud.seqs()) == 30)

        await with_bridge(bridge, work)

    asyncio.run(scenario())


def test_an_unreadable_batch_is_halved_until_the_culprit_is_alone(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        cloud.poison = {13}
        await rig.receive(lab.pack(map(lab.reading, range(20))))
        bridge = make_bridge(rig, cloud, lab)
        await with_bridge(bridge, lambda: drained(rig, bridge))
        assert cloud.seqs() == [n for n in range(20) if n != 13]
        book = await rig.book()
        assert book["quarantined"] == [[13, 13]]
        assert [note.reason for note in cloud.noted.values()] == ["unreadable"]
        assert len(await rig.sql("SELECT raw FROM quarantine WHERE raw IS NOT NULL")) == 1
        await rig.check()

    asyncio.run(scenario())


def test_what_the_cloud_quarantines_is_booked_and_does_not_block(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        cloud.bad = {3}
        await rig.receive(lab.pack(map(lab.reading, range(8))))
        bridge = make_bridge(rig, cloud, lab)
        await with_bridge(bridge, lambda: drained(rig, bridge))
        book = await rig.book()
        assert book["quarantined"] == [[3, 3]]
        assert book["confirmed"] == [[0, 2], [4, 7]]
        assert book["reasons"] == {"quarantined(bad)": 1}

    asyncio.run(scenario())


class Listening(Nobody):
    """Sensors that only remember what they were asked."""

    def __init__(self) -> None:
        self.asked: list[Span] = []

    async def resend(self, holes: Sequence[Span]) -> None:
        self.asked += holes


def test_a_refill_is_answered_from_the_queue_the_books_or_the_sensor(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(10))))
        await rig.receive(lab.pack([], payload=b"\xff", user={"range": "7/10/11"}))
        sensors = Listening()
        bridge = make_bridge(rig, cloud, lab, sensors=sensors)

        async def work() -> None:
            await drained(rig, bridge)
            await rig.database.write(lambda sql: sql.execute("DELETE FROM reading WHERE seq = 4"))
            for seq in (4, 6):
                del cloud.stored[lab.device(), 7, seq]
            cloud.noted.clear()
            hole = Span(device=lab.device(), epoch=7, first=4, last=20)
            refill = Refill(store_id=cloud.store_id, commit=cloud.commits, holes=(hole,))
            cloud.send(cloud.links[-1], f"v1/{lab.SITE}/refill/gateway", refill)
            await lab.until(lambda: 6 in cloud.seqs() and len(cloud.noted) == 1)

        await with_bridge(bridge, work)
        said = {(note.kind, note.first, note.last) for note in cloud.noted.values()}
        assert said == {("quarantined", 10, 11)}
        assert [(hole.first, hole.last) for hole in sensors.asked] == [(4, 4), (12, 20)]

    asyncio.run(scenario())


def test_an_older_answer_than_the_last_is_ignored(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(10))))
        bridge = make_bridge(rig, cloud, lab)
        await with_bridge(bridge, lambda: drained(rig, bridge))
        hole = Span(device=lab.device(), epoch=7, first=0, last=9)
        await rig.queue.refill(Refill(store_id="store-1", commit=0, holes=(hole,)))
        assert (await rig.book())["confirmed"] == [[0, 9]]

    asyncio.run(scenario())


def test_a_cloud_that_is_silent_is_not_connected(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        cloud.silent = True
        pace = Pace(linger_s=0.0, answer_timeout_s=0.2, hello_s=5)
        bridge = make_bridge(rig, cloud, lab, pace=pace)

        async def work() -> None:
            await lab.until(lambda: len(cloud.links) >= 2)
            assert not bridge.connected
            cloud.silent = False
            await lab.until(lambda: bridge.connected)
            cloud.silent = True
            await rig.receive(lab.pack([lab.reading(0)]))
            bridge.wake()
            await lab.until(lambda: not bridge.connected)

        await with_bridge(bridge, work)

    asyncio.run(scenario())


def test_the_gateway_starts_and_queues_without_a_cloud(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        cloud.online = False
        bridge = make_bridge(rig, cloud, lab)

        async def work() -> None:
            await rig.receive(lab.pack(map(lab.reading, range(5))))
            await lab.until(lambda: bridge.last_error != "")
            assert bridge.last_error == "the WAN is cut"
            cloud.online = True
            bridge.reconnect("test")
            await drained(rig, bridge)

        await with_bridge(bridge, work)
        assert cloud.seqs() == list(range(5))

    asyncio.run(scenario())


def test_presence_crosses_up_and_desired_comes_down(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        delivered: list[Message] = []
        upward = Upward(site=lab.SITE, trust_domain=lab.TRUST_DOMAIN, own_publisher="us")
        bridge = make_bridge(rig, cloud, lab, delivered=delivered, upward=upward)
        birth = Message(topic=f"v1/{lab.SITE}/presence/hvac-001", payload=b"birth", retain=True)
        desired = Message(topic=f"v1/{lab.SITE}/twin/hvac-001/desired", payload=b"x", retain=True)

        def births() -> int:
            return sum(message.payload == b"birth" for message in cloud.published)

        async def work() -> None:
            upward.offer(birth, "them")
            upward.offer(desired, "us")
            await lab.until(lambda: births() == 1)
            cloud.links[-1].arrive(desired)
            cloud.links[-1].arrive(birth)
            await lab.until(lambda: delivered == [desired])
            cloud.cut()
            await lab.until(lambda: births() == 2)

        await with_bridge(bridge, work)
        topics = [message.topic for message in cloud.published]
        assert f"v1/{lab.SITE}/presence/gateway" in topics
        assert f"v1/{lab.SITE}/twin/hvac-001/desired" not in topics

    asyncio.run(scenario())


def test_backoff_is_fully_jittered_between_one_and_thirty_seconds() -> None:
    assert backoff_s(0, 0.5) == 0
    delays = [backoff_s(n, chance / 10) for n in range(1, 20) for chance in range(11)]
    assert max(delays) == 30
    assert all(0 <= delay <= 30 for delay in delays)
