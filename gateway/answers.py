"""What the cloud's answers change in the queue: receipts and refills, and which store it is.

Only a receipt confirms. It confirms exactly the rows of its batch that lie in its ranges; an answer
of a former store is ignored; a new store makes everything unconfirmed again.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, NamedTuple

from plantroom.gateway import books, store_known, tables
from plantroom.gateway.queue_schema import (
    AGAIN,
    CONFIRMED,
    EVICTED,
    GONE,
    QUARANTINED,
    STORED,
    TAP,
)
from plantroom.gateway.tables import Life
from plantroom.wire import spans
from plantroom.wire.envelope import Receipt, Refill, Span
from plantroom.wire.ranges import RangeSet, runs

Standing = Literal["former", "same", "changed"]
UNREADABLE: Final = "unreadable"
MEDIA: Final = "media"
_HOLES_MAX: Final = 10_000
_ASKS_MAX: Final = 1_000
_NOTES_PENDING_MAX: Final = 50_000


class Sent(NamedTuple):
    """A reading in the air: its row, its book, and its key."""

    id: int
    book: int
    device: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a receipt did: how many rows and notes it settled, which rows go out again."""

    standing: Standing
    confirmed: int = 0
    quarantined: int = 0
    notes: int = 0
    again: tuple[int, ...] = ()


def meet(connection: sqlite3.Connection, store_id: str) -> Standing:
    """Find out whether this is the store that we know; a new one has nothing of ours yet."""
    before = tables.meta(connection, "store_id")
    if before == store_id:
        return "same"
    former = connection.execute("SELECT 1 FROM former_store WHERE store_id = ?", (store_id,))
    if former.fetchone():
        return "former"
    store_known.begin(connection, store_id)
    if before is None:
        return "changed"
    connection.execute("INSERT OR IGNORE INTO former_store VALUES(?)", (before,))
    connection.execute("DELETE FROM span WHERE kind = ?", (STORED,))
    connection.execute("UPDATE book SET settled = 0")
    connection.execute("UPDATE note SET told = 0")  # it has no correction of ours either
    last = connection.execute("SELECT max(id) FROM reading").fetchone()[0]
    tables.set_meta(connection, "requeue_next", 0)
    tables.set_meta(connection, "requeue_last", last)
    return "changed"


def requeue(connection: sqlite3.Connection, limit: int) -> int:
    """Make the next `limit` readings that a former store had confirmed wait again."""
    last = tables.meta(connection, "requeue_last")
    if last is None:
        return 0
    start = tables.meta(connection, "requeue_next", 0)
    ids = [
        row[0]
        for row in connection.execute(
            "SELECT id FROM reading INDEXED BY reading_history"
            f" WHERE state = {CONFIRMED} AND id >= ? AND id <= ? ORDER BY id LIMIT ?",
            (start, last, limit),
        )
    ]
    tables.move(connection, ids, AGAIN)
    if len(ids) < limit:
        tables.set_meta(connection, "requeue_last", None)
        tables.set_meta(connection, "requeue_next", None)
    else:
        tables.set_meta(connection, "requeue_next", ids[-1] + 1)
    return len(ids)


def _by_key(answers: Iterable[Span]) -> dict[tuple[str, int], list[Span]]:
    found: dict[tuple[str, int], list[Span]] = {}
    for span in answers:
        if 0 <= span.first <= span.last:
            found.setdefault((span.device, span.epoch), []).append(span)
    return found


