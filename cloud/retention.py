"""Retention in the SQLite store: rows beyond it go, by whole segments, and the books say so.

A segment goes once all of it is older than the limit and nothing of it can still be numbered. Its
range stays among what is stored (nobody asks for it again, and it has not shrunk), its digest stays
for the gateways that compare it, and it is booked `evicted(retention)`.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from typing import Final, NoReturn

from plantroom.cloud import book_tables, readback
from plantroom.cloud.readback import BookRef
from plantroom.cloud.store import SEGMENT_SEQS, Store
from plantroom.cloud.store_schema import HOUR_US, RETIRED, STORED, TIMELESS
from plantroom.wire import spans
from plantroom.wire.clock import Clock, is_plausible
from plantroom.wire.errors import StorageCorruptError, StorageError

LOG = logging.getLogger("plantroom.cloud.retention")
REASON: Final = "retention"
SEGMENTS_MAX: Final = 20  # of one transaction: ingest waits for the same disk
_PERIOD_S: Final = 600.0
_DAY_US: Final = 24 * HOUR_US


async def keep(store: Store, days: float, clock: Clock) -> NoReturn:
    """Look now and then for what is beyond the limit; a clock that was never set finds none."""
    while True:
        now_us = clock.wall_us()
        gone = 0
        try:
            while is_plausible(now_us):
                found = await store.retire(now_us, int(days * _DAY_US))
                gone += found
                if not found:
                    break
        except StorageCorruptError:
            raise
        except StorageError as error:  # a full disk: what is beyond the limit goes later
            LOG.warning("retention has to wait: %s", error)
        if gone:
            LOG.info("%d readings are beyond the %g days of retention and gone", gone, days)
        await asyncio.sleep(_PERIOD_S)


def before(connection: sqlite3.Connection, now_us: int, keep_us: int) -> int:
    """Return the moment before which readings go; a clock that jumps ahead moves it no further.

    It follows the clock only as far as some reading has been taken.
    """
    (newest_us,) = connection.execute("SELECT ifnull(MAX(newest_us), 0) FROM device").fetchone()
    return min(now_us, int(newest_us)) - keep_us


def retire(connection: sqlite3.Connection, before_us: int) -> int:
    """Let a bounded number of segments go that are wholly older; return how many readings."""
    gone = segments = 0
    for ref in _candidates(connection, before_us // HOUR_US):
        for first, last in _old_segments(connection, ref, before_us // HOUR_US):
            gone += _let_go(connection, ref, first, last)
            segments += 1
            if segments >= SEGMENTS_MAX:
                return gone
    return gone


def _candidates(connection: sqlite3.Connection, bucket: int) -> list[BookRef]:
    old = {
        book
        for (book,) in connection.execute(
            "SELECT DISTINCT book FROM arrival WHERE high < ? AND low > ?", (bucket, TIMELESS)
        )
    }
    return [ref for ref in readback.book_refs(connection) if ref.id in old] if old else []


def _old_segments(
    connection: sqlite3.Connection, ref: BookRef, bucket: int
) -> Iterator[tuple[int, int]]:
    """Give the segments of a book of which nothing is younger and nothing can still be taken."""
    (newest,) = connection.execute(
        "SELECT MAX(epoch) FROM book WHERE device = ?", (ref.device,)
    ).fetchone()
    highest = spans.highest(connection, (ref.id, STORED))
    young: set[int] = set()
    old: set[int] = set()
    for first, last, low, high in connection.execute(
        "SELECT first, last, low, high FROM arrival WHERE book = ?", (ref.id,)
    ):
        touched = range(first // SEGMENT_SEQS, last // SEGMENT_SEQS + 1)
        (old if low > TIMELESS and high < bucket else young).update(touched)
    for segment in sorted(old - young):
        first, last = segment * SEGMENT_SEQS, (segment + 1) * SEGMENT_SEQS - 1
        if last <= highest or ref.epoch < newest:
            yield first, last


def _let_go(connection: sqlite3.Connection, ref: BookRef, first: int, last: int) -> int:
    runs = connection.execute(
        "SELECT first, last, low, high, received_us, late FROM arrival"
        " WHERE book = ? AND first <= ? AND last >= ?",
        (ref.id, last, first),
    ).fetchall()
    numbers = [
        row[0]
        for row in connection.execute("SELECT id FROM series WHERE device = ?", (ref.device,))
    ]
    low, high = min(run[2] for run in runs), max(run[3] for run in runs)
    for bucket in list(readback.buckets(connection, low, high)):
        connection.executemany(
            "DELETE FROM r WHERE bucket = ? AND series = ? AND epoch = ? AND seq BETWEEN ? AND ?",
            [(bucket, number, ref.epoch, first, last) for number in numbers],
        )
    connection.execute(
        "DELETE FROM mono WHERE book = ? AND seq BETWEEN ? AND ?", (ref.id, first, last)
    )
    _shorten(connection, ref, runs, first, last)
    stored = spans.within(connection, (ref.id, STORED), first, last)
    return sum(
        spans.add(connection, (ref.id, RETIRED), start, end, REASON).count for start, end in stored
    )


def _shorten(
    connection: sqlite3.Connection,
    ref: BookRef,
    runs: list[tuple[int, int, int, int, int, int]],
    first: int,
    last: int,
) -> None:
    """Leave of the runs of arrival what lies outside."""
    for start, end, *where in runs:
        rest = (where[0], where[1], where[2], where[3])
        connection.execute("DELETE FROM arrival WHERE book = ? AND first = ?", (ref.id, start))
        book_tables.add_runs(
            connection,
            [
                (ref.id, low, high, *rest)
                for low, high in ((start, min(end, first - 1)), (max(start, last + 1), end))
                if low <= high
            ],
        )
