"""A gateway's queue on real SQLite, with fake segments below it and a simulated cloud above it."""

import asyncio
import itertools
import pickle
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plantroom.gateway.derive import Deriver
from plantroom.gateway.holding import Holding
from plantroom.gateway.ingress import Intake, note_from
from plantroom.gateway.queue_schema import MIGRATIONS
from plantroom.gateway.room import Limits
from plantroom.gateway.spool import Queue
from plantroom.gateway.tables import Life
from plantroom.wire import envelope, senml
from plantroom.wire.database import Database
from plantroom.wire.envelope import Batch, Book, Hello, Note, Notes, Receipt, Span, Welcome
from plantroom.wire.errors import UnreachableError
from plantroom.wire.link import Message
from plantroom.wire.ranges import RangeSet
from plantroom.wire.reading import Point, Reading

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
        self.database = Database.open(self.path, FAKE_BROKER | MIGRATIONS, synchronous="OFF")
        life = Life(
            incarnation=self.random.getrandbits(53),
            clock=self.clock,
            random_bits=self.random.getrandbits,
        )
        self.queue = Queue(self.database, life, self.limits, disk_free=lambda: self.disk_free)
        self.deriver = Deriver(
            self.database,
            self.queue,
            arrivals=pickle.loads,
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

    async def commit(self, *arrivals: FakeArrival) -> None:
        """Do what the broker does: one segment."""
        data = pickle.dumps(list(arrivals))
        await self.database.write(
            lambda sql: sql.execute(
                "INSERT INTO segment(at_us, tapped, waiting, data) VALUES(0, ?, 0, ?)",
                (len(arrivals), data),
            )
        )

    async def receive(self, *arrivals: FakeArrival) -> None:
        await self.commit(*arrivals)
        await self.derive()

    async def derive(self) -> None:
        while await self.deriver.step():
            pass

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


class SimCloud:
    """The cloud's front broker and ingest in memory: idempotent, with receipts after the commit.

    `chance(name)` decides about faults: `lose-up`, `lose-down`, `dup-up`, `dup-down`, `reorder`.
    """

    def __init__(self, chance: Callable[[str], bool] = lambda _: False) -> None:
        self.chance = chance
        self.store_id = "store-1"
        self.commits = 0
        self.stored: dict[tuple[str, int, int], bytes] = {}
        self.quarantined: dict[tuple[str, int, int], str] = {}
        self.noted: dict[tuple[str, str, int, int], Note] = {}
        self.heads: dict[tuple[str, int], int] = {}
        self.bad: set[int] = set()
        self.poison: set[int] = set()
        self.silent = False
        self.batches: list[Batch] = []
        self.hellos: list[Hello] = []
        self.published: list[Message] = []
        self.links: list[SimLink] = []
        self.online = True
        self.duplicates = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["SimLink"]:
        if not self.online:
            raise UnreachableError("the WAN is cut")
        link = SimLink(self)
        self.links.append(link)
        try:
            yield link
        finally:
            link.cut()

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def receive(self, link: "SimLink", message: Message) -> None:
        self.published.append(message)
        if "/uplink/" not in message.topic or self.silent or self.chance("lose-up"):
            return
        for _ in range(2 if self.chance("dup-up") else 1):
            answer = self._answer(message)
            if answer is not None:
                self.send(link, f"v1/{SITE}/receipt/gateway", answer)

    def send(self, link: "SimLink", topic: str, answer: Any) -> None:
        if self.chance("lose-down"):
            return
        message = Message(topic=topic, payload=envelope.encode(answer))
        for _ in range(2 if self.chance("dup-down") else 1):
            link.arrive(message, late=self.chance("reorder"))

    def _answer(self, message: Message) -> Any:
        said = envelope.decode(message.payload, Batch, Hello)
        if isinstance(said, Hello):
            self.hellos.append(said)
            return self._welcome(said)
        self.batches.append(said)
        if any(one.seq in self.poison for one in said.readings):
            return Receipt(
                incarnation=said.incarnation,
                number=said.number,
                store_id=self.store_id,
                commit=self.commits,
                unreadable=True,
            )
        return self._ingest(said)

    def _ingest(self, batch: Batch) -> Receipt:
        self.commits += 1
        stored, refused = [], []
        for one in batch.readings:
            key = (one.device, one.epoch, one.seq)
            span = Span(device=one.device, epoch=one.epoch, first=one.seq, last=one.seq)
            if one.seq in self.bad:
                self.quarantined[key] = "bad"
                refused.append(
                    Span(device=key[0], epoch=key[1], first=key[2], last=key[2], reason="bad")
                )
                continue
            if key in self.stored:
                self.duplicates += 1
                assert self.stored[key] == one.hash()
            self.stored[key] = one.hash()
            stored.append(span)
        for note in batch.notes:
            self.noted[note.device, note.author, note.life, note.number] = note
        for name, heads in batch.heads.items():
            for epoch, head in heads.items():
                self.heads[name, epoch] = max(head, self.heads.get((name, epoch), -1))
        return Receipt(
            incarnation=batch.incarnation,
            number=batch.number,
            store_id=self.store_id,
            commit=self.commits,
            stored=tuple(stored),
            quarantined=tuple(refused),
            notes=tuple((note.author, note.life, note.number) for note in batch.notes),
        )

    def _welcome(self, hello: Hello) -> Welcome:
        books = []
        for book in hello.books:
            known = RangeSet()
            for name, epoch, seq in (*self.stored, *self.quarantined):
                if (name, epoch) == (book.device, book.epoch):
                    known.add(seq)
            books.append(
                Book(
                    device=book.device,
                    epoch=book.epoch,
                    highest=book.highest,
                    ranges=tuple(known),
                    digests=self._digests(book),
                )
            )
        return Welcome(
            incarnation=hello.incarnation,
            number=hello.number,
            store_id=self.store_id,
            commit=self.commits,
            books=tuple(books),
        )

    def _digests(self, book: Book) -> dict[int, bytes]:
        sums: dict[int, int] = {}
        for (name, epoch, seq), digest in self.stored.items():
            if (name, epoch) == (book.device, book.epoch):
                sums[seq // 1000] = sums.get(seq // 1000, 0) + int.from_bytes(digest)
        return {segment: (total % (1 << 256)).to_bytes(32) for segment, total in sums.items()}

    def seqs(self, name: str = "hvac-001") -> list[int]:
        return sorted(seq for who, _, seq in self.stored if who == device(name))


class SimLink:
    """A link to the simulated cloud."""

    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud
        self._incoming: asyncio.Queue[Message | None] = asyncio.Queue()
        self._held: list[Message] = []
        self._dead = asyncio.Event()
        self.filters: list[str] = []

    def cut(self) -> None:
        self._dead.set()
        self._incoming.put_nowait(None)

    def arrive(self, message: Message, *, late: bool = False) -> None:
        if late:
            self._held.append(message)
            return
        self._incoming.put_nowait(message)
        for one in self._held:
            self._incoming.put_nowait(one)
        self._held.clear()

    async def publish(self, message: Message) -> int:
        await asyncio.sleep(0)
        if self._dead.is_set():
            raise UnreachableError("cut")
        self._cloud.receive(self, message)
        return 0

    async def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        del qos
        self.filters.append(topic_filter)

    async def messages(self) -> AsyncIterator[Message]:
        while (message := await self._incoming.get()) is not None:
            yield message
        raise UnreachableError("cut")


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait, within bounds, until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- the condition is another object's state
            await asyncio.sleep(0.005)


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []
    numbers = itertools.count()

    def make(**options: Any) -> Rig:
        rigs.append(Rig(tmp_path / f"queue-{next(numbers)}.db", **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def lab() -> Any:
    """Give the helpers above as one namespace."""

    class Lab:
        pass

    for name, value in globals().items():
        setattr(Lab, name, staticmethod(value) if callable(value) else value)
    return Lab