def receipt(
    connection: sqlite3.Connection,
    answer: Receipt,
    rows: Sequence[Sent],
    notes: Sequence[tuple[int, tuple[str, int, int]]],
) -> Outcome:
    """Settle a batch: `rows` and `notes` (id, (author, life, number)) are what it carried."""
    standing = meet(connection, answer.store_id)
    if standing == "former":
        return Outcome(standing=standing)
    store_known.see(connection, answer)
    stored, refused = _by_key(answer.stored), _by_key(answer.quarantined)
    by_book: dict[tuple[int, str, int], list[Sent]] = {}
    for row in rows:
        by_book.setdefault((row.book, row.device, row.epoch), []).append(row)
    done: list[int] = []
    confirmed = quarantined = 0
    for (book, device, epoch), members in by_book.items():
        ok = RangeSet((span.first, span.last) for span in stored.get((device, epoch), ()))
        held = [row for row in members if row.seq in ok]
        _book_stored(connection, book, held)
        confirmed += len(held)
        done += [row.id for row in held]
        for span in refused.get((device, epoch), ()):
            hit = [r for r in members if span.first <= r.seq <= span.last and r.seq not in ok]
            _book_refused(connection, book, hit, span.reason)
            quarantined += len(hit)
            done += [row.id for row in hit]
    settled = set(done)
    tables.move(connection, sorted(settled), CONFIRMED)
    again = [row.id for row in rows if row.id not in settled]
    tables.move(connection, sorted(again), AGAIN)
    told = set(answer.notes)
    ids = [(number,) for number, name in notes if name in told]
    connection.executemany("UPDATE note SET told = 1 WHERE id = ?", ids)
    tables.forget_told_notes(connection)
    if confirmed:
        tables.tally(connection, "confirmed", confirmed)
    return Outcome(
        standing=standing,
        confirmed=confirmed,
        quarantined=quarantined,
        notes=len(ids),
        again=tuple(sorted(again)),
    )


def _book_stored(connection: sqlite3.Connection, book: int, rows: Sequence[Sent]) -> None:
    """Book what is stored; it outranks a quarantine of the same reading."""
    for first, last in runs(sorted(row.seq for row in rows)):
        spans.add(connection, (book, STORED), first, last)
        lift_stored(connection, book, first, last)


def lift_stored(connection: sqlite3.Connection, book: int, first: int, last: int) -> None:
    """Take back the quarantine of readings that are stored, as far as they are still here."""
    for low, high in spans.within(connection, (book, QUARANTINED), first, last):
        held = _hashes(connection, book, low, high)
        for a, b in runs(sorted(seq for seq, _ in held)):
            spans.discard(connection, (book, QUARANTINED), a, b)
            spans.add(connection, (book, STORED), a, b)
        books.add_hashes(connection, book, held)


def _book_refused(
    connection: sqlite3.Connection, book: int, rows: Sequence[Sent], reason: str
) -> None:
    for first, last in runs(sorted(row.seq for row in rows)):
        for low, high in spans.add(connection, (book, QUARANTINED), first, last, reason):
            books.add_hashes(connection, book, _hashes(connection, book, low, high), sign=-1)
            tables.tally(connection, f"quarantined:{reason}", high - low + 1)


def _hashes(
    connection: sqlite3.Connection, book: int, low: int, high: int
) -> list[tuple[int, bytes]]:
    return connection.execute(
        "SELECT seq, hash FROM reading WHERE book = ? AND seq BETWEEN ? AND ?", (book, low, high)
    ).fetchall()


def culprit(
    connection: sqlite3.Connection, life: Life, row: Sent, *, quarantine_bytes_max: int
) -> None:
    """Set aside the one reading that the cloud cannot read."""
    found = connection.execute("SELECT hash, body FROM reading WHERE id = ?", (row.id,)).fetchone()
    if found is None:
        return
    digest, body = found
    tables.quarantine(
        connection,
        life,
        row.device,
        (row.epoch, row.seq, row.seq),
        reason=UNREADABLE,
        text="the cloud cannot read it",
        digest=digest,
        raw=body,
        bytes_max=quarantine_bytes_max,
    )
    at = (row.seq, row.seq)
    spans.add(connection, (row.book, QUARANTINED), *at, UNREADABLE)
    books.add_hashes(connection, row.book, [(row.seq, digest)], sign=-1)
    tables.say(connection, life, "quarantined", (row.device, row.epoch), at, UNREADABLE)
    tables.remove(connection, [row.id])


