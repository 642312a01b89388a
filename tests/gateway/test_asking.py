"""What sensors are asked for the delivery's sake, against a real broker and a real outbox."""

import asyncio
import json
from pathlib import Path
from typing import Any

from plantroom.device import capabilities
from plantroom.device.capabilities import Calls
from plantroom.gateway.asking import Asking
from plantroom.wire import envelope, senml
from plantroom.wire.envelope import Call, Notes, Refill, Span
from plantroom.wire.link import Message
from tests.device.stand_ins import open_outbox, taken


class Building:
    """A building's broker that remembers."""

    def __init__(self, lab: Any, clock: Any) -> None:
        self.published: list[Message] = []
        self.asking = Asking(
            site=lab.SITE, trust_domain=lab.TRUST_DOMAIN, publish=self.publish, clock=clock
        )

    async def publish(self, message: Message) -> int:
        self.published.append(message)
        return 0

    async def say(self) -> None:
        """Let what waits be published."""
        stage = asyncio.create_task(self.asking.run())
        async with asyncio.timeout(60):
            while not self.asking._waiting.empty():  # noqa: ASYNC110 -- another task empties it
                await asyncio.sleep(0)
        stage.cancel()
        await asyncio.gather(stage, return_exceptions=True)


def hole(lab: Any, first: int, last: int, **more: Any) -> Span:
    return Span(**{"device": lab.device(), "epoch": 7, "first": first, "last": last} | more)


def test_holes_are_asked_of_each_sensor_in_bounded_calls_once_in_ten_seconds(lab: Any) -> None:
    async def scenario() -> None:
        clock = lab.FastClock()
        building = Building(lab, clock)
        holes = [hole(lab, 2 * n, 2 * n) for n in range(65)]
        holes.append(hole(lab, 0, 0, device="spiffe://other.local/agent/x"))
        holes.append(hole(lab, 0, 0, device=f"spiffe://{lab.TRUST_DOMAIN}/agent/a/b"))
        for _ in range(2):
            await building.asking.resend(holes)
        calls = [envelope.decode(one.payload, Call) for one in building.published]
        assert [len(call.data["ranges"]) for call in calls] == [64, 1]
        assert {one.topic for one in building.published} == {
            f"v1/{lab.SITE}/call/hvac-001/resend/gateway"
        }
        clock.skipped_us += 10_000_000
        await building.asking.resend(holes[:1])
        assert len(building.published) == 3

    asyncio.run(scenario())


def test_a_reused_epoch_raises_an_alarm_and_is_ended(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        building = Building(lab, rig.clock)
        await rig.receive(lab.pack(map(lab.reading, range(3))))
        await rig.receive(lab.pack([lab.reading(1, value=9.0)]))
        building.asking.derived(rig.derived)
        building.asking.derived(rig.derived)
        await building.say()
        alarm, call = building.published
        assert (alarm.topic, alarm.retain) == (f"v1/{lab.SITE}/alarm/epoch-reuse/hvac-001", True)
        assert json.loads(alarm.payload)["state"] == "raised"
        assert call.topic == f"v1/{lab.SITE}/call/hvac-001/renew_epoch/gateway"
        assert envelope.decode(call.payload, Call).data == {"epoch": 7}

    asyncio.run(scenario())


def test_the_alarm_is_over_once_its_device_has_gone_on_in_a_later_epoch(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        clock = lab.FastClock()
        rig = make_rig()
        await rig.start()
        building = Building(lab, clock)

        async def receive(reading: Any) -> None:
            rig.derived.clear()
            await rig.receive(lab.pack([reading]))
            building.asking.derived(rig.derived)

        await receive(lab.reading(1))
        await receive(lab.reading(1, value=9.0))
        await receive(lab.reading(0, epoch=8))
        name = (lab.SITE, "epoch-reuse", "hvac-001")
        assert name in building.asking.standing
        clock.skipped_us += 60_000_000
        await receive(lab.reading(2))
        assert name in building.asking.standing, "it goes on in the epoch that was reused"
        await receive(lab.reading(1, epoch=8))
        assert name not in building.asking.standing
        await building.say()
        assert json.loads(building.published[-1].payload)["state"] == "cleared"

    asyncio.run(scenario())


def test_a_hole_is_filled_from_a_sensors_ring_and_the_rest_is_gone(
    make_rig: Any, lab: Any, tmp_path: Path
) -> None:
    """The gateway's disk was lost: its sensor still has the last five of eight readings."""

    async def scenario() -> None:
        outbox = open_outbox(tmp_path / "outbox.db", readings_max=5)
        outbox.sent(outbox.append(taken(*range(5))).readings)
        outbox.sent(outbox.append(taken(*range(5, 8))).readings)
        assert outbox.counts.notes == 0
        rig = make_rig()
        await rig.start()
        building = Building(lab, rig.clock)
        lost = hole(lab, 0, 7, epoch=outbox.epoch)
        asks = await rig.queue.refill(Refill(store_id="a", commit=1, holes=(lost,)))
        await building.asking.resend(asks)
        calls = Calls(
            {"resend": capabilities.resend(outbox.resend)},
            site=lab.SITE,
            queue_max=9,
            keys_max=9,
        )
        [call] = building.published
        calls.receive(call.topic, call.payload, 0.0)
        assert len(calls.answers(lambda: 1.0)) == 1
        again, notes = outbox.take(10, 10**6), outbox.notes()
        await rig.receive(
            lab.pack(again, payload=senml.encode(again)),
            lab.FakeArrival(
                topic=f"v1/{lab.SITE}/telemetry/hvac-001",
                payload=envelope.encode(Notes(notes=notes)),
            ),
        )
        book = await rig.book(epoch=outbox.epoch)
        assert (book["received"], book["gone"]) == ([[3, 7]], [[0, 2]])
        [note] = await rig.notes()
        assert (note.author, note.kind, note.reason) == ("gateway", "gone", "media")
        outbox.close()

    asyncio.run(scenario())
