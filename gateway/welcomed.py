"""What a welcome changes in the queue: the store's books are compared with ours, one by one.

What has shrunk there waits again; what was never received here is noted as stored.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from plantroom.gateway import answers, books, store_known, tables
from plantroom.gateway.answers import Standing
from plantroom.gateway.ingress import REUSE
from plantroom.gateway.queue_schema import EVICTED, QUARANTINED, RECEIVED, STORED
from plantroom.wire import spans
from plantroom.wire.envelope import Book, Welcome
from plantroom.wire.ranges import RangeSet

Balance = dict[tuple[str, int], str]  # (device, epoch): what disagrees, empty when nothing does
_SEQ_MAX: Final = 2**63 - 1


class Compared(NamedTuple):
    """What a welcome has shown.

    `balance`: what disagrees in the digests of every book of which both have the same ranges.
    `forgotten`: how many readings, by (device, epoch), are stored there without a record here.
    """

    standing: Standing
    balance: Balance
    forgotten: dict[tuple[str, int], int]


def welcome(connection: sqlite3.Connection, answer: Welcome) -> Compared:
    """Compare the store's books with ours; what has shrunk waits again."""
    standing = answers.meet(connection, answer.store_id)
    found = Compared(standing, {}, {})
    if standing == "former" or answer.commit < tables.meta(connection, "store_commit", 0):
        return found if standing == "former" else Compared("same", {}, {})
    store_known.see(connection, answer)
    for theirs in answer.books:
        row = connection.execute(
            "SELECT id FROM book WHERE device = ? AND epoch = ?", (theirs.device, theirs.epoch)
        ).fetchone()
        if row is None:
            continue
        key = theirs.device, theirs.epoch
        if count := _learn(connection, row[0], theirs):
            found.forgotten[key] = count
        what = _compare(connection, row[0], theirs)
        if what is not None:
            found.balance[key] = what
    return found


def _learn(connection: sqlite3.Connection, book: int, theirs: Book) -> int:
    """Book what is stored there and was never received here; return how many of them are news.

    What is received is on the disk before it is sent, so this disk is not the one that it was.
    """
    news = RangeSet(theirs.ranges)
    for kind in (RECEIVED, STORED):
        news = _without(news, spans.load(connection, (book, kind)))
    for first, last in news:
        spans.add(connection, (book, STORED), first, last)
    return news.count


def _compare(connection: sqlite3.Connection, book: int, theirs: Book) -> str | None:
    """Compare one book; None while the ranges differ, since something is still on its way."""
    known = RangeSet(theirs.ranges)
    replayed = RangeSet(  # there another reading of the key may be the one that is stored
        (first, last)
        for first, last, reason in spans.touching(connection, (book, QUARANTINED), 0, _SEQ_MAX)
        if reason != REUSE
    )
    stored = spans.load(connection, (book, STORED))
    for first, last in _common(replayed, known):
        answers.lift_stored(connection, book, first, last)
    booked = [
        span for kind in (EVICTED, QUARANTINED) for span in spans.load(connection, (book, kind))
    ]
    shrunk = _without(_without(stored, known), booked)
    for first, last in shrunk:
        spans.discard(connection, (book, STORED), first, last)
        answers.send_again(connection, book, first, last)
    received = spans.load(connection, (book, RECEIVED))
    forgotten = _without(known, received)
    if shrunk or _without(received, booked) != _without(_without(known, booked), forgotten):
        return None
    doubted = {  # segments with a reading that is stored there, and excused or forgotten here
        segment
        for first, last in (*_common(RangeSet(booked), known), *forgotten)
        for segment in range(first // books.SEGMENT_SEQS, last // books.SEGMENT_SEQS + 1)
    }
    mine = books.digests(connection, book)
    compared = mine.keys() & theirs.digests.keys() - doubted
    wrong = sorted(n for n in compared if mine[n] != theirs.digests[n])
    if wrong:
        segments = ", ".join(map(str, wrong[:5]))
        return f"digest of segment {segments}"
    connection.execute("UPDATE book SET settled = 1 WHERE id = ?", (book,))
    return ""


def _common(one: RangeSet, other: RangeSet) -> RangeSet:
    """Return what is in both."""
    return _without(one, _without(one, other))


def _without(ranges: RangeSet, taken: Iterable[tuple[int, int]]) -> RangeSet:
    """Return what is in the first and not in the second."""
    rest = ranges.copy()
    for first, last in taken:
        rest.discard(first, last)
    return rest
