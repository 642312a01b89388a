"""The files of a small building that has stopped: every kind of row that the ledger speaks of.

What its gateway holds is queued, confirmed, evicted, in quarantine, and in segments that are not
yet derived; what its cloud holds is stored, set apart, beyond retention, and without a time.
"""

import asyncio
import random
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import count
from pathlib import Path

from plantroom.broker import catalog, segments
from plantroom.broker.properties import Property
from plantroom.broker.runs import Origin, Run
from plantroom.broker.sink import Batch as Group
from plantroom.broker.tree import Match
from plantroom.cloud import retention
from plantroom.cloud.sqlite_store import SqliteStore
from plantroom.cloud.store import Delivery
from plantroom.gateway.derive import Deriver
from plantroom.gateway.holding import Holding
from plantroom.gateway.lanes import Flight, Lanes
from plantroom.gateway.queue_schema import MIGRATIONS
from plantroom.gateway.spool import Queue
from plantroom.gateway.stored import reading_from
from plantroom.gateway.tables import Life
from plantroom.lab.layout import Layout
from plantroom.wire import envelope, senml
from plantroom.wire.database import Database
from plantroom.wire.envelope import Batch, Note, NoteKind, Notes
from plantroom.wire.reading import Point, Reading
from tests.broker.harness import publish
from tests.fakes.gateway_rig import NOW_US, SITE, TRUST_DOMAIN, FastClock, device, limits

HOUR_US = 3_600_000_000
OLD_SEQS = 1000  # whole segments of 1,000 go by retention


def taken(name: str, epoch: int, seq: int, *, time_us: int | None = -1) -> Reading:
    """One reading with a number, a text and a truth."""
    at_us = NOW_US + (0 if seq < OLD_SEQS else 9 * HOUR_US) + seq * 1_000_000
    return Reading(
        device=device(name),
        time_us=at_us if time_us == -1 else time_us,
        mono_us=seq * 1_000_000 if time_us is None else None,
        points=(
            Point(name="temperature", unit="Cel", value=20.0 + seq % 70 / 10),
            Point(name="fan_status", unit=None, value="on" if seq % 2 else "off"),
            Point(name="motion", unit=None, value=bool(seq % 3)),
        ),
        epoch=epoch,
        seq=seq,
    )


def told(  # noqa: PLR0913 -- a note, field by field
    name: str,
    number: int,
    kind: NoteKind,
    first: int,
    last: int,
    *,
    reason: str = "full",
    offset_us: int | None = None,
) -> Note:
    """What a sensor says of its epoch 7."""
    return Note(
        kind=kind,
        author="sensor",
        life=7,
        number=number,
        device=device(name),
        epoch=7,
        first=first,
        last=last,
        reason=reason,
        at_us=NOW_US,
        offset_us=offset_us,
    )


class Building:
    """A gateway and a cloud without links: `receive` is a publish, `cross` a batch and receipt."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        for part in (self.layout.queue, self.layout.store):
            part.parent.mkdir(parents=True, exist_ok=True)
        self.clock = FastClock()
        self.database = Database.open(
            self.layout.queue, catalog.MIGRATIONS | MIGRATIONS, synchronous="OFF", gives_back=True
        )
        chance = random.Random(5)  # noqa: S311 -- reproducible
        life = Life(
            incarnation=chance.getrandbits(53), clock=self.clock, random_bits=chance.getrandbits
        )
        self.queue = Queue(
            self.database, life, limits(age_us_max=HOUR_US), disk_free=lambda: 1 << 40
        )
        self.deriver = Deriver(
            self.database,
            self.queue,
            arrivals=segments.arrivals,
            trust_domain=TRUST_DOMAIN,
            holding=Holding(lambda _: None),
            derived=lambda _: None,
        )
        self.sink = catalog.sqlite_sink(self.database)
        self.store = SqliteStore(self.layout.store)
        self._numbers = count(1)

    async def publish(self, name: str, payload: bytes, claim: str = "") -> None:
        """Commit a publish as the broker does; nothing is derived from it yet."""
        number = next(self._numbers)
        user: dict[int, object] = {Property.USER: (("range", claim),)} if claim else {}
        run = Run(
            Origin(1, device(name), name),
            publish(
                f"v1/{SITE}/telemetry/{name}",
                payload,
                packet_id=number,
                version=5,
                properties=user,
            ),
            version=5,
            match=Match(),
            at_us=NOW_US,
            tapped=True,
        )
        group = Group(
            at_us=NOW_US,
            segment=segments.pack([run]),
            tapped=True,
            waiting=(),
            changes=(),
            cursors=(),
        )
        await self.sink.commit(group)

    async def receive(self, name: str, readings: Iterable[Reading]) -> None:
        """Publish readings in packs, and derive them."""
        readings = list(readings)
        for at in range(0, len(readings), 50):
            part = readings[at : at + 50]
            claim = f"{part[0].epoch}/{part[0].seq}/{part[-1].seq}"
            await self.publish(name, senml.encode(part), claim)
        await self.deriver.derive()

    async def tell(self, name: str, *notes: Note) -> None:
        """Publish a sensor's notes."""
        await self.publish(name, envelope.encode(Notes(notes=notes)))
        await self.deriver.derive()

    async def cross(self) -> None:
        """Bring what waits to the cloud, as the bridge does."""
        await self.queue.connected([])
        while found := await self.queue.take(
            "backfill", readings_max=500, bytes_max=10**7, notes_max=99
        ):
            flight = Lanes().launch("backfill", found.rows, found.notes)
            batch = Batch(
                incarnation=self.queue.incarnation,
                number=next(self._numbers),
                lane="backfill",
                readings=tuple(map(reading_from, found.bodies)),
                notes=found.told,
                heads=found.heads,
            )
            await self.give(batch, flight)

    async def give(self, batch: Batch, flight: Flight | None = None) -> None:
        """Commit a batch in the cloud, and let its receipt settle what it carried."""
        delivery = Delivery(
            site=SITE, gateway="gateway", batch=batch, received_us=NOW_US + batch.number
        )
        committed = await self.store.commit([delivery])
        if flight is not None:
            await self.queue.settle(committed.receipts[0], flight)

    def close(self) -> None:
        """Close both files."""
        self.database.close()
        self.store.close()