def culprit_note(
    connection: sqlite3.Connection, life: Life, note: int, *, quarantine_bytes_max: int
) -> None:
    """Set aside the one note that the cloud cannot read: kept whole, never sent again."""
    found = connection.execute("SELECT device, body FROM note WHERE id = ?", (note,)).fetchone()
    if found is not None:
        tables.quarantine(
            connection,
            life,
            found[0],
            (None, None, None),
            reason="unreadable-note",
            text="the cloud cannot read it",
            digest=sha256(found[1]).digest(),
            raw=found[1],
            bytes_max=quarantine_bytes_max,
        )
        connection.execute("UPDATE note SET told = 1 WHERE id = ?", (note,))


def send_again(connection: sqlite3.Connection, book: int, first: int, last: int) -> RangeSet:
    """Make confirmed readings of a range wait again; return the seqs of the range that are here."""
    rows = connection.execute(
        "SELECT seq, id, state FROM reading WHERE book = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        (book, first, last),
    ).fetchall()
    tables.move(connection, sorted(row[1] for row in rows if row[2] == CONFIRMED), AGAIN)
    return RangeSet(runs(row[0] for row in rows))


def refill(connection: sqlite3.Connection, life: Life, answer: Refill) -> list[Span]:
    """Answer a request for holes: send again what is here, say again what is booked.

    Returns what has to be asked from its sensor: it is neither held nor booked here. (Only where
    this gateway gave the numbers itself it is `gone`, once all earlier segments are derived.)
    """
    asks: list[Span] = []
    standing = meet(connection, answer.store_id)
    if standing == "former" or answer.commit < tables.meta(connection, "store_commit", 0):
        return asks
    pending = connection.execute("SELECT count(*) FROM note WHERE told = 0").fetchone()[0]
    behind = connection.execute(
        "SELECT 1 FROM segment WHERE id > (SELECT segment FROM tap WHERE name = ?)"
        " AND tapped > 0 LIMIT 1",
        (TAP,),
    ).fetchone()
    for hole in answer.holes[:_HOLES_MAX]:
        if 0 <= hole.first <= hole.last:
            quiet = pending > _NOTES_PENDING_MAX
            asks += _fill(connection, life, hole, may_be_gone=not behind, quiet=quiet)
    return asks[:_ASKS_MAX]


def _fill(
    connection: sqlite3.Connection, life: Life, hole: Span, *, may_be_gone: bool, quiet: bool
) -> Iterator[Span]:
    key = (hole.device, hole.epoch)
    book = books.book_of(connection, *key)
    books.raise_highest(connection, book, hole.last)
    spans.discard(connection, (book, STORED), hole.first, hole.last)
    books.unsettle(connection, book)
    held = send_again(connection, book, hole.first, hole.last)
    if quiet:
        return
    missing = RangeSet([(hole.first, hole.last)])
    for kind, word in ((EVICTED, "evicted"), (QUARANTINED, "quarantined"), (GONE, "gone")):
        for first, last, reason in spans.touching(connection, (book, kind), hole.first, hole.last):
            span = (max(first, hole.first), min(last, hole.last))
            missing.discard(*span)
            if not held.covers(*span):
                tables.say(connection, life, word, key, span, reason)  # type: ignore[arg-type]
    for first, last in held:
        missing.discard(first, last)
    (own,) = connection.execute("SELECT own FROM book WHERE id = ?", (book,)).fetchone()
    for first, last in missing:
        if not own:
            yield Span(device=hole.device, epoch=hole.epoch, first=first, last=last)
        elif may_be_gone:
            spans.add(connection, (book, GONE), first, last, MEDIA)
            tables.say(connection, life, "gone", key, (first, last), MEDIA)
