"""The rules of the sensor's ring: what goes when it is full, and what says that it went.

Rows of any state share the limits. Sent rows go first and silently; a row that was not
acknowledged leaves a tombstone. Runs inside its caller's transaction, on its caller's thread.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from plantroom.wire import senml
from plantroom.wire.envelope import Note, NoteKind
from plantroom.wire.ranges import RangeSet
from plantroom.wire.reading import Reading

SCHEMA = """
CREATE TABLE epoch(
    epoch INTEGER PRIMARY KEY, next_seq INTEGER NOT NULL, next_note INTEGER NOT NULL);
CREATE TABLE reading(
    epoch INTEGER NOT NULL, seq INTEGER NOT NULL, state INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, ran_us INTEGER NOT NULL, pack BLOB NOT NULL,
    PRIMARY KEY(epoch, seq)) WITHOUT ROWID;
CREATE INDEX reading_state ON reading(state, epoch, seq);
CREATE TABLE note(
    life INTEGER NOT NULL, number INTEGER NOT NULL, epoch INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, reason TEXT NOT NULL,
    at_us INTEGER NOT NULL, PRIMARY KEY(life, number)) WITHOUT ROWID;
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
NOTES_SAY_MORE = """
ALTER TABLE note ADD COLUMN kind TEXT NOT NULL DEFAULT 'evicted';
ALTER TABLE note ADD COLUMN offset_us INTEGER;
CREATE TABLE timeless(epoch INTEGER PRIMARY KEY, boot TEXT NOT NULL);
"""
ROWS_SAY_WHETHER_WHOLE = "ALTER TABLE reading ADD COLUMN crc INTEGER;"
UNSENT, PARKED, SENT = STATES = 0, 1, 2
GONE_NOTES_MAX = 1000
NOTES_IN_THE_AIR_MAX = 64

Key = tuple[int, int]  # a reading's epoch and seq, or a note's life and number


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the ring holds at most; `age_s_max` counts running time, 0: no limit."""

    readings_max: int = 1000
    bytes_max: int = 4 * 1024 * 1024
    age_s_max: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How full the ring is, and what was evicted since this process started."""

    unsent: int = 0
    parked: int = 0
    sent: int = 0
    size_bytes: int = 0
    waiting_bytes: int = 0
    notes: int = 0
    evicted: dict[str, int] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """Readings that no one has acknowledged yet."""
        return self.unsent + self.parked

    @property
    def held(self) -> int:
        """Readings of any state."""
        return self.unsent + self.parked + self.sent

    def moved(self, state: int, readings: int, size_bytes: int) -> "Counts":
        """Return these counts after `readings` more (or fewer) of one state."""
        waits = state != SENT
        return replace(
            self,
            unsent=self.unsent + (readings if state == UNSENT else 0),
            parked=self.parked + (readings if state == PARKED else 0),
            sent=self.sent + (readings if state == SENT else 0),
            size_bytes=self.size_bytes + size_bytes,
            waiting_bytes=self.waiting_bytes + (size_bytes if waits else 0),
        )


class _Row(NamedTuple):
    epoch: int
    seq: int
    state: int
    size_bytes: int


_ROW = "SELECT epoch, seq, state, size_bytes FROM reading"


