"""Readings back out of the SQLite store's rows: exactly as they were sent, or as they are exported.

Runs on a connection inside a transaction or on a read-only one; every look-up costs what it gives.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from plantroom.cloud.store import Row
from plantroom.cloud.store_schema import HOUR_US, TIMELESS
from plantroom.wire.errors import PackError
from plantroom.wire.reading import Point, Reading, Value

CHUNK_SEQS = 2000


@dataclass(frozen=True, slots=True)
class BookRef:
    """A book with what its rows need to become readings again."""

    id: int
    device: int
    spiffe_id: str
    site: str
    name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class _Run:
    first: int
    last: int
    low: int
    high: int
    received_us: int
    late: int


def stored_value(value: Value) -> object:
    """Give a value the form it is stored in: truth is a byte, since SQLite has none."""
    return bytes([value]) if isinstance(value, bool) else value


def value_of(stored: object) -> Value:
    """Undo `stored_value`."""
    if isinstance(stored, bytes):
        return stored == b"\x01"
    return stored  # type: ignore[return-value] # REAL, INTEGER or TEXT


def book_refs(
    connection: sqlite3.Connection, spiffe_ids: Iterable[str] | None = None, *, name: str = ""
) -> list[BookRef]:
    """Give the books of these devices, of those with this name, or of all, in order of export."""
    sql = "SELECT b.id, d.id, d.spiffe_id, d.site, d.name, b.epoch FROM book b JOIN device d"
    order = " ORDER BY d.site, d.name, d.spiffe_id, b.epoch"
    if spiffe_ids is not None:
        rows: list[BookRef] = []
        for spiffe_id in sorted(set(spiffe_ids)):
            found = connection.execute(
                f"{sql} ON d.id = b.device WHERE d.spiffe_id = ?{order}", (spiffe_id,)
            )
            rows += [BookRef(*row) for row in found]
        return sorted(rows, key=lambda row: (row.site, row.name, row.spiffe_id, row.epoch))
    found = connection.execute(f"{sql} ON d.id = b.device WHERE ? IN ('', d.name){order}", (name,))
    return [BookRef(*row) for row in found]


def buckets(connection: sqlite3.Connection, low: int, high: int) -> Iterator[int]:
    """Give the buckets from `low` to `high` that exist; each costs one step into the key."""
    at = low - 1
    while True:
        (found,) = connection.execute(
            "SELECT MIN(bucket) FROM r WHERE bucket > ?", (at,)
        ).fetchone()
        if found is None or found > high:
            return
        yield found
        at = found


def rows_of(  # noqa: PLR0913 -- two ranges to look in, each optional
    connection: sqlite3.Connection,
    ref: BookRef,
    first: int = 0,
    last: int | None = None,
    *,
    bucket_low: int = TIMELESS,
    bucket_high: int | None = None,
) -> Iterator[Row]:
    """Give a book's rows in order of seq and point, as far as their runs touch the bounds."""
    series = {
        number: (point, unit or None)
        for number, point, unit in connection.execute(
            "SELECT id, point, unit FROM series WHERE device = ?", (ref.device,)
        )
    }
    for chunk in _chunks(_runs(connection, ref, first, last)):
        touched = [
            run
            for run in chunk
            if run.high >= bucket_low and (bucket_high is None or run.low <= bucket_high)
        ]
        if touched:
            yield from _rows(connection, ref, touched, series)


def _runs(
    connection: sqlite3.Connection, ref: BookRef, first: int, last: int | None
) -> Iterator[_Run]:
    """Give the runs that share a seq with `first` to `last`."""
    (start,) = connection.execute(
        "SELECT MAX(first) FROM arrival WHERE book = ? AND first <= ?", (ref.id, first)
    ).fetchone()
    upto = 2**63 - 1 if last is None else last
    for run in connection.execute(
        "SELECT first, last, low, high, received_us, late FROM arrival"
        " WHERE book = ? AND first BETWEEN ? AND ? AND last >= ? ORDER BY first",
        (ref.id, first if start is None else start, upto, first),
    ):
        yield _Run(*run)


