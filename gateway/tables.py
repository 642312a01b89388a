"""Small steps on the queue's tables that several of its operations share."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from plantroom.wire import apart
from plantroom.wire.clock import Clock
from plantroom.wire.envelope import Note, NoteKind, note_bytes
from plantroom.wire.quarantined import REPLAYED
from plantroom.wire.ranges import runs
from plantroom.wire.seal import seal

ROW_OVERHEAD_BYTES: Final = 120  # hash, key and index entries of one reading on disk
TOLD_NOTES_MAX: Final = 10_000
QUARANTINE_SEALED: Final = (
    "device, epoch, first, last, reason, text, hash, at_us, outcome, outcome_us, raw IS NOT NULL"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One run of the gateway: its random incarnation, its clock, its source of random bits."""

    incarnation: int
    clock: Clock
    random_bits: Callable[[int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many readings and bytes are in one state."""

    readings: int = 0
    bytes: int = 0

    def __add__(self, other: "Depth") -> "Depth":
        return Depth(readings=self.readings + other.readings, bytes=self.bytes + other.bytes)


def meta(connection: sqlite3.Connection, name: str, default: Any = None) -> Any:
    """Return one persisted value."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return default if row is None else row[0]


def set_meta(connection: sqlite3.Connection, name: str, value: object) -> None:
    """Persist one value; None takes it away."""
    if value is None:
        connection.execute("DELETE FROM meta WHERE name = ?", (name,))
    else:
        connection.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (name, value))


def tally(connection: sqlite3.Connection, name: str, count: int = 1) -> None:
    """Count something for the metrics; the count survives restarts."""
    connection.execute(
        "INSERT INTO tally VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value = value + ?",
        (name, count, count),
    )


def shift(connection: sqlite3.Connection, state: int, readings: int, size: int) -> None:
    """Account for readings that enter (positive) or leave (negative) a state."""
    connection.execute(
        "UPDATE depth SET readings = readings + ?, bytes = bytes + ? WHERE state = ?",
        (readings, size, state),
    )


def depths(connection: sqlite3.Connection) -> dict[int, Depth]:
    """Return the depth of every state."""
    rows = connection.execute("SELECT state, readings, bytes FROM depth").fetchall()
    return {state: Depth(readings=count, bytes=size) for state, count, size in rows}


def move(connection: sqlite3.Connection, ids: Iterable[int], to: int) -> None:
    """Move readings, by ascending id, to another state, and account for them."""
    for first, last in runs(ids):
        for state, count, size in connection.execute(
            "SELECT state, count(*), sum(size) FROM reading"
            " WHERE id BETWEEN ? AND ? AND state != ? GROUP BY state",
            (first, last, to),
        ).fetchall():
            shift(connection, state, -count, -size)
            shift(connection, to, count, size)
        connection.execute(
            "UPDATE reading SET state = ? WHERE id BETWEEN ? AND ? AND state != ?",
            (to, first, last, to),
        )


def remove(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Delete readings, by ascending id, and account for them."""
    for first, last in runs(ids):
        for state, count, size in connection.execute(
            "SELECT state, count(*), sum(size) FROM reading"
            " WHERE id BETWEEN ? AND ? GROUP BY state",
            (first, last),
        ).fetchall():
            shift(connection, state, -count, -size)
        connection.execute("DELETE FROM reading WHERE id BETWEEN ? AND ?", (first, last))


def add_note(connection: sqlite3.Connection, note: Note, digest: bytes, body: bytes) -> bool:
    """Queue a note for the cloud; False when exactly this note is known already."""
    cursor = connection.execute(
        "INSERT OR IGNORE INTO note(author, life, number, device, hash, body)"
        " VALUES(?, ?, ?, ?, ?, ?)",
        (note.author, note.life, note.number, note.device, digest, body),
    )
    return cursor.rowcount == 1


def say(  # noqa: PLR0913, PLR0917 -- one note, field by field
    connection: sqlite3.Connection,
    life: Life,
    kind: NoteKind,
    key: tuple[str, int],
    span: tuple[int, int],
    reason: str,
) -> None:
    """Write a note of the gateway's own about `span` of `key` (device, epoch)."""
    number = int(meta(connection, "note_number", 0))
    set_meta(connection, "note_number", number + 1)
    note = Note(
        kind=kind,
        author="gateway",
        life=life.incarnation,
        number=number,
        device=key[0],
        epoch=key[1],
        first=span[0],
        last=span[1],
        reason=reason,
        at_us=life.clock.wall_us(),
    )
    body = note_bytes(note)
    add_note(connection, note, body, body)


def forget_told_notes(connection: sqlite3.Connection) -> None:
    """Keep the notes that are done with bounded; the latest stay, to know repeats by."""
    connection.execute(
        "DELETE FROM note WHERE told = 1 AND id <= (SELECT max(id) FROM note) - ?",
        (TOLD_NOTES_MAX,),
    )


def quarantine(  # noqa: PLR0913 -- one row of the table, every column named
    connection: sqlite3.Connection,
    life: Life,
    device: str,
    span: tuple[int | None, int | None, int | None],
    *,
    reason: str,
    text: str,
    digest: bytes,
    raw: bytes,
    bytes_max: int,
) -> bool:
    """Set something aside; False when it is there already. `span` is (epoch, first, last).

    When the raw bytes of all of them would exceed `bytes_max`, these are not kept; the rest is.
    What was replayed and has to be set aside again is as new: its bytes are nowhere else.
    """
    kept = int(meta(connection, "quarantine_bytes", 0))
    fits = kept + len(raw) <= bytes_max
    at_us = life.clock.wall_us()
    said = (device, *span, reason, text[:500], digest, at_us)
    cursor = connection.execute(
        "INSERT INTO quarantine(device, epoch, first, last, reason, text, hash, at_us, raw, seal)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET last = excluded.last,"
        " text = excluded.text, at_us = excluded.at_us, raw = excluded.raw, outcome = '',"
        f" outcome_us = NULL, seal = excluded.seal WHERE outcome = '{REPLAYED}'",
        (*said, raw if fits else None, seal(*said, "", None, int(fits))),
    )
    if cursor.rowcount != 1:
        return False
    epoch, first, last = span
    apart.count(
        connection, device, apart.UNKNOWN if epoch is None else epoch, first or 0, last or 0
    )
    if fits:
        set_meta(connection, "quarantine_bytes", kept + len(raw))
    tally(connection, f"quarantined:{reason}")
    return True


def size_of(body: bytes) -> int:
    """Return what a reading costs on disk, for the limits."""
    return len(body) + ROW_OVERHEAD_BYTES


def recent(connection: sqlite3.Connection, device: str, limit: int) -> list[bytes]:
    """Return the bodies of a device's latest `limit` readings that are still here, newest first."""
    found: list[bytes] = []
    books = connection.execute(
        "SELECT id FROM book WHERE device = ? ORDER BY epoch DESC", (device,)
    ).fetchall()
    for (book,) in books:
        rows = connection.execute(
            "SELECT body FROM reading WHERE book = ? ORDER BY seq DESC LIMIT ?",
            (book, limit - len(found)),
        )
        found += [row[0] for row in rows]
        if len(found) >= limit:
            break
    return found
