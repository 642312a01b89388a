"""The ledger's books in SQL: one per (device, epoch), with ranges by fate and digests by segment.

A digest is the sum modulo 2^256 of the SHA-256 of the readings that are received and neither
evicted nor quarantined, so that it equals the cloud's once all of them are stored.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from plantroom.gateway.queue_schema import EVICTED, GONE, KINDS, QUARANTINED, RECEIVED
from plantroom.wire import spans
from plantroom.wire.envelope import Book
from plantroom.wire.ranges import RangeSet
from plantroom.wire.seal import seal

# what a device reports of an epoch that is over: more than has come; less than is known, for the
# first time, with readings in doubt, or with none any more
Heads = Literal["ahead", "new", "open", "over"]
SEGMENT_SEQS: Final = 1000
UNHEARD_MAX: Final = 1000  # epochs of a device of which it has only said that there are any
_MODULUS: Final = 1 << 256
_log = logging.getLogger(__name__)


def book_of(connection: sqlite3.Connection, device: str, epoch: int) -> int:
    """Return the id of the book of (device, epoch); it is opened when there is none."""
    row = connection.execute(
        "SELECT id FROM book WHERE device = ? AND epoch = ?", (device, epoch)
    ).fetchone()
    if row is None:
        row = connection.execute(
            "INSERT INTO book(device, epoch) VALUES(?, ?) RETURNING id", (device, epoch)
        ).fetchone()
    return int(row[0])


def credible(connection: sqlite3.Connection, device: str, heads: Mapping[int, int]) -> list[int]:
    """Return the epochs that a device reports; of new ones the newest for which there is room.

    Each would be a book for good. One of which anything has come, or is excused, is more than said.
    """
    heard = dict(
        connection.execute(
            "SELECT epoch, EXISTS(SELECT 1 FROM span WHERE span.book = book.id) FROM book"
            " WHERE device = ?",
            (device,),
        ).fetchall()
    )
    room = max(0, UNHEARD_MAX - list(heard.values()).count(0))
    new = sorted(heads.keys() - heard.keys(), reverse=True)
    if len(new) > room:
        _log.warning("%s says of %d more epochs than are believed", device, len(new) - room)
    return [*new[:room], *(heads.keys() & heard.keys())]


def newest_epoch(connection: sqlite3.Connection, device: str) -> int:
    """Return the newest epoch of which something was received from a device, or -1."""
    row = connection.execute(
        "SELECT epoch FROM book WHERE device = ?"
        " AND EXISTS(SELECT 1 FROM span WHERE span.book = book.id AND kind = ?)"
        " ORDER BY epoch DESC LIMIT 1",
        (device, RECEIVED),
    ).fetchone()
    return -1 if row is None else int(row[0])


def raise_highest(connection: sqlite3.Connection, book: int, seq: int) -> None:
    """Note that the device has numbered up to `seq`."""
    connection.execute(
        "UPDATE book SET highest = ?, settled = 0, seal = CASE own WHEN 0 THEN ? ELSE ? END"
        " WHERE id = ? AND highest < ?",
        (seq, seal(book, seq, 0), seal(book, seq, 1), book, seq),
    )


def own(connection: sqlite3.Connection, book: int) -> None:
    """Note that this gateway gave the numbers of this book itself, from the first one on."""
    connection.execute("UPDATE book SET own = 1 WHERE id = ?", (book,))
    (highest,) = connection.execute("SELECT highest FROM book WHERE id = ?", (book,)).fetchone()
    connection.execute("UPDATE book SET seal = ? WHERE id = ?", (seal(book, highest, 1), book))


def rolled_back(connection: sqlite3.Connection, book: int, known: int) -> Heads:
    """Note that a device has forgotten readings of this book: it was restored, or cloned.

    That is over once each reading up to the highest that was known is accounted for.
    """
    name = f"rolled-back:{book}"
    if connection.execute("SELECT 1 FROM meta WHERE name = ?", (name,)).fetchone() is None:
        connection.execute("INSERT INTO meta VALUES(?, ?)", (name, known))
        return "new"
    accounted = RangeSet(
        span
        for kind in (RECEIVED, EVICTED, QUARANTINED, GONE)
        for span in spans.load(connection, (book, kind))
    )
    return "over" if accounted.covers(0, known) else "open"


def unsettle(connection: sqlite3.Connection, book: int) -> None:
    """Note that the book has changed since the cloud last agreed to it."""
    connection.execute("UPDATE book SET settled = 0 WHERE id = ? AND settled = 1", (book,))


def add_hashes(
    connection: sqlite3.Connection, book: int, hashes: Iterable[tuple[int, bytes]], *, sign: int = 1
) -> None:
    """Add (`sign` 1) or subtract (-1) the hashes of (seq, hash) to the book's digests."""
    sums: dict[int, int] = {}
    for seq, digest in hashes:
        segment = seq // SEGMENT_SEQS
        sums[segment] = sums.get(segment, 0) + int.from_bytes(digest)
    for segment, total in sums.items():
        row = connection.execute(
            "SELECT total FROM digest WHERE book = ? AND segment = ?", (book, segment)
        ).fetchone()
        before = int.from_bytes(row[0]) if row else 0
        after = (before + sign * total) % _MODULUS
        connection.execute(
            "INSERT OR REPLACE INTO digest(book, segment, total) VALUES(?, ?, ?)",
            (book, segment, after.to_bytes(32)),
        )


