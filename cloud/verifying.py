"""Compare what lies in the SQLite store with what was booked when it was received.

Readings are hashed again and their sums compared with the digests; everything beside them that is
shown, exported or proves something (names, times that were corrected, newest values, tombstones,
what was set apart) is compared with what it was made from.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

from plantroom.cloud import book_tables, readback
from plantroom.cloud.readback import BookRef
from plantroom.cloud.store import SEGMENT_SEQS, Altered, StoredBook
from plantroom.cloud.store_schema import EVICTED, GONE, QUARANTINED, TIMELESS
from plantroom.views.board import key_of
from plantroom.wire import cbor, envelope, shape, spans
from plantroom.wire.envelope import Note
from plantroom.wire.errors import EnvelopeError, SpiffeIdError
from plantroom.wire.ranges import RangeSet

_ROWS: Final = "altered: the stored rows are not those that were received"
_KINDS: Final = {EVICTED: "evicted", QUARANTINED: "quarantined", GONE: "gone"}


class Notes:
    """Every tombstone in the store, by the book that it speaks of; loaded once for all books."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._whole: dict[tuple[str, int], list[Note]] = {}
        self._changed: dict[tuple[str, int], list[Altered]] = {}
        for owner, number, digest, body in connection.execute(
            "SELECT owner, number, hash, body FROM note"
        ):
            try:
                note: Note | None = _note_from(body)
            except EnvelopeError:
                note = None
            if note is not None and _hashes_to(body, digest):
                self._whole.setdefault((note.device, note.epoch), []).append(note)
                continue
            text = f"altered: tombstone {number} of {owner} is not the one that was received"
            key = (note.device, note.epoch) if note else (owner, -1)
            span = (note.first, note.last) if note and 0 <= note.first <= note.last else (0, 0)
            self._changed.setdefault(key, []).append(Altered(*span, text[:200]))

    def of(self, ref: BookRef) -> list[Note]:
        """Return those about a book whose bytes are still those of their hash."""
        return self._whole.get((ref.spiffe_id, ref.epoch), [])

    def changed(self, ref: BookRef) -> list[Altered]:
        """Return the others; where not even their book can be read, it is their owner's."""
        keys = ((ref.spiffe_id, ref.epoch), (ref.spiffe_id, -1), (f"{ref.site}/gateway", -1))
        return [each for key in keys for each in self._changed.get(key, ())]


def altered(connection: sqlite3.Connection, book: StoredBook, notes: Notes) -> list[Altered]:
    """Give every range of a book in which something was changed, and what, in order."""
    found: list[Altered] = []
    for ref in readback.book_refs(connection, [book.spiffe_id]):
        if ref.epoch == book.epoch:
            found += _names(ref)
            found += _readings(connection, book)
            found += _moments(connection, ref, notes)
            found += _newest(connection, ref, book)
            found += _excuses(connection, ref, notes)
            found += notes.changed(ref)
            found += _set_apart(connection, ref)
    return sorted(set(found))


def _names(ref: BookRef) -> Iterator[Altered]:
    try:
        known = key_of(ref.spiffe_id)
    except SpiffeIdError:
        known = ("", "")
    if known != (ref.site, ref.name):
        yield Altered(0, 0, f"altered: the device is stored as {ref.site} {ref.name}"[:200])


def _readings(connection: sqlite3.Connection, book: StoredBook) -> Iterator[Altered]:
    """Sum the hashes of the rows again, and look for numbers that are booked and not there."""
    here, booked = RangeSet(), _kept(book)
    wrong = RangeSet()
    for segment in book_tables.altered_segments(connection, book, here):
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


def _buckets_of(connection: sqlite3.Connection, ref: BookRef, seq: int) -> Iterable[int]:
    run = connection.execute(
        "SELECT low, high FROM arrival WHERE book = ? AND first <= ? AND last >= ?"
        " ORDER BY first DESC LIMIT 1",
        (ref.id, seq, seq),
    ).fetchone()
    return () if run is None else readback.buckets(connection, *run)


def _excuses(connection: sqlite3.Connection, ref: BookRef, notes: Notes) -> Iterator[Altered]:
    """Compare the books' excuses with the tombstones that gave them."""
    told: dict[tuple[str, str], RangeSet] = {}
    for note in notes.of(ref):
        told.setdefault((note.kind, note.reason), RangeSet()).add(note.first, note.last)
    for kind, word in _KINDS.items():
        for first, last, reason in spans.touching(connection, (ref.id, kind), 0, 2**63 - 1):
            rest = RangeSet([(first, last)])
            for low, high in told.get((word, reason), RangeSet()):
                rest.discard(low, high)
            for low, high in rest:
                yield Altered(low, high, f"altered: no tombstone says {word}({reason})"[:200])


def _set_apart(connection: sqlite3.Connection, ref: BookRef) -> Iterator[Altered]:
    """Hash again what is in quarantine."""
    for seq, digest, raw in connection.execute(
        "SELECT seq, hash, raw FROM quarantine WHERE device = ? AND epoch = ? AND raw NOT NULL",
        (ref.spiffe_id, ref.epoch),
    ):
        if not _hashes_to(raw, digest):
            yield Altered(seq, seq, "altered: its bytes in quarantine are not those received")


def _hashes_to(body: object, digest: object) -> bool:
    """Say whether bytes are those of a hash; a changed column may hold anything at all."""
    return isinstance(body, bytes) and hashlib.sha256(body).digest() == digest


def _note_from(body: object) -> Note:
    if not isinstance(body, bytes):
        raise EnvelopeError("a note is bytes")
    plain = cbor.loads(body, bytes_max=envelope.CALL_BYTES_MAX, error=EnvelopeError)
    note: Note = shape.from_plain(Note, plain, EnvelopeError)
    return note
