"""One derive transaction: intakes become rows, books, notes and quarantine, with their cursor.

The order of the messages is the order in which they are posted. Everything is written at the end
in few statements; a transaction that fails leaves nothing behind, and the next one starts anew.
"""

import sqlite3
from dataclasses import dataclass, field
from hashlib import sha256

from plantroom.gateway import books, numbering, salvaging, tables
from plantroom.gateway.ingress import REUSE, Bad, Intake, Row
from plantroom.gateway.queue_schema import (
    AGAIN,
    EVICTED,
    GONE,
    QUARANTINED,
    RECEIVED,
    STORED,
    WAITING,
)
from plantroom.gateway.tables import Life
from plantroom.wire import spans
from plantroom.wire.envelope import Note, NoteKind, note_bytes
from plantroom.wire.ranges import RangeSet, runs

_FATES = (EVICTED, QUARANTINED, GONE)
_KIND_OF = {"evicted": EVICTED, "quarantined": QUARANTINED, "gone": GONE}


@dataclass(slots=True)
class _Book:
    """A book that this transaction touches."""

    id: int
    device: str
    epoch: int
    highest: int  # received
    known: int  # highest seq heard of
    booked: int  # highest seq that is evicted, quarantined or gone
    fresh: dict[int, bytes] = field(default_factory=dict)
    refused: RangeSet = field(default_factory=RangeSet)
    hashes: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def received(self) -> RangeSet:
        """What this transaction has received."""
        return RangeSet(runs(sorted(self.fresh)))


