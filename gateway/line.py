"""Where each lane stands in the queue, and what is in the air.

Belongs to the database's writer thread, as evicting does: so the two can never meet half way.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from plantroom.gateway import answers
from plantroom.gateway.answers import Sent
from plantroom.gateway.lanes import Flight, NoteSent
from plantroom.gateway.queue_schema import AGAIN, CONFIRMED, WAITING
from plantroom.gateway.tables import Depth
from plantroom.wire.envelope import Lane, Note, note_from

_REQUEUE_STEP: Final = 5_000
_LIVE_BACKLOG_MAX: Final = 20_000
_LIVE_COUNTED_MAX: Final = 2 * _LIVE_BACKLOG_MAX  # with what is in the air


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A batch's content as it leaves the queue."""

    rows: tuple[Sent, ...] = ()
    bodies: tuple[bytes, ...] = ()
    notes: tuple[NoteSent, ...] = ()
    told: tuple[Note, ...] = ()
    heads: dict[str, dict[int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rows or self.notes)


class Line:
    """The next reading of each lane, and the rows and notes that wait for a receipt.

    Live is what has arrived, in order, from `boundary` on; all else that waits is backfill.
    """

    def __init__(self) -> None:
        self.in_air: set[int] = set()
        self.boundary = 0
        self.saving = False
        self._notes_in_air: set[int] = set()
        self._next: dict[Lane, int] = {"live": 0, "backfill": 0}

    def begin(self, sql: sqlite3.Connection) -> None:
        """Make live what arrives from now on."""
        last = sql.execute("SELECT ifnull(max(id), 0) FROM reading").fetchone()[0]
        self._next["backfill"] = min(self._next["backfill"], self.boundary)
        self.boundary = self._next["live"] = last + 1

    def live(self, sql: sqlite3.Connection) -> Depth:
        """Count what waits in the live lane.

        More than that lane ever holds has grown without a link, and goes to backfill with the next
        one. To count days of it, for everybody who asks how the queue is doing, would keep the
        disk and this thread from all else.
        """
        count, size = sql.execute(
            "SELECT count(*), ifnull(sum(size), 0) FROM (SELECT size FROM reading"
            f" INDEXED BY reading_waiting WHERE state < {CONFIRMED} AND state = {WAITING}"
            " AND id >= ? ORDER BY id LIMIT ?)",
            (self.boundary, _LIVE_COUNTED_MAX + 1),
        ).fetchone()
        return Depth() if count > _LIVE_COUNTED_MAX else Depth(readings=count, bytes=size)

    def connected(self, flights: Sequence[Flight], sql: sqlite3.Connection) -> None:
        """Have just what `flights` carry in the air, and begin anew."""
        self.in_air = {row.id for flight in flights for row in flight.rows}
        self._notes_in_air = {number for flight in flights for number, _ in flight.notes}
        self._next["backfill"] = 0
        self.begin(sql)

    def land(self, flight: Flight) -> None:
        """Take what a batch carried out of the air."""
        self.in_air.difference_update(row.id for row in flight.rows)
        self._notes_in_air.difference_update(n for n, _ in flight.notes)

    def rewind(self, to: int) -> None:
        """Look for backfill from this row on again."""
        self._next["backfill"] = min(self._next["backfill"], to)

    def take(
        self, lane: Lane, readings_max: int, bytes_max: int, notes_max: int, sql: sqlite3.Connection
    ) -> Taken:
        """Take the next readings of a lane, and for backfill notes, into the air."""
        if lane == "backfill" and not self.saving and answers.requeue(sql, _REQUEUE_STEP):
            self.rewind(0)
        found = self._next_rows(sql, lane, readings_max)
        rows: list[Sent] = []
        bodies: list[bytes] = []
        size = 0
        for number, book, device, epoch, seq, body in found:
            if rows and size + len(body) > bytes_max:
                break
            rows.append(Sent(number, book, device, epoch, seq))
            bodies.append(body)
            size += len(body)
        if rows:
            self._next[lane] = rows[-1].id + 1
            self.in_air.update(row.id for row in rows)
        notes = self._next_notes(sql, notes_max) if lane == "backfill" else []
        self._notes_in_air.update(note[0][0] for note in notes)
        return Taken(
            rows=tuple(rows),
            bodies=tuple(bodies),
            notes=tuple(note[0] for note in notes),
            told=tuple(note[1] for note in notes),
            heads=_heads(sql, rows),
        )

    def _next_rows(self, sql: sqlite3.Connection, lane: Lane, limit: int) -> list[Any]:
        columns = (
            "SELECT r.id, r.book, b.device, b.epoch, r.seq, r.body"
            " FROM reading r INDEXED BY reading_waiting JOIN book b ON b.id = r.book"
        )
        start = self._next[lane]
        if lane == "live":
            self._hurry(sql)
            start = self._next["live"]
            where = f" WHERE r.state < {CONFIRMED} AND r.state = {WAITING} AND r.id >= ?"
            rows = sql.execute(f"{columns}{where} ORDER BY r.id LIMIT ?", (start, limit)).fetchall()
            return [row for row in rows if row[0] not in self.in_air]
        where = (
            f" WHERE r.state < {CONFIRMED} AND r.id >= ? AND (r.id < ? OR r.state = {AGAIN})"
            " ORDER BY r.id"
        )
        chosen = []
        for row in sql.execute(columns + where, (start, self.boundary)):
            if row[0] not in self.in_air:
                chosen.append(row)
                if len(chosen) == limit:
                    break
        if not chosen:
            last = sql.execute("SELECT ifnull(max(id), 0) FROM reading").fetchone()[0]
            self._next["backfill"] = last + 1
        return chosen

    def _hurry(self, sql: sqlite3.Connection) -> None:
        """Leave a live backlog that grows too long to backfill, so that live stays live."""
        last = sql.execute("SELECT ifnull(max(id), 0) FROM reading").fetchone()[0]
        if last - self._next["live"] > _LIVE_BACKLOG_MAX:
            self.begin(sql)

    def _next_notes(self, sql: sqlite3.Connection, limit: int) -> list[tuple[NoteSent, Note]]:
        rows = sql.execute(
            "SELECT id, body FROM note INDEXED BY note_pending WHERE told = 0 ORDER BY id LIMIT ?",
            (limit + len(self._notes_in_air),),
        ).fetchall()
        notes = [(number, note_from(body)) for number, body in rows]
        free = [(n, note) for n, note in notes if n not in self._notes_in_air]
        return [((n, (note.author, note.life, note.number)), note) for n, note in free[:limit]]


def _heads(sql: sqlite3.Connection, rows: Sequence[Sent]) -> dict[str, dict[int, int]]:
    heads: dict[str, dict[int, int]] = {}
    for book in {row.book for row in rows}:
        device, epoch, highest = sql.execute(
            "SELECT device, epoch, highest FROM book WHERE id = ?", (book,)
        ).fetchone()
        heads.setdefault(device, {})[epoch] = highest
    return heads


def content(flight: Flight, sql: sqlite3.Connection) -> Taken:
    """Return what a batch carries."""
    bodies = [
        sql.execute("SELECT body FROM reading WHERE id = ?", (row.id,)).fetchone()[0]
        for row in flight.rows
    ]
    told = [
        note_from(sql.execute("SELECT body FROM note WHERE id = ?", (n,)).fetchone()[0])
        for n, _ in flight.notes
    ]
    return Taken(
        rows=flight.rows,
        bodies=tuple(bodies),
        notes=flight.notes,
        told=tuple(told),
        heads=_heads(sql, flight.rows),
    )
