"""The durable queue: what is received and not yet confirmed, with its books, in one SQLite file.

Every method is one transaction on the database's writer thread, which also owns the set of rows in
the air, so that taking a batch and evicting can never meet half way.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from plantroom.gateway import answers, books, numbering, room, salvaging, store_known, tables
from plantroom.gateway.answers import Outcome, Standing
from plantroom.gateway.books import Heads
from plantroom.gateway.ingress import Intake
from plantroom.gateway.lanes import Flight
from plantroom.gateway.line import Line, Taken, content
from plantroom.gateway.posting import Posting
from plantroom.gateway.queue_schema import CONFIRMED, TAP
from plantroom.gateway.room import Limits
from plantroom.gateway.store_known import Known
from plantroom.gateway.tables import Depth, Life
from plantroom.gateway.welcomed import Compared, welcome
from plantroom.wire.database import Database
from plantroom.wire.envelope import Book, Lane, Note, Receipt, Refill, Span, Welcome

_PART: Final = "tap_part"  # in `meta`
_PAGE_BYTES_MIN: Final = 512
_SLACK_BYTES: Final = 8 * 1024 * 1024  # stays free in the file, for what arrives next
_GIVE_BACK_PAGES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings:
    """How the queue is doing."""

    waiting: Depth
    live: Depth
    history: Depth
    notes: int
    tallies: dict[str, int]
    store_id: str | None

    @property
    def backfill(self) -> Depth:
        """What waits and is not live."""
        return Depth(
            readings=self.waiting.readings - self.live.readings,
            bytes=self.waiting.bytes - self.live.bytes,
        )


class Cursor(NamedTuple):
    """Up to where segments are derived: a whole one, and so many messages of the next."""

    segment: int
    part: int = 0


class Queue:
    """The queue of one gateway; opened once per start, with a new incarnation."""

    def __init__(
        self,
        database: Database,
        life: Life,
        limits: Limits,
        *,
        disk_free: Callable[[], int] | None = None,
        set_aside: Sequence[Path] = (),
    ) -> None:
        self._database = database
        self._life = life
        self._limits = limits
        self._disk_free = disk_free or (lambda: shutil.disk_usage(database.path.parent).free)
        self._line = Line()
        self._set_aside_files = set_aside
        self._aged_from_us = 0
        self._refusing = False
        self.ahead = asyncio.Event()

    @property
    def incarnation(self) -> int:
        """The number of this run of the gateway."""
        return self._life.incarnation

    async def start(self) -> None:
        """Begin this incarnation: everything that waits from before goes to backfill."""
        await self._database.write(self._start)

    def _start(self, sql: sqlite3.Connection) -> None:
        sql.execute("INSERT OR IGNORE INTO tap(name, segment) VALUES(?, 0)", (TAP,))
        tables.set_meta(sql, "incarnation", self._life.incarnation)
        tables.set_meta(sql, "note_number", 0)
        running = tables.meta(sql, "running_us", 0)
        self._aged_from_us = running - self._life.clock.monotonic_us()
        salvaging.begin(sql, self._set_aside_files)
        self._line.begin(sql)

    def _running_us(self) -> int:
        return self._aged_from_us + self._life.clock.monotonic_us()

    async def cursor(self) -> Cursor:
        """Return up to where the queue is derived."""
        return await self._database.read(_cursor)

    async def post(self, intakes: Sequence[Intake], *, after: Cursor, upto: Cursor) -> bool:
        """Derive rows, books and notes from intakes and move the cursor, all or nothing.

        Returns whether publishes have to be refused from now on. Does nothing when the cursor is
        not at `after`: someone else has derived that.
        """
        return await self._database.write(partial(self._post, intakes, after, upto))

    def _post(
        self, intakes: Sequence[Intake], after: Cursor, upto: Cursor, sql: sqlite3.Connection
    ) -> bool:
        if _cursor(sql) != after:
            return self._refusing
        aged_us = self._running_us()
        capacity = None
        if self._limits.policy == "newest":
            waiting = room.waiting(tables.depths(sql))
            capacity = max(0, self._limits.readings_max - waiting.readings)
            if room.is_full(self._limits, waiting, self._free(sql), refusing=False):
                capacity = 0
        posting = Posting(
            sql,
            self._life,
            aged_us=aged_us,
            quarantine_bytes_max=self._limits.quarantine_bytes_max,
            capacity=capacity,
        )
        for intake in intakes:
            posting.post(intake)
        posting.flush()
        if any(intake.delivery for intake in intakes):
            numbering.forget_old_deliveries(sql, upto.segment)
        sql.execute("UPDATE tap SET segment = ? WHERE name = ?", (upto.segment, TAP))
        if upto.part != after.part:
            tables.set_meta(sql, _PART, upto.part)
        tables.set_meta(sql, "running_us", aged_us)
        return self._make_room(sql, aged_us)

    def _free(self, sql: sqlite3.Connection) -> int:
        """Return the bytes that may still be written: on the disk, and free inside the file."""
        return self._disk_free() + self._free_inside(sql)

    @staticmethod
    def _free_inside(sql: sqlite3.Connection) -> int:
        pages = sql.execute("PRAGMA freelist_count").fetchone()[0]
        size = sql.execute("PRAGMA page_size").fetchone()[0]
        return int(pages * size)

    def _make_room(self, sql: sqlite3.Connection, aged_us: int) -> bool:
        """Make room, and say whether publishes are refused.

        Under `newest` nobody is refused: what arrives is taken and booked as evicted.
        """
        short = max(0, self._limits.disk_free_bytes_min - self._free(sql))
        room.make(sql, self._life, self._limits, self._line.in_air, aged_us=aged_us, short=short)
        free = self._free(sql)
        waiting = room.waiting(tables.depths(sql))
        self._refusing = room.is_full(self._limits, waiting, free, refusing=self._refusing)
        if self._limits.policy != "reject" and free >= self._limits.disk_free_bytes_min:
            over = room.excess(self._limits, waiting) != Depth()
            self._refusing = over and self._limits.policy == "oldest"  # all of it is in the air
        return self._refusing

    async def tidy(self) -> bool:
        """Evict by age, make room, and say whether publishes are refused; for a timer."""
        return await self._database.write(self._tidy)

    def _tidy(self, sql: sqlite3.Connection) -> bool:
        aged_us = self._running_us()
        tables.set_meta(sql, "running_us", aged_us)
        return self._make_room(sql, aged_us)

    async def reclaim(self, wanted: int) -> None:
        """Free so many bytes of the disk, as far as confirmed readings lie on them."""
        await self._database.write(partial(self._forget, wanted))
        await self._database.give_back(wanted // _PAGE_BYTES_MIN)
        await self._database.checkpoint()

    def _forget(self, wanted: int, sql: sqlite3.Connection) -> None:
        short = 2 * wanted - self._free_inside(sql)  # pages at the edges stay in use, in part
        if short > 0:
            policy = replace(self._limits, policy="reject", age_us_max=0)
            room.make(sql, self._life, policy, self._line.in_air, aged_us=0, short=short)

    async def give_back(self) -> int:
        """Give pages that a drain has left free back to the disk, some at a time."""
        free = await self._database.read(self._free_inside)
        if free <= _SLACK_BYTES:
            return 0
        return await self._database.give_back(_GIVE_BACK_PAGES)

    def save_space(self, *, saving: bool) -> None:
        """While the reserve is given up only work that frees space writes."""
        self._line.saving = saving

    async def connected(self, flights: Sequence[Flight]) -> None:
        """Draw the line between live and backfill anew: live is what arrives from now on.

        Just what `flights` carry is in the air; what else was taken (a batch that was being packed
        when the link was lost) is back in line.
        """
        await self._database.write(partial(self._line.connected, flights))

    async def take(self, lane: Lane, *, readings_max: int, bytes_max: int, notes_max: int) -> Taken:
        """Take the next batch of a lane into the air; notes travel with backfill."""
        return await self._database.write(
            partial(self._line.take, lane, readings_max, bytes_max, notes_max)
        )

    async def content(self, flight: Flight) -> Taken:
        """Return what a batch carries, again, for the halves of an unreadable one."""
        return await self._database.read(partial(content, flight))

    async def settle(self, answer: Receipt, flight: Flight) -> Outcome:
        """Apply a receipt to the batch that it answers.

        It stays in the air until that is committed: a receipt that could not be written comes
        again, and until then nothing of the batch may be evicted.
        """
        outcome = await self._database.write(partial(self._settle, answer, flight))
        if outcome.standing != "former":
            await self._database.write(partial(self._landed, flight, outcome.again))
        return outcome

    def _settle(self, answer: Receipt, flight: Flight, sql: sqlite3.Connection) -> Outcome:
        return answers.receipt(sql, answer, flight.rows, flight.notes)

    def _landed(self, flight: Flight, again: Sequence[int], _sql: sqlite3.Connection) -> None:
        self._line.land(flight)
        if again:
            self._line.rewind(again[0])

    async def set_aside(self, flight: Flight) -> None:
        """Quarantine the one reading or note of a batch that the cloud cannot read."""
        await self._database.write(partial(self._set_aside, flight))

    def _set_aside(self, flight: Flight, sql: sqlite3.Connection) -> None:
        limit = self._limits.quarantine_bytes_max
        for row in flight.rows:
            answers.culprit(sql, self._life, row, quarantine_bytes_max=limit)
        for number, _ in flight.notes:
            answers.culprit_note(sql, self._life, number, quarantine_bytes_max=limit)
        self._line.land(flight)

    async def standing_of(self, store_id: str) -> Standing:
        """Find out whether an answer comes from the store that we know."""
        return await self._database.write(partial(answers.meet, store_id=store_id))

    async def welcome(self, answer: Welcome) -> Compared:
        """Compare the store's books with ours."""
        return await self._database.write(partial(self._welcome, answer))

    def _welcome(self, answer: Welcome, sql: sqlite3.Connection) -> Compared:
        found = welcome(sql, answer)
        self._line.rewind(0)
        return found

    async def refill(self, answer: Refill) -> list[Span]:
        """Answer a request for holes; return what only the sensors can still have."""
        return await self._database.write(partial(self._refill, answer))

    def _refill(self, answer: Refill, sql: sqlite3.Connection) -> list[Span]:
        asks = answers.refill(sql, self._life, answer)
        self._line.rewind(0)
        return asks

    async def store_known(self) -> Known:
        """Return the store that we know, and the latest of its commits that we have heard of."""
        return await self._database.read(store_known.known)

    async def hello_books(self, *, books_max: int, bytes_max: int) -> list[Book]:
        """Return the books whose turn it is to be told."""
        work = partial(books.for_hello, books_max=books_max, bytes_max=bytes_max)
        return await self._database.write(work)

    async def unsettled(self) -> int:
        """Count the books that the cloud has not agreed to since they changed."""
        work = partial(_one, query="SELECT count(*) FROM book WHERE settled = ?", values=(0,))
        return int(await self._database.read(work))

    async def note_heads(
        self, device: str, heads: dict[int, int], *, current: int
    ) -> dict[int, Heads]:
        """Book the highest seq of each epoch that a device reports; return where it is not ours.

        What it reports of its `current` epoch may be older than readings that came by another way.
        """
        found = await self._database.write(partial(self._note_heads, device, heads, current))
        if "ahead" in found.values():
            self.ahead.set()
        return found

    def _note_heads(
        self, device: str, heads: dict[int, int], current: int, sql: sqlite3.Connection
    ) -> dict[int, Heads]:
        found: dict[int, Heads] = {}
        for epoch in books.credible(sql, device, heads):
            highest = heads[epoch]
            book = books.book_of(sql, device, epoch)
            known = sql.execute("SELECT highest FROM book WHERE id = ?", (book,)).fetchone()[0]
            if highest < known and epoch != current:
                found[epoch] = books.rolled_back(sql, book, known)
            elif highest > known and epoch != current:
                found[epoch] = "ahead"
            books.raise_highest(sql, book, highest)
        return found

    async def to_salvage(self, files: Sequence[Path]) -> list[Path]:
        """Return which of the files set aside still have to be brought back."""
        return await self._database.read(partial(salvaging.unsalvaged, files=files))

    async def bring_back(
        self,
        heads: Sequence[tuple[str, int, int]],
        intakes: Sequence[Intake],
        notes: Sequence[Note],
    ) -> None:
        """Queue what was read from a file that was set aside."""
        work = partial(self._bring_back, heads, intakes, notes)
        await self._database.write(work)

    def _bring_back(
        self,
        heads: Sequence[tuple[str, int, int]],
        intakes: Sequence[Intake],
        notes: Sequence[Note],
        sql: sqlite3.Connection,
    ) -> None:
        posting = Posting(
            sql,
            self._life,
            aged_us=self._running_us(),
            quarantine_bytes_max=self._limits.quarantine_bytes_max,
        )
        for intake in intakes:
            posting.post(intake)
        posting.flush()
        salvaging.book(sql, heads, notes)

    async def salvaged(self, file: Path) -> None:
        """Note that a file has been brought back as far as it can be."""
        await self._database.write(partial(salvaging.done, file=file, files=self._set_aside_files))

    async def standings(self) -> Standings:
        """Return depths, counts and the store's name, for metrics and status."""
        return await self._database.read(self._standings)

    def _standings(self, sql: sqlite3.Connection) -> Standings:
        depths = tables.depths(sql)
        return Standings(
            waiting=room.waiting(depths),
            live=self._line.live(sql),
            history=depths[CONFIRMED],
            notes=sql.execute("SELECT count(*) FROM note WHERE told = 0").fetchone()[0],
            tallies=dict(sql.execute("SELECT name, value FROM tally")),
            store_id=tables.meta(sql, "store_id"),
        )

    async def ledger(self) -> list[dict[str, object]]:
        """Return every book as plain values."""
        return await self._database.read(lambda sql: list(books.summary(sql)))

    async def was_given(self, device: str, names: Sequence[bytes]) -> bool:
        """Say whether a call has given a reading of this name before."""
        return await self._database.read(partial(numbering.was_given, device=device, names=names))

    async def recent(self, device: str, limit: int) -> list[bytes]:
        """Return the latest readings of a device that are still here, as canonical CBOR."""
        return await self._database.read(partial(tables.recent, device=device, limit=limit))


def _cursor(sql: sqlite3.Connection) -> Cursor:
    (segment,) = sql.execute("SELECT segment FROM tap WHERE name = ?", (TAP,)).fetchone()
    return Cursor(int(segment), int(tables.meta(sql, _PART, 0)))


def _one(sql: sqlite3.Connection, query: str, values: tuple[object, ...]) -> Any:
    return sql.execute(query, values).fetchone()[0]
