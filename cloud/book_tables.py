"""The SQLite store's books: per (device, epoch) what state each number is in, and digests."""

import sqlite3
from collections.abc import Iterable
from typing import Final

from plantroom.cloud import readback
from plantroom.cloud.readback import BookRef
from plantroom.cloud.store import SEGMENT_SEQS, StoredBook
from plantroom.cloud.store_schema import EVICTED, GONE, QUARANTINED, RETIRED, STORED
from plantroom.wire import spans
from plantroom.wire.ranges import RangeSet
from plantroom.wire.reading import Reading
from plantroom.wire.seal import seal

Newest = dict[tuple[str, str], int]  # point and unit: seq
Run = tuple[int, int, int, int, int, int, int]  # a row of `arrival`, but for its seal
RUN: Final = "book, first, last, low, high, received_us, late"
_MODULUS = 1 << 256
_WORDS = {QUARANTINED: "quarantined", EVICTED: "evicted", GONE: "lost", RETIRED: "evicted"}


def open_book(connection: sqlite3.Connection, device: int, epoch: int) -> int:
    """Return the id of the book of (device, epoch); it is opened when there is none."""
    row = connection.execute(
        "SELECT id FROM book WHERE device = ? AND epoch = ?", (device, epoch)
    ).fetchone()
    if row is None:
        row = connection.execute(
            "INSERT INTO book(device, epoch) VALUES(?, ?) RETURNING id", (device, epoch)
        ).fetchone()
    return int(row[0])


def raise_highest(connection: sqlite3.Connection, book: int, seq: int) -> None:
    """Note that the device has numbered up to `seq`."""
    connection.execute(
        "UPDATE book SET highest = ?, seal = ? WHERE id = ? AND highest < ?",
        (seq, seal(book, seq), book, seq),
    )


def add_runs(connection: sqlite3.Connection, runs: Iterable[Run]) -> None:
    """Note when runs of neighbours were received, and where in time they lie."""
    connection.executemany(
        "INSERT INTO arrival(book, first, last, low, high, received_us, late, seal)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        [(*run, seal(*run)) for run in runs],
    )


def add_digests(connection: sqlite3.Connection, book: int, readings: Iterable[Reading]) -> None:
    """Add the hashes of newly stored readings to their segments' sums modulo 2^256."""
    sums: dict[int, int] = {}
    for reading in readings:
        segment = reading.seq // SEGMENT_SEQS
        sums[segment] = sums.get(segment, 0) + int.from_bytes(reading.hash())
    for segment, total in sums.items():
        row = connection.execute(
            "SELECT total FROM digest WHERE book = ? AND segment = ?", (book, segment)
        ).fetchone()
        whole = (total + (int.from_bytes(row[0]) if row else 0)) % _MODULUS
        connection.execute(
            "INSERT OR REPLACE INTO digest VALUES(?, ?, ?)", (book, segment, whole.to_bytes(32))
        )


def settle(  # noqa: PLR0913, PLR0917 -- a range of a book, and its state
    connection: sqlite3.Connection, book: int, kind: int, first: int, last: int, reason: str = ""
) -> None:
    """Put a range into a state: stored > quarantined > evicted > gone, whichever came first."""
    ranges = [(first, last)]
    for stronger in range(kind):
        ranges = [
            rest
            for low, high in ranges
            for rest in _without(connection, (book, stronger), low, high)
        ]
    for low, high in ranges:
        spans.add(connection, (book, kind), low, high, reason)
        for weaker in range(kind + 1, GONE + 1):
            spans.discard(connection, (book, weaker), low, high)


def _without(
    connection: sqlite3.Connection, key: spans.Key, first: int, last: int
) -> list[tuple[int, int]]:
    inside = spans.within(connection, key, first, last)
    return [(max(low, first), high) for low, high in inside.holes(last) if high >= first]


def stored_books(
    connection: sqlite3.Connection, spiffe_ids: Iterable[str] | None = None
) -> list[StoredBook]:
    """Give books, ordered by site, device and epoch."""
    return [_stored_book(connection, ref) for ref in readback.book_refs(connection, spiffe_ids)]


def _stored_book(connection: sqlite3.Connection, ref: BookRef) -> StoredBook:
    highest, disputed = connection.execute(
        "SELECT highest, disputed FROM book WHERE id = ?", (ref.id,)
    ).fetchone()
    digests = connection.execute(
        "SELECT segment, total FROM digest WHERE book = ? ORDER BY segment", (ref.id,)
    )
    return StoredBook(
        spiffe_id=ref.spiffe_id,
        site=ref.site,
        device=ref.name,
        epoch=ref.epoch,
        highest=highest,
        stored=spans.load(connection, (ref.id, STORED)),
        quarantined=spans.load(connection, (ref.id, QUARANTINED)),
        evicted=spans.load(connection, (ref.id, EVICTED)),
        gone=spans.load(connection, (ref.id, GONE)),
        digests=dict(digests.fetchall()),
        disputed=bool(disputed),
        retired=spans.load(connection, (ref.id, RETIRED)),
        reasons={
            f"{_WORDS.get(kind, kind)}({reason})": count
            for kind, reason, count in connection.execute(
                "SELECT kind, reason, sum(last - first + 1) FROM span"
                " WHERE book = ? AND kind != ? GROUP BY kind, reason",
                (ref.id, STORED),
            )
        },
    )


def altered_segments(
    connection: sqlite3.Connection,
    book: StoredBook,
    seen: RangeSet | None = None,
    newest: Newest | None = None,
) -> list[int]:
    """Recompute a book's digests from its rows; give the segments that differ.

    A segment whose rows went by retention cannot be compared. `seen` is told which numbers are
    there, `newest` the last of them that has a point.
    """
    found = [
        ref for ref in readback.book_refs(connection, [book.spiffe_id]) if ref.epoch == book.epoch
    ]
    sums: dict[int, int] = {}
    for ref in found:
        for reading in readback.readings_of(connection, ref):
            segment = reading.seq // SEGMENT_SEQS
            sums[segment] = (sums.get(segment, 0) + int.from_bytes(reading.hash())) % _MODULUS
            if seen is not None:
                seen.add(reading.seq)
            if newest is not None:
                newest.update(
                    ((point.name, point.unit or ""), reading.seq) for point in reading.points
                )
    digests = {segment: total.to_bytes(32) for segment, total in sums.items()}
    retired = {n for a, b in book.retired for n in range(a // SEGMENT_SEQS, b // SEGMENT_SEQS + 1)}
    segments = sorted((digests.keys() | book.digests.keys()) - retired)
    return [each for each in segments if digests.get(each) != book.digests.get(each)]