def digests(connection: sqlite3.Connection, book: int) -> dict[int, bytes]:
    """Return the book's digests by segment."""
    rows = connection.execute("SELECT segment, total FROM digest WHERE book = ?", (book,))
    return {segment: bytes(total) for segment, total in rows if any(total)}


def for_hello(connection: sqlite3.Connection, *, books_max: int, bytes_max: int) -> list[Book]:
    """Return the books whose turn it is: unsettled ones first, then the longest unsaid.

    At least one is returned if there is any, however large.
    """
    chosen: list[Book] = []
    said = []
    size = 0
    rows = connection.execute(
        "SELECT id, device, epoch, highest FROM book ORDER BY settled, said, id LIMIT ?",
        (books_max,),
    ).fetchall()
    for book, device, epoch, highest in rows:
        entry = Book(
            device=device,
            epoch=epoch,
            highest=highest,
            ranges=tuple(spans.load(connection, (book, RECEIVED))),
            digests=digests(connection, book),
        )
        size += 100 + 20 * len(entry.ranges) + 40 * len(entry.digests)
        if chosen and size > bytes_max:
            break
        chosen.append(entry)
        said.append((book,))
    connection.executemany(
        "UPDATE book SET said = (SELECT ifnull(max(said), 0) FROM book) + 1 WHERE id = ?", said
    )
    return chosen


def summary(connection: sqlite3.Connection) -> Iterator[dict[str, object]]:
    """Give every book as plain values, for status and ledger."""
    for book, device, epoch, highest, disputed in connection.execute(
        "SELECT id, device, epoch, highest, disputed FROM book ORDER BY device, epoch"
    ).fetchall():
        entry: dict[str, object] = {
            "device": device,
            "epoch": epoch,
            "highest": highest,
            "disputed": bool(disputed),
        }
        for kind, name in KINDS.items():
            entry[name] = [list(span) for span in spans.load(connection, (book, kind))]
        reasons: dict[str, int] = {}
        for kind, reason, count in connection.execute(
            "SELECT kind, reason, sum(last - first + 1) FROM span WHERE book = ? AND reason != ''"
            " GROUP BY kind, reason",
            (book,),
        ):
            reasons[f"{KINDS.get(kind, kind)}({reason})"] = count
        entry["reasons"] = reasons
        entry["digests"] = {n: total.hex() for n, total in digests(connection, book).items()}
        yield entry
