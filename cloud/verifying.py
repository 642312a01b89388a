"""Compare what lies in the SQLite store with what was booked when it was received.

Readings are hashed again and their sums compared with the digests; everything beside them that is
shown, exported or proves something (names, times that were corrected, newest values) is compared
with what it was made from. Books, tombstones and what was set apart: `verifying_…`.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from plantroom.cloud import book_tables, readback, verifying_books, verifying_notes
from plantroom.cloud.book_tables import Newest
from plantroom.cloud.readback import BookRef
from plantroom.cloud.store import SEGMENT_SEQS, Altered, StoredBook
from plantroom.cloud.store_schema import TIMELESS
from plantroom.cloud.verifying_notes import TEXT_CHARS, Notes
from plantroom.views.board import key_of
from plantroom.wire.errors import SpiffeIdError
from plantroom.wire.ranges import RangeSet

Check = Callable[[], Iterable[Altered]]
_ROWS: Final = "altered: the stored rows are not those that were received"


def altered(connection: sqlite3.Connection, book: StoredBook, notes: Notes) -> list[Altered]:
    """Give every range of a book in which something was changed, and what, in order."""
    found: list[Altered] = []
    for ref in readback.book_refs(connection, [book.spiffe_id]):
        if ref.epoch == book.epoch:
            for check in _checks(connection, ref, book, notes):
                found += _tried(book, check)
    return sorted(set(found))


def _checks(
    connection: sqlite3.Connection, ref: BookRef, book: StoredBook, notes: Notes
) -> tuple[Check, ...]:
    newest: Newest = {}
    return (
        lambda: _names(ref),
        lambda: _readings(connection, book, newest),
        lambda: _moments(connection, ref, notes),
        lambda: _newest(connection, ref, book),
        lambda: _shown(connection, ref, newest),
        lambda: verifying_books.book(connection, ref),
        lambda: verifying_notes.excuses(connection, ref, notes),
        lambda: notes.changed(ref),
    )


def _tried(book: StoredBook, check: Check) -> list[Altered]:
    """Return what a check finds; where it meets what it cannot even read, that is found too."""
    found: list[Altered] = []
    try:
        found += check()
    except Exception as error:  # noqa: BLE001 -- changed bytes are anything at all
        highest = book.highest if isinstance(book.highest, int) else 0
        text = f"altered: it cannot be read: {error}"
        found.append(Altered(0, max(0, highest), text[:TEXT_CHARS]))
    return found


def _names(ref: BookRef) -> Iterator[Altered]:
    try:
        known = key_of(ref.spiffe_id)
    except SpiffeIdError:
        known = ("", "")
    if known != (ref.site, ref.name):
        text = f"altered: the device is stored as {ref.site} {ref.name}"
        yield Altered(0, 0, text[:TEXT_CHARS])


def _readings(
    connection: sqlite3.Connection, book: StoredBook, newest: Newest
) -> Iterator[Altered]:
    """Sum the hashes of the rows again, and look for numbers that are booked and not there."""
    here, booked = RangeSet(), _kept(book)
    wrong = RangeSet()
    for segment in book_tables.altered_segments(connection, book, here, newest):
        first, last = segment * SEGMENT_SEQS, (segment + 1) * SEGMENT_SEQS - 1
        inside = [high for low, high in booked if low <= last and high >= first]
        wrong.add(first, min(last, max(inside, default=last)))
    for one, other in ((booked, here), (here, booked)):
        rest = one.copy()
        for first, last in (*other, *wrong):
            rest.discard(first, last)
        for first, last in rest:
            wrong.add(first, last)
    for first, last in wrong:
        yield Altered(first, last, _ROWS)


def _kept(book: StoredBook) -> RangeSet:
    """Return what of a book has its rows here."""
    kept = book.stored.copy()
    for first, last in book.retired:
        kept.discard(first, last)
    return kept


def _moments(connection: sqlite3.Connection, ref: BookRef, notes: Notes) -> Iterator[Altered]:
    """Compare the times of readings that were taken before a clock was set with the correction."""
    (offset_us,) = connection.execute(
        "SELECT offset_us FROM book WHERE id = ?", (ref.id,)
    ).fetchone()
    untimed = connection.execute(
        "SELECT seq, mono_us FROM mono WHERE book = ? AND timed = 0 ORDER BY seq", (ref.id,)
    ).fetchall()
    told = {note.offset_us for note in notes.of(ref) if note.kind == "correction"}
    if offset_us is not None and offset_us not in told:
        last = untimed[-1][0] if untimed else 0
        yield Altered(0, last, "altered: the clock correction is not one that was received")
    for (seq,) in connection.execute(
        "SELECT seq FROM mono WHERE book = ? AND timed NOT IN (0, 1)", (ref.id,)
    ):
        yield Altered(seq, seq, "altered: whether it had a time is not as it was written")
    for (seq,) in connection.execute(
        "SELECT DISTINCT r.seq FROM r JOIN series s ON s.id = r.series"
        " LEFT JOIN mono m ON m.book = ? AND m.seq = r.seq"
        " WHERE r.bucket = ? AND s.device = ? AND r.epoch = ? AND r.ts IS NOT m.mono_us",
        (ref.id, TIMELESS, ref.device, ref.epoch),
    ):
        yield Altered(seq, seq, "altered: its time since boot is not the one received")
    if not untimed:
        return
    wanted = {seq: None if offset_us is None else mono_us + offset_us for seq, mono_us in untimed}
    for row in readback.rows_of(connection, ref, untimed[0][0], untimed[-1][0]):
        if row.seq in wanted and row.time_us != wanted[row.seq]:
            yield Altered(row.seq, row.seq, "altered: its time is not the corrected one")


def _newest(connection: sqlite3.Connection, ref: BookRef, book: StoredBook) -> Iterator[Altered]:
    """Compare the newest values, which the dashboard shows, with the rows they were taken from."""
    kept = _kept(book)
    for series, ts, seq, value in connection.execute(
        "SELECT l.series, l.ts, l.seq, l.value FROM latest l JOIN series s ON s.id = l.series"
        " WHERE s.device = ? AND l.epoch = ?",
        (ref.device, ref.epoch),
    ).fetchall():
        if seq not in kept:
            if seq not in book.retired:
                yield Altered(max(seq, 0), max(seq, 0), "altered: the newest value is of no row")
            continue
        found = [
            (at, has)
            for run in _buckets_of(connection, ref, seq)
            for at, has in connection.execute(
                "SELECT CASE WHEN bucket = ? THEN NULL ELSE ts END, value FROM r"
                " WHERE bucket = ? AND series = ? AND epoch = ? AND seq = ?",
                (TIMELESS, run, series, ref.epoch, seq),
            )
        ]
        if (ts, value) not in found:
            yield Altered(seq, seq, "altered: the newest value is not that of its row")


def _shown(connection: sqlite3.Connection, ref: BookRef, newest: Newest) -> Iterator[Altered]:
    """Look for points of which a newer value is here than the one that is shown as the newest."""
    shown = {
        (point, unit): (epoch, seq)
        for point, unit, epoch, seq in connection.execute(
            "SELECT s.point, s.unit, l.epoch, l.seq FROM series s JOIN latest l ON l.series = s.id"
            " WHERE s.device = ?",
            (ref.device,),
        )
    }
    epochs = {
        row[0]
        for row in connection.execute("SELECT epoch FROM book WHERE device = ?", (ref.device,))
    }
    for key, seq in newest.items():
        epoch, at = shown.get(key, (-1, -1))
        if (epoch, at) < (ref.epoch, seq) or epoch not in epochs:
            yield Altered(seq, seq, "altered: the value shown as the newest is not")


def _buckets_of(connection: sqlite3.Connection, ref: BookRef, seq: int) -> Iterable[int]:
    run = connection.execute(
        "SELECT low, high FROM arrival WHERE book = ? AND first <= ? AND last >= ?"
        " ORDER BY first DESC LIMIT 1",
        (ref.id, seq, seq),
    ).fetchone()
    return () if run is None else readback.buckets(connection, *run)
