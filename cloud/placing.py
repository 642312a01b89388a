"""Puts new readings into the SQLite store's tables: rows, runs of arrival, books, latest."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from plantroom.cloud import book_tables
from plantroom.cloud.readback import BookRef, stored_value
from plantroom.cloud.store_schema import HOUR_US, STORED, TIMELESS
from plantroom.views.board import key_of
from plantroom.wire import spans
from plantroom.wire.reading import Point, Reading

LATE_GRACE_US = 300_000_000
IDS_MAX = 200_000


class Series:
    """Ids of devices, books and series, made when they are first needed and remembered."""

    def __init__(self) -> None:
        self._books: dict[tuple[str, int], BookRef] = {}
        self._series: dict[tuple[int, str, str], int] = {}

    def forget(self) -> None:
        """Forget all ids."""
        self._books.clear()
        self._series.clear()

    def book(self, connection: sqlite3.Connection, spiffe_id: str, epoch: int) -> BookRef:
        """Return the book of (device, epoch)."""
        ref = self._books.get((spiffe_id, epoch))
        if ref is None:
            site, name = key_of(spiffe_id)
            device = self._device(connection, spiffe_id, site, name)
            book = book_tables.open_book(connection, device, epoch)
            ref = BookRef(book, device, spiffe_id, site, name, epoch)
            if len(self._books) > IDS_MAX:
                self._books.clear()
            self._books[spiffe_id, epoch] = ref
        return ref

    def _device(self, connection: sqlite3.Connection, spiffe_id: str, site: str, name: str) -> int:
        connection.execute(
            "INSERT OR IGNORE INTO device(spiffe_id, site, name) VALUES(?, ?, ?)",
            (spiffe_id, site, name),
        )
        row = connection.execute("SELECT id FROM device WHERE spiffe_id = ?", (spiffe_id,))
        return int(row.fetchone()[0])

    def series(self, connection: sqlite3.Connection, device: int, point: str, unit: str) -> int:
        """Return the series of one point in one unit."""
        key = (device, point, unit)
        found = self._series.get(key)
        if found is None:
            connection.execute(
                "INSERT OR IGNORE INTO series(device, point, unit) VALUES(?, ?, ?)", key
            )
            row = connection.execute(
                "SELECT id FROM series WHERE device = ? AND point = ? AND unit = ?", key
            )
            found = int(row.fetchone()[0])
            if len(self._series) > IDS_MAX:
                self._series.clear()
            self._series[key] = found
        return found


@dataclass(slots=True)
class _Run:
    """Neighbours in seq that arrived together and lie together in time."""

    first: int
    last: int
    low: int
    high: int
    late: bool

    def joins(self, seq: int, bucket: int, *, late: bool) -> bool:
        timeless = bucket == TIMELESS
        return seq == self.last + 1 and late == self.late and timeless == (self.low == TIMELESS)


class _Rows:
    """The rows of readings of one book, in order of seq, written in few statements."""

    def __init__(self, connection: sqlite3.Connection, ref: BookRef, series: Series) -> None:
        self._connection = connection
        self._ref = ref
        self._series = series
        self._numbers: dict[tuple[str, str | None], int] = {}
        self._values: list[tuple[int, int, int, int, int, object]] = []
        self._newest: dict[int, tuple[int, int | None, int, int, object]] = {}
        self._monos: list[tuple[int, int, int, bool]] = []

    def add(self, reading: Reading, ts: int, bucket: int) -> None:
        """Take in the next reading."""
        shown_us = None if bucket == TIMELESS else ts
        epoch, seq = reading.epoch, reading.seq
        for point in reading.points:
            number = self._numbers.get((point.name, point.unit))
            if number is None:
                number = self._number(point)
            value = stored_value(point.value)
            self._values.append((bucket, number, ts, epoch, seq, value))
            self._newest[number] = (number, shown_us, epoch, seq, value)
        if reading.mono_us is not None:
            timed = reading.time_us is not None
            self._monos.append((self._ref.id, seq, reading.mono_us, timed))

    def _number(self, point: Point) -> int:
        number = self._series.series(
            self._connection, self._ref.device, point.name, point.unit or ""
        )
        self._numbers[point.name, point.unit] = number
        return number

    def insert(self) -> None:
        """Write them: in the order of the key, where neighbours lie on one page."""
        self._values.sort(key=_by_key)
        self._connection.executemany("INSERT INTO r VALUES(?, ?, ?, ?, ?, ?)", self._values)
        self._connection.executemany(
            "INSERT INTO latest VALUES(?, ?, ?, ?, ?) ON CONFLICT(series) DO UPDATE SET"
            " ts = excluded.ts, epoch = excluded.epoch, seq = excluded.seq, value = excluded.value"
            " WHERE (excluded.epoch, excluded.seq) > (epoch, seq)",
            self._newest.values(),
        )
        self._connection.executemany("INSERT INTO mono VALUES(?, ?, ?, ?)", self._monos)


_by_key = itemgetter(0, 1, 2)  # bucket, series, time


class Placing:
    """Places new readings of one book that arrived together."""

    def __init__(
        self, connection: sqlite3.Connection, ref: BookRef, series: Series, received_us: int
    ) -> None:
        self._connection = connection
        self._ref = ref
        self._series = series
        self._received_us = received_us
        (self._offset_us,) = connection.execute(
            "SELECT offset_us FROM book WHERE id = ?", (ref.id,)
        ).fetchone()
        (self._newest_us,) = connection.execute(
            "SELECT newest_us FROM device WHERE id = ?", (ref.device,)
        ).fetchone()

    def place(self, readings: Sequence[Reading]) -> int:
        """Place readings, in order of seq and none of them held; return how many are late.

        Late is what arrives after its hour had closed: when the device's newest time before this
        commit lay `LATE_GRACE_US` beyond that hour. (Wall time would call every replay late.)
        """
        runs: list[_Run] = []
        late_count = 0
        rows = _Rows(self._connection, self._ref, self._series)
        for reading in readings:
            ts, bucket = self._time(reading)
            closes_us = (bucket + 1) * HOUR_US + LATE_GRACE_US
            late = bucket != TIMELESS and closes_us <= self._newest_us
            late_count += late
            if runs and runs[-1].joins(reading.seq, bucket, late=late):
                run = runs[-1]
                run.last = reading.seq
                run.low, run.high = min(run.low, bucket), max(run.high, bucket)
            else:
                runs.append(_Run(reading.seq, reading.seq, bucket, bucket, late))
            rows.add(reading, ts, bucket)
        rows.insert()
        self._book(runs, readings)
        return late_count

    def _time(self, reading: Reading) -> tuple[int, int]:
        if reading.time_us is not None:
            return reading.time_us, reading.time_us // HOUR_US
        mono_us = reading.mono_us or 0
        if self._offset_us is None:
            return mono_us, TIMELESS
        return mono_us + self._offset_us, (mono_us + self._offset_us) // HOUR_US

    def _book(self, runs: list[_Run], readings: Sequence[Reading]) -> None:
        book = self._ref.id
        book_tables.add_runs(
            self._connection,
            [
                (book, run.first, run.last, run.low, run.high, self._received_us, int(run.late))
                for run in runs
            ],
        )
        for run in runs:
            spans.add(self._connection, (book, STORED), run.first, run.last)
            for weaker in self._weaker():
                spans.discard(self._connection, (book, weaker), run.first, run.last)
        book_tables.add_digests(self._connection, book, readings)
        book_tables.raise_highest(self._connection, book, readings[-1].seq)
        newest_us = max((reading.time_us or 0 for reading in readings), default=0)
        self._connection.execute(
            "UPDATE device SET newest_us = MAX(newest_us, ?) WHERE id = ?",
            (newest_us, self._ref.device),
        )

    def _weaker(self) -> list[int]:
        """Return the states that give way to stored, and of which this book has any."""
        rows = self._connection.execute(
            "SELECT DISTINCT kind FROM span WHERE book = ? AND kind > ?", (self._ref.id, STORED)
        )
        return [kind for (kind,) in rows]
