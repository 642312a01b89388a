"""Hash again what lies in the queue, and compare it with what was booked when it was received.

A reading whose bytes are not those of its hash, or not of its key, is named alone. One that was
changed together with its hash is found by its segment's digest, where the whole segment lies here.
"""

import hashlib
import sqlite3
from collections.abc import Iterator

from plantroom.gateway import books, stored
from plantroom.gateway.queue_schema import EVICTED, QUARANTINED, RECEIVED
from plantroom.wire import spans
from plantroom.wire.ranges import RangeSet, runs

_MODULUS = 1 << 256
Range = tuple[int, int]


def altered(connection: sqlite3.Connection) -> Iterator[tuple[str, int, Range]]:
    """Give (device, epoch, range) of everything that was changed, on one snapshot."""
    for book, device, epoch in connection.execute(
        "SELECT id, device, epoch FROM book ORDER BY device, epoch"
    ).fetchall():
        for first, last in _altered(connection, book, (device, epoch)):
            yield device, epoch, (first, last)


def _altered(connection: sqlite3.Connection, book: int, key: tuple[str, int]) -> list[Range]:
    expected = spans.load(connection, (book, RECEIVED))
    for kind in (EVICTED, QUARANTINED):
        for first, last in spans.load(connection, (book, kind)):
            expected.discard(first, last)
    bad: list[int] = []
    here = RangeSet()
    sums: dict[int, int] = {}
    for seq, digest, body in connection.execute(
        "SELECT seq, hash, body FROM reading WHERE book = ? ORDER BY seq", (book,)
    ):
        found = hashlib.sha256(body).digest()
        if found != digest or not _is_of(body, (*key, seq)):
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


def _is_of(body: bytes, key: tuple[str, int, int]) -> bool:
    try:
        return tuple(stored.fields(body)[:3]) == key
    except Exception:  # noqa: BLE001 -- changed bytes are anything at all: not this reading's
        return False


def _within(ranges: RangeSet, first: int, last: int) -> list[Range]:
    return [(max(a, first), min(b, last)) for a, b in ranges if a <= last and b >= first]
