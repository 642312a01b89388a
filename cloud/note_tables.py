"""Notes in the SQLite store: tombstones, quarantines, `gone` and clock corrections, once each."""

import hashlib
import sqlite3

from plantroom.cloud import book_tables
from plantroom.cloud.placing import Series
from plantroom.cloud.readback import BookRef
from plantroom.cloud.store import Delivery
from plantroom.cloud.store_schema import EVICTED, GONE, HOUR_US, QUARANTINED, TIMELESS
from plantroom.wire.envelope import Note, note_bytes
from plantroom.wire.seal import seal

_KINDS = {"evicted": EVICTED, "quarantined": QUARANTINED, "gone": GONE}


class NoteTables:
    """Takes notes and lets them work on the books."""

    def __init__(self, series: Series) -> None:
        self._series = series

    def take(
        self, connection: sqlite3.Connection, delivery: Delivery, note: Note, *, ours: bool
    ) -> bool:
        """Keep a note and apply it, unless it is there already; a foreign one is only kept.

        The same number with other content is another note, and is kept as well.
        """
        by_sensor = ours and note.author == "sensor"
        owner = note.device if by_sensor else f"{delivery.site}/{delivery.gateway}"
        body = note_bytes(note)
        digest = hashlib.sha256(body).digest()
        said = (owner, note.life, note.number, digest, delivery.received_us)
        done = connection.execute(
            "INSERT OR IGNORE INTO note(owner, life, number, hash, received_us, body, seal)"
            " VALUES(?, ?, ?, ?, ?, ?, ?)",
            (*said, body, seal(*said)),
        )
        if not done.rowcount or not ours:
            return False
        ref = self._series.book(connection, note.device, note.epoch)
        if note.kind == "correction":
            if note.offset_us is not None:
                correct(connection, ref, note.offset_us)
        else:
            kind = _KINDS[note.kind]
            book_tables.settle(connection, ref.id, kind, note.first, note.last, note.reason)
            book_tables.raise_highest(connection, ref.id, note.last)
        return True


def correct(connection: sqlite3.Connection, ref: BookRef, offset_us: int) -> None:
    """Give a book's readings that have no time yet theirs: time since boot plus `offset_us`.

    What was sent stays as it was sent (hash and digest are of that): only where the rows lie moves.
    """
    connection.execute("UPDATE book SET offset_us = ? WHERE id = ?", (offset_us, ref.id))
    moved = (offset_us, HOUR_US, offset_us, TIMELESS, ref.epoch, ref.device)
    connection.execute(
        "INSERT INTO r SELECT (ts + ?) / ?, series, ts + ?, epoch, seq, value FROM r"
        " WHERE bucket = ? AND epoch = ? AND series IN (SELECT id FROM series WHERE device = ?)",
        moved,
    )
    connection.execute(
        "DELETE FROM r WHERE bucket = ? AND epoch = ?"
        " AND series IN (SELECT id FROM series WHERE device = ?)",
        (TIMELESS, ref.epoch, ref.device),
    )
    timeless = connection.execute(
        "SELECT first FROM arrival WHERE book = ? AND low = ?", (ref.id, TIMELESS)
    ).fetchall()
    connection.execute(
        "UPDATE arrival SET"
        " low = (SELECT MIN(mono_us + :offset) / :hour FROM mono"
        "        WHERE book = arrival.book AND seq BETWEEN arrival.first AND arrival.last),"
        " high = (SELECT MAX(mono_us + :offset) / :hour FROM mono"
        "         WHERE book = arrival.book AND seq BETWEEN arrival.first AND arrival.last)"
        " WHERE book = :book AND low = :timeless",
        {"offset": offset_us, "hour": HOUR_US, "book": ref.id, "timeless": TIMELESS},
    )
    for (first,) in timeless:
        where = (ref.id, first)
        run = connection.execute(
            f"SELECT {book_tables.RUN} FROM arrival WHERE book = ? AND first = ?", where
        ).fetchone()
        connection.execute(
            "UPDATE arrival SET seal = ? WHERE book = ? AND first = ?", (seal(*run), *where)
        )
    connection.execute(
        "UPDATE latest SET ts = (SELECT mono_us FROM mono WHERE book = ? AND seq = latest.seq) + ?"
        " WHERE ts IS NULL AND epoch = ? AND series IN (SELECT id FROM series WHERE device = ?)",
        (ref.id, offset_us, ref.epoch, ref.device),
    )