def _chunks(runs: Iterator[_Run]) -> Iterator[list[_Run]]:
    """Put neighbours together, so that a chunk is one look-up; timeless ones stay apart."""
    chunk: list[_Run] = []
    for run in runs:
        size = run.last - chunk[0].first if chunk else 0
        if chunk and (size > CHUNK_SEQS or (run.low == TIMELESS) != (chunk[0].low == TIMELESS)):
            yield chunk
            chunk = []
        chunk.append(run)
    if chunk:
        yield chunk


def _rows(
    connection: sqlite3.Connection,
    ref: BookRef,
    chunk: list[_Run],
    series: dict[int, tuple[str, str | None]],
) -> list[Row]:
    by_seq = {seq: run for run in chunk for seq in range(run.first, run.last + 1)}
    low, high = min(run.low for run in chunk), max(run.high for run in chunk)
    found = []
    for bucket in buckets(connection, low, high):
        for number, (point, unit) in series.items():
            for ts, seq, value in connection.execute(
                "SELECT ts, seq, value FROM r WHERE bucket = ? AND series = ? AND epoch = ?"
                " AND seq BETWEEN ? AND ?",
                (bucket, number, ref.epoch, chunk[0].first, chunk[-1].last),
            ):
                run = by_seq.get(seq)
                if run is not None:
                    time_us = None if bucket == TIMELESS else ts
                    found.append(_row(ref, run, time_us, point, unit, seq, value_of(value)))
    found.sort(key=lambda row: (row.seq, row.point))
    return found


def _row(  # noqa: PLR0913, PLR0917 -- a row's columns
    ref: BookRef,
    run: _Run,
    time_us: int | None,
    point: str,
    unit: str | None,
    seq: int,
    value: Value,
) -> Row:
    return Row(
        time_us=time_us,
        site=ref.site,
        device=ref.name,
        point=point,
        value=value,
        unit=unit,
        epoch=ref.epoch,
        seq=seq,
        received_us=run.received_us,
        late=bool(run.late),
    )


def export(
    connection: sqlite3.Connection, *, device: str = "", from_us: int | None, to_us: int | None
) -> Iterator[Row]:
    """Give stored rows from `from_us` (included) to `to_us` (excluded), in order of export.

    With a bound, what has no time is left out.
    """
    bounded = from_us is not None or to_us is not None
    low = TIMELESS if from_us is None else from_us // HOUR_US
    high = None if to_us is None else to_us // HOUR_US
    for ref in book_refs(connection, name=device):
        for row in rows_of(connection, ref, bucket_low=low, bucket_high=high):
            if not bounded or (
                row.time_us is not None
                and (from_us is None or row.time_us >= from_us)
                and (to_us is None or row.time_us < to_us)
            ):
                yield row


def readings_of(
    connection: sqlite3.Connection, ref: BookRef, first: int = 0, last: int | None = None
) -> Iterator[Reading]:
    """Give a book's readings as they were sent, in order of seq.

    A row that no longer makes a reading (somebody has changed it) is left out.
    """
    held: list[Row] = []
    for row in rows_of(connection, ref, first, last):
        if held and held[0].seq != row.seq:
            yield from _reading(connection, ref, held)
            held = []
        held.append(row)
    if held:
        yield from _reading(connection, ref, held)


def _reading(connection: sqlite3.Connection, ref: BookRef, rows: list[Row]) -> Iterator[Reading]:
    mono = connection.execute(
        "SELECT mono_us, timed FROM mono WHERE book = ? AND seq = ?", (ref.id, rows[0].seq)
    ).fetchone()
    times = {row.time_us for row in rows}
    if len(times) > 1 or (mono is not None and mono[1] and None in times):
        return
    try:
        yield Reading(
            device=ref.spiffe_id,
            time_us=rows[0].time_us if mono is None or mono[1] else None,
            mono_us=None if mono is None else mono[0],
            points=tuple(Point(name=row.point, unit=row.unit, value=row.value) for row in rows),
            epoch=ref.epoch,
            seq=rows[0].seq,
        )
    except PackError:
        return