def build(folder: Path, *, size: int = 2_000) -> Layout:
    """Make one; `size` is about how many readings its largest book has."""
    building = Building(folder)
    try:
        asyncio.run(_fill(building, size))
    finally:
        building.close()
    return building.layout


async def _fill(b: Building, size: int) -> None:
    await b.queue.start()
    # a whole book, half of it beyond retention, with every kind of excuse
    await b.receive("hvac-001", (taken("hvac-001", 7, n) for n in range(size)))
    await b.publish("hvac-001", b"\x9f\x00", f"7/{size}/{size + 4}")
    await b.tell(
        "hvac-001",
        told("hvac-001", 0, "evicted", size + 5, size + 9),
        told("hvac-001", 1, "evicted", size + 10, size + 11, reason="age"),
        told("hvac-001", 2, "gone", size + 12, size + 13, reason="media"),
    )
    # from before the clock was set: corrected, and not corrected
    for name in ("hvac-002", "hvac-003"):
        await b.receive(name, (taken(name, 7, n, time_us=None) for n in range(60)))
    await b.cross()
    correction = told("hvac-002", 0, "correction", 0, 59, reason="clock", offset_us=NOW_US)
    await b.tell("hvac-002", correction)
    await b.receive("hvac-002", (taken("hvac-002", 7, n) for n in range(60, 80)))
    # third party's, numbered by the gateway
    bare = b"\x82\xa2\x00gvoltage\x02\x18\xe6\xa2\x00epower\x02\x18\x64"
    await b.publish("meter-001", bare)
    await b.deriver.derive()
    await b.cross()
    foreign = Reading(
        device="spiffe://building-2.smart.local/agent/hvac-009",
        time_us=NOW_US,
        points=(Point(name="temperature", unit="Cel", value=1.0),),
        epoch=3,
        seq=9,
    )
    await b.give(Batch(incarnation=1, number=999, lane="live", readings=(foreign,)))
    # an epoch that the gateway has evicted a part of, and one that waits
    await b.receive("hvac-001", (taken("hvac-001", 8, n) for n in range(40)))
    b.clock.skipped_us += 2 * HOUR_US
    await b.queue.tidy()
    await b.receive("hvac-001", (taken("hvac-001", 8, n) for n in range(40, 100)))
    await b.cross()
    await b.receive("hvac-001", (taken("hvac-001", 8, n) for n in range(100, 180)))
    await b.receive("hvac-004", (taken("hvac-004", 7, n) for n in range(150)))
    # committed, and not derived
    for first in (180, 190):
        part = [taken("hvac-001", 8, n) for n in range(first, first + 10)]
        await b.publish("hvac-001", senml.encode(part), f"8/{first}/{first + 9}")
    if size > OLD_SEQS:
        with closing(sqlite3.connect(b.layout.store)) as connection:
            retention.retire(connection, NOW_US + 3 * HOUR_US)
            connection.commit()
    await b.database.checkpoint()