class Ring:
    """The rows of one outbox; `life` is the epoch in which tombstones are numbered now."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits, *, life: int) -> None:
        self._db = connection
        self._limits = limits
        self._life = life
        self._air: set[Key] = set()
        self._notes_seen: set[Key] = set()  # those that someone may have read: fixed for good
        self.broken: set[Key] = set()  # not as they were written: found, and not yet given up
        self.counts = self._count()

    def _count(self) -> Counts:
        counts = Counts()
        for state, readings, size_bytes in self._db.execute(
            "SELECT state, COUNT(*), SUM(size_bytes) FROM reading GROUP BY state"
        ):
            counts = counts.moved(state, readings, size_bytes)
        (notes,) = self._db.execute("SELECT COUNT(*) FROM note").fetchone()
        return replace(counts, notes=notes)

    @property
    def room(self) -> int:
        """How many readings fit before one that was not acknowledged has to go."""
        if self.counts.waiting_bytes >= self._limits.bytes_max:
            return 0
        return max(0, self._limits.readings_max - self.counts.waiting)

    def fits(self, pack: bytes) -> bool:
        """Say whether this one fits without displacing what was not acknowledged."""
        return (
            self.counts.waiting < self._limits.readings_max
            and self.counts.waiting_bytes + len(pack) <= self._limits.bytes_max
        )

    def add(self, reading: Reading, pack: bytes, ran_us: int) -> None:
        """Put a new reading in; `make_room` comes afterwards."""
        self._db.execute(
            "INSERT INTO reading VALUES(?, ?, ?, ?, ?, ?, ?)",
            (reading.epoch, reading.seq, UNSENT, len(pack), ran_us, pack, zlib.crc32(pack)),
        )
        self.counts = self.counts.moved(UNSENT, 1, len(pack))

    def make_room(self, at_us: int) -> None:
        """Overwrite sent rows first, then the oldest; those in the air only if nothing else is."""
        over = self.counts.held - self._limits.readings_max
        over_bytes = self.counts.size_bytes - self._limits.bytes_max
        victims = []
        if over > 0 or over_bytes > 0:
            for row in self._least_needed_first():
                victims.append(row)
                over, over_bytes = over - 1, over_bytes - row.size_bytes
                if over <= 0 and over_bytes <= 0:
                    break
        self._evict(victims, "full", at_us)

    def _least_needed_first(self) -> Iterator[_Row]:
        sent = self._db.execute(f"{_ROW} WHERE state = {SENT} ORDER BY epoch, seq")
        yield from map(_Row._make, sent)
        in_the_air = []
        waiting = self._db.execute(f"{_ROW} WHERE state <> {SENT} ORDER BY epoch, seq")
        for row in map(_Row._make, waiting):
            if (row.epoch, row.seq) in self._air:
                in_the_air.append(row)
            else:
                yield row
        yield from in_the_air

    def expire(self, ran_us: int, at_us: int) -> None:
        """Evict what has waited longer than it may, in running time."""
        if self._limits.age_s_max:
            oldest_us = ran_us - self._limits.age_s_max * 1_000_000
            rows = self._db.execute(f"{_ROW} WHERE ran_us < ? ORDER BY epoch, seq", (oldest_us,))
            self._evict(list(map(_Row._make, rows)), "age", at_us)

    def _evict(self, victims: Iterable[_Row], reason: str, at_us: int) -> None:
        for row in victims:
            self._db.execute(
                "DELETE FROM reading WHERE epoch = ? AND seq = ?", (row.epoch, row.seq)
            )
            self.counts = self.counts.moved(row.state, -1, -row.size_bytes)
            if row.state != SENT:
                self._entomb(row, reason, at_us)

    def _entomb(self, row: _Row, reason: str, at_us: int) -> None:
        """Write a tombstone, or lengthen the last one if no one can have read it yet."""
        evicted = self.counts.evicted | {reason: self.counts.evicted.get(reason, 0) + 1}
        self.counts = replace(self.counts, evicted=evicted)
        last = self._db.execute(
            "SELECT number, epoch, last + 1, reason, kind FROM note WHERE life = ?"
            " ORDER BY number DESC LIMIT 1",
            (self._life,),
        ).fetchone()
        follows = last is not None and last[1:] == (row.epoch, row.seq, reason, "evicted")
        if follows and (self._life, last[0]) not in self._notes_seen:
            self._db.execute(
                "UPDATE note SET last = ? WHERE life = ? AND number = ?",
                (row.seq, self._life, last[0]),
            )
            return
        self.say("evicted", (row.epoch, row.seq, row.seq), reason, at_us)

    def say(
        self,
        kind: NoteKind,
        span: tuple[int, int, int],
        reason: str,
        at_us: int,
        offset_us: int | None = None,
    ) -> None:
        """Write a note about `span` (epoch, first, last) under the next number of this life."""
        (number,) = self._db.execute(
            "UPDATE epoch SET next_note = next_note + 1 WHERE epoch = ? RETURNING next_note - 1",
            (self._life,),
        ).fetchone()
        self._db.execute(
            "INSERT INTO note(life, number, epoch, first, last, reason, at_us, kind, offset_us)"
            " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self._life, number, *span, reason, at_us, kind, offset_us),
        )
        self.counts = replace(self.counts, notes=self.counts.notes + 1)

    def reopen(self, epoch: int, first: int, last: int) -> RangeSet:
        """Have sent readings of a range wait again; return what of it is neither here nor noted."""
        missing = RangeSet([(first, last)])
        rows = self._db.execute(
            f"{_ROW} WHERE epoch = ? AND seq BETWEEN ? AND ?", (epoch, first, last)
        ).fetchall()
        for row in map(_Row._make, rows):
            missing.discard(row.seq)
        self.mark([(epoch, row[1]) for row in rows if row[2] not in {UNSENT, PARKED}], UNSENT)
        for low, high in self._db.execute(
            "SELECT first, last FROM note WHERE epoch = ? AND kind <> 'correction'", (epoch,)
        ):
            missing.discard(low, high)
        return missing

    def begin_life(self, epoch: int) -> None:
        """Count notes in a new epoch from now on."""
        self._life = epoch

    def take(
        self, state: int, count_max: int, bytes_max: int, *, behind: Key = (-1, -1)
    ) -> tuple[Reading, ...]:
        """Take the oldest run of readings behind a key that are not in the air into the air.

        A run is of one epoch and without gaps, so that its range names nothing else; at least one
        reading, however large.
        """
        run: list[Reading] = []
        size_bytes = 0
        rows = self._db.execute(
            "SELECT epoch, seq, pack, crc FROM reading WHERE state = ? AND (epoch, seq) > (?, ?)"
            " ORDER BY epoch, seq",
            (state, *behind),
        )
        for epoch, seq, pack, crc in rows:
            if (epoch, seq) in self._air:
                if run:
                    break
                continue
            reading = _whole((epoch, seq), pack, crc)
            if reading is None:
                self.broken.add((epoch, seq))
                continue
            size_bytes += len(pack)
            apart = run and (run[-1].epoch, run[-1].seq + 1) != (epoch, seq)
            if apart or (run and size_bytes > bytes_max):
                break
            run.append(reading)
            if len(run) == count_max:
                break
        rows.close()
        self._air.update((reading.epoch, reading.seq) for reading in run)
        return tuple(run)

    def give_up(self, at_us: int) -> list[tuple[int, int, int]]:
        """Take broken rows out and say that they are gone; return which: epoch, first, last.

        Whoever was sent them when they were whole still has them, and knows better.
        """
        spans: list[tuple[int, int, int]] = []
        for key in sorted(self.broken):
            row = self._db.execute(f"{_ROW} WHERE epoch = ? AND seq = ?", key).fetchone()
            if row is None:
                continue
            self._db.execute("DELETE FROM reading WHERE epoch = ? AND seq = ?", key)
            self.counts = self.counts.moved(row[2], -1, -row[3])
            if spans and (spans[-1][0], spans[-1][2] + 1) == key:
                spans[-1] = (key[0], spans[-1][1], key[1])
            else:
                spans.append((*key, key[1]))
        for span in spans:
            self.say("gone", span, "media", at_us)
        return spans

    def land(self, keys: Iterable[Key]) -> None:
        """Take readings out of the air again; whoever knows more marks them first."""
        self._air.difference_update(keys)

    def mark(self, keys: Iterable[Key], state: int) -> None:
        """Change the state of readings; those that have gone in the meantime stay gone."""
        for key in keys:
            row = self._db.execute(f"{_ROW} WHERE epoch = ? AND seq = ?", key).fetchone()
            if row is None:
                continue
            old = _Row._make(row)
            self._db.execute("UPDATE reading SET state = ? WHERE epoch = ? AND seq = ?",
                             (state, *key))  # fmt: skip
            self.counts = self.counts.moved(old.state, -1, -old.size_bytes)
            self.counts = self.counts.moved(state, 1, old.size_bytes)

    def waiting(self, count_max: int) -> tuple[Reading, ...]:
        """Return the oldest readings that no one has acknowledged, also those in the air."""
        rows = self._db.execute(
            "SELECT epoch, seq, pack, crc FROM reading WHERE state <> ?"
            " ORDER BY epoch, seq LIMIT ?",
            (SENT, count_max),
        )
        found = (_whole((epoch, seq), pack, crc) for epoch, seq, pack, crc in rows)
        return tuple(reading for reading in found if reading is not None)

    def notes(self, device: str) -> tuple[Note, ...]:
        """Return the oldest tombstones that speak of one epoch; they are never changed again."""
        rows = self._db.execute(
            "SELECT life, number, epoch, first, last, reason, at_us, kind, offset_us FROM note"
            " WHERE epoch = (SELECT epoch FROM note ORDER BY life, number LIMIT 1)"
            " ORDER BY life, number LIMIT ?",
            (NOTES_IN_THE_AIR_MAX,),
        ).fetchall()
        self._notes_seen.update((life, number) for life, number, *_ in rows)
        return tuple(
            Note(
                kind=kind,
                author="sensor",
                life=life,
                number=number,
                device=device,
                epoch=epoch,
                first=first,
                last=last,
                reason=reason,
                at_us=at_us,
                offset_us=offset_us,
            )
            for life, number, epoch, first, last, reason, at_us, kind, offset_us in rows
        )

    def drop_notes(self, keys: Iterable[Key]) -> None:
        """Forget tombstones that have been acknowledged."""
        for key in keys:
            gone = self._db.execute("DELETE FROM note WHERE life = ? AND number = ?", key).rowcount
            self.counts = replace(self.counts, notes=self.counts.notes - gone)
        self._notes_seen.difference_update(keys)


def _whole(key: Key, pack: object, crc: int | None) -> Reading | None:
    """Return a row's reading, or None when the row is not as it was written.

    Rows of a former version have no checksum.
    """
    if not isinstance(pack, bytes) or crc not in {None, zlib.crc32(pack)}:
        return None
    reading = senml.decode(pack).readings[0]
    return reading if (reading.epoch, reading.seq) == key else None