class Posting:
    """Collects and writes what one group of intakes changes.

    `capacity`: readings that may still be queued under the policy `newest` (None: no such limit).
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        life: Life,
        *,
        aged_us: int,
        quarantine_bytes_max: int,
        capacity: int | None = None,
    ) -> None:
        self._sql = connection
        self._life = life
        self._aged_us = aged_us
        self._quarantine_bytes_max = quarantine_bytes_max
        self._capacity = capacity
        self._books: dict[tuple[str, int], _Book] = {}
        self._newest: dict[str, int] = {}  # epoch of which something was received, by device
        self._rows: list[tuple[int, int, int, int, int, bytes, bytes]] = []
        self.accepted = 0
        self.duplicates = 0

    def post(self, intake: Intake) -> None:
        """Take in one message."""
        raw: bytes | None = None
        digest = b""
        for bad in intake.bad:
            if bad.raw is not raw:  # thousands of bad readings may stand in one payload
                raw, digest = bad.raw, sha256(bad.raw).digest()
            self._bad(intake.device, bad, digest)
        if intake.claim is not None:
            epoch, _, last = intake.claim
            book = self._book(intake.device, epoch)
            book.known = max(book.known, last)
        for row in intake.rows:
            if self._row(self._book(intake.device, row.epoch), row):
                intake.reused.add(row.epoch)
        if intake.bad:
            self._unkeyed(intake)
        if intake.delivery is not None:
            self._samples(intake, intake.delivery)
        for note in intake.notes:
            self._note(note)

    def _book(self, device: str, epoch: int) -> _Book:
        key = (device, epoch)
        book = self._books.get(key)
        if book is None:
            number = books.book_of(self._sql, device, epoch)
            highest = spans.highest(self._sql, (number, RECEIVED))
            booked = max(spans.highest(self._sql, (number, kind)) for kind in _FATES)
            book = self._books[key] = _Book(number, device, epoch, highest, highest, booked)
            if device not in self._newest:
                self._newest[device] = books.newest_epoch(self._sql, device)
        return book

    def _row(self, book: _Book, row: Row) -> bool:
        """Take in a reading; whether its key is that of another one."""
        if row.seq > book.highest:
            if row.seq > book.highest + 1:
                self._hole(book, row.seq)
            book.highest = row.seq
            if row.seq <= book.booked:
                self._lift(book, row.seq)
            self._queue(book, row, self._lane(book))
            book.hashes.append((row.seq, row.hash))
            return False
        held = book.fresh.get(row.seq)
        if held is None:
            found = self._sql.execute(
                "SELECT hash FROM reading WHERE book = ? AND seq = ?", (book.id, row.seq)
            ).fetchone()
            held = found[0] if found else None
        if held is None:
            self._late(book, row)
        elif held == row.hash:
            self.duplicates += 1
        else:
            self._reused(book, row)
            return True
        return False

    def _lane(self, book: _Book) -> int:
        """Let live have the newest of a device only: what an earlier life took is backfill."""
        newest = self._newest[book.device]
        if book.epoch < newest:
            return AGAIN
        self._newest[book.device] = book.epoch
        return WAITING

    def _queue(self, book: _Book, row: Row, state: int) -> None:
        book.fresh[row.seq] = row.hash
        if self._capacity is not None:
            if self._capacity <= 0:
                book.refused.add(row.seq)
                return
            self._capacity -= 1
        size = tables.size_of(row.body)
        self._rows.append((book.id, row.seq, state, size, self._aged_us, row.hash, row.body))
        self.accepted += 1

    def _late(self, book: _Book, row: Row) -> None:
        """Queue a reading that is not here, though a later one of its epoch came before it.

        Where its row went away as history it is the store that compares the hash: it goes there
        again. A stored reading outranks what was booked for it before.
        """
        received = bool(spans.within(self._sql, (book.id, RECEIVED), row.seq, row.seq))
        lifted = self._lift(book, row.seq)
        self._queue(book, row, AGAIN)
        if not received or lifted & {EVICTED, QUARANTINED}:
            book.hashes.append((row.seq, row.hash))

    def _lift(self, book: _Book, seq: int) -> set[int]:
        """Take back what was booked for a reading that has come after all."""
        lifted = set()
        for kind in _FATES:
            if spans.within(self._sql, (book.id, kind), seq, seq):
                spans.discard(self._sql, (book.id, kind), seq, seq)
                lifted.add(kind)
        return lifted

    def _reused(self, book: _Book, row: Row) -> None:
        """Set aside another reading under a key that is taken: it is never a duplicate."""
        new = tables.quarantine(
            self._sql,
            self._life,
            book.device,
            (book.epoch, row.seq, row.seq),
            reason=REUSE,
            text="another reading has this key",
            digest=row.hash,
            raw=row.body,
            bytes_max=self._quarantine_bytes_max,
        )
        if new:
            self._sql.execute("UPDATE book SET disputed = 1 WHERE id = ?", (book.id,))
            at = (row.seq, row.seq)
            tables.say(self._sql, self._life, "quarantined", (book.device, book.epoch), at, REUSE)

    def _bad(self, device: str, bad: Bad, digest: bytes) -> None:
        tables.quarantine(
            self._sql,
            self._life,
            device,
            (bad.epoch, bad.first, bad.last),
            reason=bad.reason,
            text=bad.text,
            digest=digest,
            raw=bad.raw,
            bytes_max=self._quarantine_bytes_max,
        )
        if bad.epoch is not None and bad.first is not None and bad.last is not None:
            self._book_quarantined(self._book(device, bad.epoch), bad.first, bad.last, bad.reason)

    def _unkeyed(self, intake: Intake) -> None:
        """Book what was bad and did not say its seq: the rest of the claimed range, or a hole."""
        reason = next((bad.reason for bad in intake.bad if bad.first is None), None)
        if reason is None:
            return
        if intake.claim is None:
            tables.set_meta(self._sql, f"unranged:{intake.device}", reason)
        else:
            epoch, first, last = intake.claim
            self._book_quarantined(self._book(intake.device, epoch), first, last, reason)

    def _book_quarantined(self, book: _Book, first: int, last: int, reason: str) -> None:
        for low, high in self._unreceived(book, first, last):
            for new in spans.add(self._sql, (book.id, QUARANTINED), low, high, reason):
                key = (book.device, book.epoch)
                tables.say(self._sql, self._life, "quarantined", key, new, reason)
        book.known = max(book.known, last)
        book.booked = max(book.booked, last)

    def _hole(self, book: _Book, seq: int) -> None:
        """Book the hole before `seq` if something without a range was undecodable before it."""
        name = f"unranged:{book.device}"
        reason = tables.meta(self._sql, name)
        if reason is not None:
            self._book_quarantined(book, book.highest + 1, seq - 1, reason)
            tables.set_meta(self._sql, name, None)

    def _samples(self, intake: Intake, delivery: tuple[str, int, bool, bytes]) -> None:
        again = numbering.is_redelivery(self._sql, delivery, intake.segment)
        if again or numbering.is_given_again(
            self._sql, intake.device, intake.given, intake.segment
        ):
            self.duplicates += len(intake.samples)
            return
        rows, bad = numbering.number(
            self._sql,
            intake.device,
            intake.samples,
            incarnation=self._life.incarnation,
            fresh_epoch=self._fresh_epoch,
            now_us=self._life.clock.wall_us(),
        )
        for row in rows:
            book = self._book(intake.device, row.epoch)
            if row.seq == 0:
                books.own(self._sql, book.id)
            self._row(book, row)
        intake.rows += rows  # for the views, after the commit
        for error in bad:
            apart = Bad(error.reason, error.what, delivery[3])
            self._bad(intake.device, apart, sha256(apart.raw).digest())

    def _fresh_epoch(self, last: int) -> int:
        clock = self._life.clock
        return numbering.new_epoch(last, clock.wall_us(), self._life.random_bits(20))

    def _note(self, note: Note) -> None:
        """Queue a sensor's note and book what it says.

        `gone` goes on only where the gateway neither holds nor has booked the range.
        """
        body = note_bytes(note)
        book = self._book(note.device, note.epoch)
        if note.kind == "gone":
            self._gone(book, note)
            return
        if not tables.add_note(self._sql, note, sha256(body).digest(), body):
            return
        kind = _KIND_OF.get(note.kind)
        if kind is not None:
            missing = self._unreceived(book, note.first, note.last)
            for first, last in missing:
                spans.add(self._sql, (book.id, kind), first, last, note.reason)
            book.known = max(book.known, note.last)
            book.booked = max(book.booked, note.last)

    def _gone(self, book: _Book, note: Note) -> None:
        """Book what the sensor no longer has; a file that was set aside may still hold it."""
        if salvaging.is_under_way(self._sql):
            return  # it is asked for again
        kind: NoteKind = "gone"
        reason = note.reason
        file = salvaging.file_at_fault(self._sql)
        if file is not None:
            kind, reason = "quarantined", f"file {file}"
        for first, last in self._unknown(book, note.first, note.last):
            spans.add(self._sql, (book.id, _KIND_OF[kind]), first, last, reason)
            book.booked = max(book.booked, last)
            key = (note.device, note.epoch)
            tables.say(self._sql, self._life, kind, key, (first, last), reason)

    def _unreceived(self, book: _Book, first: int, last: int) -> RangeSet:
        missing = RangeSet([(first, last)])
        for low, high in (
            *book.received,
            *spans.within(self._sql, (book.id, RECEIVED), first, last),
        ):
            missing.discard(low, high)
        return missing

    def _unknown(self, book: _Book, first: int, last: int) -> RangeSet:
        missing = RangeSet([(first, last)])
        held = self._sql.execute(
            "SELECT seq FROM reading WHERE book = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (book.id, first, last),
        )
        booked = [
            span
            for kind in (STORED, EVICTED, QUARANTINED, GONE)
            for span in spans.within(self._sql, (book.id, kind), first, last)
        ]
        for low, high in (*runs(row[0] for row in held), *booked, *book.received):
            missing.discard(low, high)
        return missing

    def flush(self) -> None:
        """Write what was collected."""
        self._sql.executemany(
            "INSERT INTO reading(book, seq, state, size, aged_us, hash, body)"
            " VALUES(?, ?, ?, ?, ?, ?, ?)",
            self._rows,
        )
        for state in (WAITING, AGAIN):
            sizes = [row[3] for row in self._rows if row[2] == state]
            if sizes:
                tables.shift(self._sql, state, len(sizes), sum(sizes))
        for book in self._books.values():
            self._close(book)
        if self.accepted:
            tables.tally(self._sql, "accepted", self.accepted)
        if self.duplicates:
            tables.tally(self._sql, "duplicates", self.duplicates)

    def _close(self, book: _Book) -> None:
        for first, last in runs(sorted(book.fresh)):
            spans.add(self._sql, (book.id, RECEIVED), first, last)
        for first, last in book.refused:
            spans.add(self._sql, (book.id, EVICTED), first, last, "full")
            key = (book.device, book.epoch)
            tables.say(self._sql, self._life, "evicted", key, (first, last), "full")
            tables.tally(self._sql, "evicted:full", last - first + 1)
        hashes = book.hashes
        if book.refused:
            hashes = [(seq, digest) for seq, digest in hashes if seq not in book.refused]
        books.add_hashes(self._sql, book.id, hashes)
        books.raise_highest(self._sql, book.id, max(book.known, book.highest))
        if book.fresh:
            books.unsettle(self._sql, book.id)
