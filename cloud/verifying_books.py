"""Look for what cannot be in the store's books, and for what is in its tables and in no book."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from plantroom.cloud import book_tables, readback
from plantroom.cloud.readback import BookRef
from plantroom.cloud.store import SEGMENT_SEQS, Altered
from plantroom.cloud.store_schema import GONE, HOUR_US, RETIRED, STORED
from plantroom.cloud.verifying_notes import TEXT_CHARS, Key, Notes, set_apart
from plantroom.wire import spans
from plantroom.wire.seal import column, seal

CLOUD: Final = ("cloud", 0)  # whose is what belongs to no device
_COMPLAINTS_MAX: Final = 20
_KINDS: Final = range(STORED, max(GONE, RETIRED) + 1)
_REASON: Final = "retention"


def book(connection: sqlite3.Connection, ref: BookRef) -> Iterator[Altered]:
    """Check one book by itself: its ranges, its highest number, its digests, its arrivals."""
    highest, sealed = connection.execute(
        f"SELECT highest, {column(connection, 'book')} FROM book WHERE id = ?", (ref.id,)
    ).fetchone()
    top = -1
    ends: dict[int, int] = {}
    for kind, first, last, reason in connection.execute(
        "SELECT kind, first, last, reason FROM span WHERE book = ? ORDER BY kind, first", (ref.id,)
    ):
        sane = all(isinstance(n, int) for n in (kind, first, last)) and 0 <= first <= last
        if not sane or kind not in _KINDS or first <= ends.get(kind, -1):
            low, high = (first, last) if sane else (0, max(0, highest))
            yield Altered(low, high, "altered: a range in the books that cannot be")
            continue
        expected = {STORED: "", RETIRED: _REASON}.get(kind, reason)
        if reason != expected:
            yield Altered(first, last, "altered: a range in the books has another reason")
        ends[kind] = last
        top = max(top, last)
    if highest < top or (sealed is not None and sealed != seal(ref.id, highest)):
        text = f"altered: its highest number is booked as {highest}"
        yield Altered(max(0, top), max(0, top, highest), text[:TEXT_CHARS])
    yield from _retired(connection, ref)
    yield from _arrivals(connection, ref)


def _retired(connection: sqlite3.Connection, ref: BookRef) -> Iterator[Altered]:
    """Compare what retention has left: ranges that were stored, and digests of their segments."""
    stored = spans.load(connection, (ref.id, STORED))
    gone = spans.load(connection, (ref.id, RETIRED))
    rest = gone.copy()
    for first, last in stored:
        rest.discard(first, last)
    for first, last in rest:
        yield Altered(first, last, "altered: beyond retention, and never stored")
    there = {
        row[0] for row in connection.execute("SELECT segment FROM digest WHERE book = ?", (ref.id,))
    }
    segments = {n for a, b in gone for n in range(a // SEGMENT_SEQS, b // SEGMENT_SEQS + 1)}
    for segment in sorted(segments - there):
        at = (segment * SEGMENT_SEQS, (segment + 1) * SEGMENT_SEQS - 1)
        yield Altered(*at, "altered: the digest of what was stored is not there")


def _arrivals(connection: sqlite3.Connection, ref: BookRef) -> Iterator[Altered]:
    for *run, sealed in connection.execute(
        f"SELECT {book_tables.RUN}, {column(connection, 'arrival')} FROM arrival WHERE book = ?",
        (ref.id,),
    ):
        if sealed is not None and sealed != seal(*run):
            first, last = run[1:3] if 0 <= run[1] <= run[2] else (0, max(0, run[1]))
            text = "altered: when it was received, or where it lies, is not as written"
            yield Altered(first, last, text)


def astray(connection: sqlite3.Connection, notes: Notes) -> Iterator[tuple[Key, Altered]]:
    """Give what was changed, and is not of one book; what cannot be read is the cloud's."""
    refs = readback.book_refs(connection)
    checks: tuple[Callable[[], Iterable[tuple[Key, Altered]]], ...] = (
        lambda: set_apart(connection),
        lambda: notes.strays(refs),
        lambda: _misplaced(connection),
        lambda: _newest_times(connection),
        lambda: _strays(connection),
        lambda: _structure(connection),
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 -- changed bytes are anything at all
            yield CLOUD, Altered(0, 0, f"altered: it cannot be read: {error}"[:TEXT_CHARS])


def _misplaced(connection: sqlite3.Connection) -> Iterator[tuple[Key, Altered]]:
    """Look for values that lie in another hour than their time says; and a truth is 0 or 1."""
    for spiffe_id, epoch, seq in connection.execute(
        "SELECT DISTINCT d.spiffe_id, r.epoch, r.seq FROM r JOIN series s ON s.id = r.series"
        " JOIN device d ON d.id = s.device WHERE (r.bucket >= 0 AND r.bucket != r.ts / ?)"
        " OR (typeof(r.value) = 'blob' AND r.value NOT IN (x'00', x'01'))",
        (HOUR_US,),
    ):
        yield (spiffe_id, epoch), Altered(seq, seq, "altered: a value is none, or in another hour")


def _newest_times(connection: sqlite3.Connection) -> Iterator[tuple[Key, Altered]]:
    """Compare a device's newest time, which retention and `late` go by, with its rows.

    Rows of a device may all be beyond retention; and corrected times do not count.
    """
    seen = dict(
        connection.execute(
            "SELECT s.device, max(r.ts) FROM r JOIN series s ON s.id = r.series"
            " WHERE r.bucket >= 0 GROUP BY s.device"
        ).fetchall()
    )
    for device, spiffe_id, epoch, newest_us in connection.execute(
        "SELECT d.id, d.spiffe_id, max(b.epoch), d.newest_us"
        " FROM device d JOIN book b ON b.device = d.id GROUP BY d.id"
    ):
        corrected = connection.execute(
            "SELECT 1 FROM mono m JOIN book b ON b.id = m.book WHERE b.device = ? AND m.timed = 0",
            (device,),
        ).fetchone()
        retired = connection.execute(
            "SELECT 1 FROM span s JOIN book b ON b.id = s.book WHERE b.device = ? AND s.kind = ?",
            (device, RETIRED),
        ).fetchone()
        seen_us = max(0, seen.get(device, 0))
        if (newest_us > seen_us and not retired) or (newest_us < seen_us and not corrected):
            yield (spiffe_id, epoch), Altered(0, 0, "altered: its newest time is that of no row")


def _strays(connection: sqlite3.Connection) -> Iterator[tuple[Key, Altered]]:
    """Look for rows that belong to nothing."""
    for table in ("span", "digest", "arrival", "mono"):
        for (number,) in connection.execute(
            f"SELECT DISTINCT book FROM {table} WHERE book NOT IN (SELECT id FROM book)"
        ):
            text = f"altered: rows of a book {number} that is not there ({table})"
            yield CLOUD, Altered(0, 0, text[:TEXT_CHARS])
    for epoch, seq in connection.execute(
        "SELECT epoch, seq FROM latest WHERE series NOT IN (SELECT id FROM series)"
    ):
        yield ("cloud", epoch), Altered(seq, seq, "altered: a newest value is of no series")
    stores = connection.execute("SELECT id, length(store_id), commits FROM store").fetchall()
    if len(stores) != 1 or stores[0][:2] != (1, 32) or stores[0][2] < 0:
        yield CLOUD, Altered(0, 0, "altered: the store has not one name")


def _structure(connection: sqlite3.Connection) -> Iterator[tuple[Key, Altered]]:
    """Have SQLite look through its own pages."""
    for (complaint,) in connection.execute(f"PRAGMA integrity_check({_COMPLAINTS_MAX})"):
        if complaint != "ok":
            text = " ".join(f"altered: {complaint}".split())
            yield CLOUD, Altered(0, 0, text[:TEXT_CHARS])
