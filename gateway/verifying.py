"""Hash again what lies in the queue, and compare it with what was booked when it was received.

A reading whose bytes are not those of its hash, or not of its key, is named alone. One that was
changed together with its hash is found by its segment's digest, where the whole segment lies here.
Books, notes, quarantine, counters and the broker's segments are compared in `verifying_…`.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Final

from plantroom.gateway import books, stored, tables, verifying_books, verifying_notes
from plantroom.gateway.queue_schema import (
    AGAIN,
    CONFIRMED,
    EVICTED,
    QUARANTINED,
    RECEIVED,
    WAITING,
)
from plantroom.gateway.verifying_books import Segments
from plantroom.gateway.verifying_notes import GATEWAY, TEXT_CHARS, Found
from plantroom.wire import spans
from plantroom.wire.ranges import RangeSet, runs

_MODULUS: Final = 1 << 256
_STATES: Final = (WAITING, AGAIN, CONFIRMED)
ROWS: Final = "altered: the gateway's rows are not those that were received"
Range = tuple[int, int]
Check = Callable[[], Iterable[Found]]


def altered(connection: sqlite3.Connection, segments: Segments | None = None) -> Iterator[Found]:
    """Give everything that was changed, on one snapshot; `segments`: how the broker's are read.

    What cannot be read at all is named too: by its book, or as the gateway's.
    """
    whole = (GATEWAY, 0, 0, 0)
    notes = verifying_notes.Notes(whole=False)
    found: list[tuple[int, str, int, int]] = []

    def load() -> list[Found]:
        nonlocal notes
        found.extend(_books(connection))
        notes = verifying_notes.load(connection)
        return notes.changed

    yield from _tried(whole, load)
    for book, device, epoch, highest in found:
        at = (device, epoch, 0, max(0, highest) if isinstance(highest, int) else 0)
        for check in _checks(connection, book, (device, epoch), notes):
            yield from _tried(at, check)
    parts: list[Check] = [
        lambda: verifying_notes.set_apart(connection),
        lambda: verifying_books.strays(connection),
        lambda: verifying_books.counters(connection),
        lambda: verifying_books.structure(connection),
    ]
    if segments is not None:
        parts.append(lambda: verifying_books.segments(connection, segments))
    for part in parts:
        yield from _tried(whole, part)


def _books(connection: sqlite3.Connection) -> list[tuple[int, str, int, int]]:
    return connection.execute(
        "SELECT id, device, epoch, highest FROM book ORDER BY device, epoch"
    ).fetchall()


def _checks(
    connection: sqlite3.Connection, book: int, key: tuple[str, int], notes: verifying_notes.Notes
) -> list[Check]:
    return [
        lambda: (Found(*key, *each, ROWS) for each in _altered(connection, book, key)),
        lambda: verifying_books.book(connection, book, key),
        lambda: verifying_notes.excuses(connection, book, key, notes),
    ]


def _tried(at: tuple[str, int, int, int], check: Check) -> Iterator[Found]:
    """Give what a check finds; where it meets what it cannot even read, that is found too."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 -- changed bytes are anything at all
        yield Found(*at, f"altered: it cannot be read: {error}"[:TEXT_CHARS])


def missing(connection: sqlite3.Connection, device: str, epoch: int, queued: RangeSet) -> RangeSet:
    """Return what of the numbers that should wait here has no row that waits."""
    rest = queued.copy()
    again = tables.meta(connection, "requeue_last") is not None
    for (seq,) in connection.execute(
        "SELECT r.seq FROM reading r JOIN book b ON b.id = r.book"
        " WHERE b.device = ? AND b.epoch = ? AND r.state IN (?, ?, ?)",
        (device, epoch, WAITING, AGAIN, CONFIRMED if again else WAITING),
    ):
        if isinstance(seq, int) and seq >= 0:
            rest.discard(seq)
    return rest


def _altered(connection: sqlite3.Connection, book: int, key: tuple[str, int]) -> list[Range]:
    expected = spans.load(connection, (book, RECEIVED))
    for kind in (EVICTED, QUARANTINED):
        for first, last in spans.load(connection, (book, kind)):
            expected.discard(first, last)
    bad: list[int] = []
    here = RangeSet()
    sums: dict[int, int] = {}
    for seq, digest, held, state, size in _rows(connection, book):
        body = held if isinstance(held, bytes) else b""  # a changed column may hold anything
        found = sha256(body).digest()
        sane = state in _STATES and size == tables.size_of(body)
        if found != digest or not sane or not _is_of(body, (*key, seq)):
            bad.append(seq)
        if seq in expected:
            here.add(seq)
            segment = seq // books.SEGMENT_SEQS
            sums[segment] = (sums.get(segment, 0) + int.from_bytes(found)) % _MODULUS
    wrong = list(runs(bad))
    booked = books.digests(connection, book)
    for segment, total in sums.items():
        first = segment * books.SEGMENT_SEQS
        last = first + books.SEGMENT_SEQS - 1
        if any(low <= last and high >= first for low, high in wrong):
            continue  # named already, more exactly
        is_whole = _within(here, first, last) == _within(expected, first, last)
        if is_whole and booked.get(segment) != total.to_bytes(32):
            wrong.append((first, last))
    return sorted(wrong)


_Row = tuple[int, object, object, object, object]


def _rows(connection: sqlite3.Connection, book: int) -> Iterator[_Row]:
    """Give a book's rows in order; one that lies on a page that cannot be read is empty."""
    columns = "SELECT seq, hash, body, state, size FROM reading WHERE book = ?"
    last = -1
    try:
        for row in connection.execute(f"{columns} ORDER BY seq", (book,)):
            yield _sane(row)
            last = row[0]
    except sqlite3.DatabaseError:
        for (seq,) in connection.execute(
            "SELECT seq FROM reading INDEXED BY reading_key WHERE book = ? AND seq > ?"
            " ORDER BY seq",
            (book, last),
        ).fetchall():
            row = (seq, None, None, None, None)
            with contextlib.suppress(sqlite3.DatabaseError):
                row = connection.execute(f"{columns} AND seq = ?", (book, seq)).fetchone() or row
            yield _sane(row)


def _sane(row: _Row) -> _Row:
    """Give a row whose own number is none another."""
    return row if isinstance(row[0], int) and row[0] >= 0 else (0, *row[1:])


def _is_of(body: bytes, key: tuple[str, int, int]) -> bool:
    try:
        return tuple(stored.fields(body)[:3]) == key
    except Exception:  # noqa: BLE001 -- changed bytes are anything at all: not this reading's
        return False


def _within(ranges: RangeSet, first: int, last: int) -> list[Range]:
    return [(max(a, first), min(b, last)) for a, b in ranges if a <= last and b >= first]
