"""One connection, seen from the wire; whole conversations are in test_bridge."""

import asyncio
from typing import Any

import pytest

from plantroom.gateway.bridge import Nobody
from plantroom.gateway.crossing import Upward
from plantroom.gateway.exchange import Exchange
from plantroom.gateway.lanes import Lanes
from plantroom.gateway.pace import Pace, Progress
from plantroom.gateway.uplink import Uplink
from plantroom.wire import envelope
from plantroom.wire.envelope import Presence, Receipt
from plantroom.wire.errors import UnreachableError
from plantroom.wire.link import Message


def make(rig: Any, lab: Any, link: Any, **pace: Any) -> tuple[Uplink, Lanes, Progress]:
    async def deliver(_message: Message) -> None:
        return

    upward = Upward(site=lab.SITE, trust_domain=lab.TRUST_DOMAIN, own_publisher="us")
    lanes, progress = Lanes(4), Progress(rig.clock)
    exchange = Exchange(link, upward, site=lab.SITE, trust_domain=lab.TRUST_DOMAIN, deliver=deliver)
    uplink = Uplink(
        link,
        rig.queue,
        lanes,
        exchange,
        site=lab.SITE,
        pace=Pace(**{"linger_s": 0.0, "backfill_readings_max": 5} | pace),
        clock=rig.clock,
        progress=progress,
        presence=lambda online: Presence(online=online, epoch=rig.queue.incarnation),
        sensors=Nobody(),
    )
    return uplink, lanes, progress


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_no_batch_leaves_before_a_hello_is_answered(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        cloud.silent = True
        await rig.start()
        await rig.receive(lab.pack([lab.reading(0)]))
        async with cloud.connect() as link:
            uplink, lanes, progress = make(rig, lab, link, answer_timeout_s=0.1)
            with pytest.RaisesGroup(UnreachableError):
                await uplink.run()
        assert {message.topic for message in cloud.published} == {
            f"v1/{lab.SITE}/uplink/gateway/hello"
        }
        assert not len(lanes)
        assert progress.heard_us is None

    asyncio.run(scenario())


def test_a_batch_without_receipt_is_sent_again_unchanged(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        deaf = True
        rig = make_rig(clock=lab.FastClock(50))
        cloud: Any = lab.SimCloud(lambda name: deaf and name == "lose-down" and bool(cloud.batches))
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(3))))

        def batches() -> list[bytes]:
            return [one.payload for one in cloud.published if one.topic.endswith("/backfill")]

        async with cloud.connect() as link:
            uplink, _, _ = make(rig, lab, link, answer_timeout_s=3600)
            task = asyncio.create_task(uplink.run())
            await lab.until(lambda: len(batches()) >= 2)
            deaf = False
            await lab.until(lambda: rig.queue._line.in_air == set())
            await stopped(task)
        assert len(set(batches())) == 1
        assert cloud.duplicates > 0
        assert cloud.seqs() == [0, 1, 2]

    asyncio.run(scenario())


def test_what_is_not_an_answer_is_counted_and_does_no_harm(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        async with cloud.connect() as link:
            uplink, _, progress = make(rig, lab, link)
            task = asyncio.create_task(uplink.run())
            await lab.until(uplink.ready.is_set)
            topic = f"v1/{lab.SITE}/receipt/gateway"
            link.arrive(Message(topic=topic, payload=b"\xff garbage"))
            link.arrive(Message(topic="not/ours", payload=b""))
            foreign = Receipt(incarnation=5, number=0, store_id="x", commit=1)
            link.arrive(Message(topic=topic, payload=envelope.encode(foreign)))
            await lab.until(lambda: (progress.refused, progress.ignored) == (2, 1))
            await rig.receive(lab.pack([lab.reading(0)]))
            uplink.wake()
            await lab.until(lambda: cloud.seqs() == [0])
            await stopped(task)

    asyncio.run(scenario())


def test_leaving_says_goodbye(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        async with cloud.connect() as link:
            uplink, _, _ = make(rig, lab, link)
            task = asyncio.create_task(uplink.run())
            await lab.until(uplink.ready.is_set)
            await stopped(task)
        said = [
            envelope.decode(one.payload, Presence).online
            for one in cloud.published
            if one.topic == f"v1/{lab.SITE}/presence/gateway"
        ]
        assert said == [True, False]

    asyncio.run(scenario())
