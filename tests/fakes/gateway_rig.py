"""A gateway's queue on real SQLite, with made-up segments below it."""

import pickle
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plantroom.gateway.derive import Deriver
from plantroom.gateway.holding import Holding
from plantroom.gateway.queue_schema import MIGRATIONS
from plantroom.gateway.room import Limits
from plantroom.gateway.spool import Queue
from plantroom.gateway.tables import Life
from plantroom.wire import envelope, senml
from plantroom.wire.damage import set_aside_in
from plantroom.wire.database import Database
from plantroom.wire.envelope import Note, Notes, note_from
from plantroom.wire.reading import Point, Reading

if TYPE_CHECKING:
    from plantroom.gateway.ingress import Intake

TRUST_DOMAIN = "building-1.smart.local"
SITE = "building-1"
NOW_US = 1_790_000_000_000_000
FAKE_BROKER: dict[str, tuple[str, ...]] = {
    "broker": (
        """
        CREATE TABLE segment(
            id INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL,
            tapped INTEGER NOT NULL, waiting INTEGER NOT NULL, data BLOB NOT NULL);
        CREATE TABLE tap(name TEXT PRIMARY KEY, segment INTEGER NOT NULL);
        """,
    )
}


class FastClock:
    """Real time, `factor` times as fast."""

    def __init__(self, factor: int = 1) -> None:
        self.factor = factor
        self.skipped_us = 0

    def wall_us(self) -> int:
        return NOW_US + self.monotonic_us()

    def monotonic_us(self) -> int:
        return time.monotonic_ns() // 1000 * self.factor + self.skipped_us


@dataclass(frozen=True)
class FakeArrival:
    topic: str
    payload: bytes
    dup: bool = False
    packet_id: int = 1
    session: int = 1
    user: dict[str, str] = field(default_factory=dict)


def device(name: str = "hvac-001") -> str:
    return f"spiffe://{TRUST_DOMAIN}/agent/{name}"


def reading(seq: int, *, name: str = "hvac-001", epoch: int = 7, value: float = 21.0) -> Reading:
    return Reading(
        device=device(name),
        time_us=NOW_US + seq * 1_000_000,
        points=(Point(name="temperature", unit="Cel", value=value),),
        epoch=epoch,
        seq=seq,
    )


def arrivals(data: bytes, skip: int = 0) -> list[FakeArrival]:
    """Give what `Rig.commit` has put into a segment."""
    found: list[FakeArrival] = pickle.loads(data)  # noqa: S301 -- our own
    return found[skip:]


def pack(readings: Iterable[Reading], name: str = "hvac-001", **more: Any) -> FakeArrival:
    readings = list(readings)
    user = {}
    if readings:
        epoch, seqs = readings[0].epoch, [one.seq for one in readings]
        user = {"range": f"{epoch}/{min(seqs)}/{max(seqs)}"}
    arguments = {"topic": f"v1/{SITE}/telemetry/{name}", "user": user} | more
    return FakeArrival(
        payload=arguments.pop("payload", None) or senml.encode(readings), **arguments
    )


def notes_arrival(notes: Iterable[Note], name: str = "hvac-001") -> FakeArrival:
    return FakeArrival(
        topic=f"v1/{SITE}/telemetry/{name}", payload=envelope.encode(Notes(notes=tuple(notes)))
    )


def limits(**more: Any) -> Limits:
    values: dict[str, Any] = {
        "readings_max": 100_000,
        "bytes_max": 1 << 30,
        "age_us_max": 0,
        "disk_free_bytes_min": 0,
        "policy": "reject",
        "quarantine_bytes_max": 1 << 20,
    }
    return Limits(**values | more)


class Rig:
    """One gateway's queue; `restart` begins a new incarnation on the same file."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.clock = options.pop("clock", None) or FastClock()
        self.limits = limits(**options)
        self.random = random.Random(11)  # noqa: S311 -- reproducible
        self.held: list[bool] = []
        self.derived: list[Intake] = []
        self.disk_free = 1 << 40
        self._open()

    def _open(self) -> None:
        self.database = Database.open(
            self.path, FAKE_BROKER | MIGRATIONS, synchronous="OFF", gives_back=True
        )
        life = Life(
            incarnation=self.random.getrandbits(53),
            clock=self.clock,
            random_bits=self.random.getrandbits,
        )
        self.queue = Queue(
            self.database,
            life,
            self.limits,
            disk_free=lambda: self.disk_free,
            set_aside=set_aside_in(self.path),
        )
        self.deriver = Deriver(
            self.database,
            self.queue,
            arrivals=arrivals,
            trust_domain=TRUST_DOMAIN,
            holding=Holding(lambda code: self.held.append(code is not None)),
            derived=self.derived.extend,
        )

    async def start(self) -> None:
        await self.queue.start()

    async def restart(self) -> None:
        self.close()
        self._open()
        await self.start()

    def close(self) -> None:
        self.database.close()

    async def commit(self, *arrived: FakeArrival) -> None:
        """Do what the broker does: one segment."""
        data = pickle.dumps(list(arrived))
        await self.database.write(
            lambda sql: sql.execute(
                "INSERT INTO segment(at_us, tapped, waiting, data) VALUES(0, ?, 0, ?)",
                (len(arrived), data),
            )
        )

    async def receive(self, *arrived: FakeArrival) -> None:
        await self.commit(*arrived)
        await self.derive()

    async def derive(self) -> None:
        await self.deriver.derive()

    async def sql(self, query: str, *values: Any) -> list[Any]:
        return await self.database.read(lambda sql: sql.execute(query, values).fetchall())

    async def seqs(self, state: int | None = None) -> list[int]:
        where = "" if state is None else f" WHERE state = {state}"
        return [row[0] for row in await self.sql(f"SELECT seq FROM reading{where} ORDER BY id")]

    async def book(self, name: str = "hvac-001", epoch: int = 7) -> dict[str, Any]:
        for book in await self.queue.ledger():
            if book["device"] == device(name) and book["epoch"] == epoch:
                return book
        raise KeyError(name)

    async def notes(self) -> list[Note]:
        rows = await self.sql("SELECT body FROM note WHERE told = 0 ORDER BY id")
        return [note_from(row[0]) for row in rows]

    async def check(self) -> None:
        """Compare what is accounted with what is there."""
        accounted = await self.sql("SELECT state, readings, bytes FROM depth ORDER BY state")
        there = dict.fromkeys(range(3), (0, 0))
        for state, count, size in await self.sql(
            "SELECT state, count(*), sum(size) FROM reading GROUP BY state"
        ):
            there[state] = (count, size)
        assert {state: (count, size) for state, count, size in accounted} == there
