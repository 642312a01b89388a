"""A sensor whose clock is not set: its readings travel without a time, and get it afterwards."""

import asyncio
import random
from pathlib import Path

from plantroom.cloud.sqlite_store import SqliteReader, SqliteStore
from plantroom.cloud.store import Delivery, Row
from plantroom.device.driver import Taken
from plantroom.device.outbox import Outbox
from plantroom.gateway.ingress import read
from plantroom.gateway.lanes import Lanes
from plantroom.gateway.stored import reading_from
from plantroom.wire import envelope, senml
from plantroom.wire.envelope import Batch, Note, Notes
from plantroom.wire.reading import Point, Reading, Sample
from tests.device.stand_ins import DEVICE, NOW_US, FakeClock, open_outbox_in_boot
from tests.fakes.gateway_rig import SITE, TRUST_DOMAIN, FakeArrival, Rig

BOOT_US = 5_000_000


def timeless(clock: FakeClock) -> Taken:
    point = Point(name="temperature", unit="Cel", value=21.0)
    return Taken(sample=Sample(device="", time_us=None, mono_us=clock.mono, points=(point,)))


def timed(clock: FakeClock) -> Taken:
    point = Point(name="temperature", unit="Cel", value=21.0)
    return Taken(sample=Sample(device="", time_us=clock.wall, points=(point,)))


def drain(outbox: Outbox) -> tuple[list[Reading], list[Note]]:
    sent: list[Reading] = []
    while readings := outbox.take(100, 10**6):
        outbox.sent(readings)
        sent += readings
    notes = list(outbox.notes())
    outbox.notes_sent(notes)
    return sent, notes


def test_lives_of_this_boot_are_corrected_once_and_those_of_an_earlier_one_never(
    tmp_path: Path,
) -> None:
    path = tmp_path / "o.db"
    epochs = []
    for boot in ("one", "two", "two"):
        clock = FakeClock(wall=7_000_000, mono=BOOT_US)
        outbox = open_outbox_in_boot(boot, path, clock)
        epochs.append(outbox.epoch)
        outbox.append([timeless(clock)])
        assert outbox.counts.notes == 0
        outbox.close()
    clock = FakeClock(wall=NOW_US, mono=BOOT_US + 60_000_000)
    outbox = open_outbox_in_boot("two", path, clock)
    notes: list[Note] = []
    for _ in range(3):
        outbox.append([timed(clock)])
        notes += drain(outbox)[1]
        notes += drain(outbox)[1]
        clock.pass_s(60)
    assert [(note.kind, note.epoch, note.offset_us) for note in notes] == [
        ("correction", epoch, NOW_US - BOOT_US - 60_000_000) for epoch in epochs[1:]
    ]
    outbox.close()


def test_times_are_corrected_in_the_store_before_and_after_and_hashes_stay(tmp_path: Path) -> None:
    """Of four readings without a time two are stored before the correction comes, two after it."""

    async def scenario() -> list[Row]:
        clock = FakeClock(wall=7_000_000, mono=BOOT_US)
        outbox = open_outbox_in_boot("", tmp_path / "o.db", clock)
        for _ in range(4):
            outbox.append([timeless(clock)])
            clock.pass_s(60)
        clock.wall = NOW_US
        outbox.append([timed(clock)])
        sent, notes = drain(outbox)
        rig = Rig(tmp_path / "queue.db")
        await rig.start()
        store = SqliteStore(tmp_path / "store.db")
        await rig.receive(pack(sent[:2]))
        await cross(rig, store, 1)
        await rig.receive(pack(sent[:0], envelope.encode(Notes(notes=tuple(notes)))))
        await cross(rig, store, 2)
        await rig.receive(pack(sent[2:]))
        await cross(rig, store, 3)
        [book] = await store.books()
        whole = sum(int.from_bytes(one.hash()) for one in sent) % (1 << 256)
        assert book.digests == {0: whole.to_bytes(32)}
        rig.close()
        store.close()
        outbox.close()
        reader = SqliteReader(tmp_path / "store.db")
        assert reader.verify(book) == []
        rows = list(reader.export())
        reader.close()
        return rows

    rows = asyncio.run(scenario())
    assert [(row.seq, row.time_us) for row in rows] == [
        (n, NOW_US - (4 - n) * 60_000_000) for n in range(5)
    ]


def pack(readings: list[Reading], payload: bytes = b"") -> FakeArrival:
    made = payload or senml.encode(readings)
    return FakeArrival(topic=f"v1/{SITE}/telemetry/hvac-001", payload=made)


async def cross(rig: Rig, store: SqliteStore, number: int) -> None:
    """Bring what waits at the gateway to the store, as the bridge does."""
    await rig.queue.connected([])
    taken = await rig.queue.take("backfill", readings_max=99, bytes_max=10**6, notes_max=99)
    flight = Lanes().launch("backfill", taken.rows, taken.notes)
    batch = Batch(
        incarnation=rig.queue.incarnation,
        number=flight.number,
        lane="backfill",
        readings=tuple(map(reading_from, taken.bodies)),
        notes=taken.told,
    )
    delivery = Delivery(site=SITE, gateway="gateway", batch=batch, received_us=NOW_US + number)
    committed = await store.commit([delivery])
    outcome = await rig.queue.settle(committed.receipts[0], flight)
    assert outcome.confirmed == len(taken.rows)
    assert outcome.notes == len(taken.notes)


def test_a_correction_that_makes_no_sense_is_set_apart() -> None:
    chance = random.Random(3)  # noqa: S311 -- reproducible
    for offset_us in (None, 2**62, -(2**62), chance.getrandbits(60)):
        note = correction(offset_us)
        intake = read(pack([], envelope.encode(Notes(notes=(note,)))), TRUST_DOMAIN)
        assert intake is not None
        assert [bad.reason for bad in intake.bad] == ["out-of-range"]
        assert intake.notes == []


def correction(offset_us: int | None) -> Note:
    return Note(
        kind="correction",
        author="sensor",
        life=7,
        number=0,
        device=DEVICE,
        epoch=7,
        first=0,
        last=3,
        reason="clock",
        at_us=NOW_US,
        offset_us=offset_us,
    )
