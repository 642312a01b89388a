"""Replays a recording: every row of a CSV as a reading, at the recorded pace or faster.

Nothing is left out silently: a row or a cell that cannot be read is reported as file:line:column
and counted. The position travels with the sample into the outbox's transaction.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from plantroom.device import instants
from plantroom.device.driver import Taken
from plantroom.device.mapping import Mapping, find
from plantroom.device.settings import DeviceSettings
from plantroom.device.table import Record, RowError, Table
from plantroom.wire.clock import Clock
from plantroom.wire.errors import ConfigError, PackError, UnreachableError
from plantroom.wire.reading import Point, Sample

Report = Callable[[str], None]
CHUNK_BYTES = 65_536
LAG_US_MAX = 1_000_000  # further behind than this, the schedule starts anew instead of rushing
HOUR_US = 3_600_000_000


class ReplayDriver:
    """One recording as one device."""

    waits = True

    def __init__(  # noqa: PLR0913 -- what it reads and at what pace, each of another kind
        self,
        path: Path,
        mapping: Mapping,
        *,
        period_s: float,
        speed: float,
        clock: Clock,
        report: Report,
    ) -> None:
        self._path = path
        self._mapping = mapping
        self._gap_us_max = round(period_s * 1_000_000)
        self._speed = speed
        self._clock = clock
        self._report = report
        self._table = Table.open(path)
        self._parse = instants.parser(mapping.time_format, mapping.timezone)
        self._indexes = [
            (column, self._table.header.index(column.column)) for column in mapping.columns
        ]
        self._time_index = self._table.header.index(mapping.time_column)
        self._rows = self._rejected = self._cells = 0
        self._not_before_us: int | None = None
        self._offset, self._line = self._table.offset, 2
        self._records = self._table.records(self._offset, self._line, self._reject_row)
        self._next: tuple[Sample, Record] | None = None
        self._due_us = 0
        self._end = (self._offset, self._line)
        self._told_end = False
        self._read = hashlib.sha256()
        self._read_to = 0

    def resume(self, position: str | None) -> None:
        """Go on behind the row that was committed last; None: at the first row."""
        if position is None:
            for name in self._mapping.unread(self._table.header):
                self._report(f"{self._path}:1: column {name!r} is not mapped and not replayed")
        else:
            kept = json.loads(position)
            if kept.get("driver") != "replay":
                raise ConfigError(
                    f"this state belongs to a device that was {kept.get('driver')}",
                    where=str(self._path),
                    remedy="replay it with a state folder of its own",
                )
            self._offset, self._line = kept["offset"], kept["line"]
            if self._fingerprint(self._offset) != kept["fingerprint"]:
                raise ConfigError(
                    f"not the recording begun here: it changed before line {self._line}",
                    where=str(self._path),
                    remedy="restore it, or replay the new one with another device and state",
                )
            self._rows, self._rejected = kept["rows"], kept["rejected"]
            self._cells = kept["cells"]
            self._not_before_us = kept.get("not_before_us")
        self._records = self._table.records(self._offset, self._line, self._reject_row)
        self._due_us = self._clock.monotonic_us()
        self._advance()

    def due_in_us(self) -> int | None:
        """Say how long until the next row is due; None when there is none left."""
        if self._next is None:
            return None if self._told_end else 0
        return max(0, self._due_us - self._clock.monotonic_us())

    def take(self, count_max: int) -> list[Taken]:
        """Take the rows that are due; behind the last one, the end itself, once."""
        now_us = self._clock.monotonic_us()
        if now_us - self._due_us > LAG_US_MAX:
            self._due_us = now_us
        taken: list[Taken] = []
        while self._next is not None and len(taken) < count_max and self._due_us <= now_us:
            taken.append(self._pass())
        if self._next is None and not self._told_end and len(taken) < count_max:
            self._told_end = True
            self._offset, self._line = self._end
            taken.append(Taken(sample=None, position=self._position()))
        return taken

    def fresh(self) -> Taken:
        """Take the next row before it is due."""
        if self._next is None:
            raise UnreachableError("the recording has ended", where=str(self._path))
        return self._pass()

    def info(self) -> dict[str, str]:
        """Say how far the recording has been read."""
        return {
            "replay": "done" if self._told_end else "running",
            "rows": str(self._rows),
            "rejected": str(self._rejected),
            "rejected_cells": str(self._cells),
            "file": self._path.name,
        }

    def _pass(self) -> Taken:
        """Hand out the row at hand, and look at the one behind it."""
        if self._next is None:
            raise AssertionError("no row at hand")
        sample, record = self._next
        self._rows += 1
        self._offset, self._line = record.offset, record.next_line
        position = self._position()
        self._advance()
        if self._next is not None and sample.time_us is not None:
            ahead_us = (self._next[0].time_us or 0) - sample.time_us
            self._due_us += round(min(max(ahead_us, 0), self._gap_us_max) / self._speed)
        return Taken(sample=sample, position=position)

    def _advance(self) -> None:
        """Read on to the next row that can be used."""
        self._next = None
        while self._next is None:
            try:
                record = next(self._records)
                sample = self._sample(record)
                self._next = (sample, record)
                self._not_before_us = self._following(sample.time_us or 0)
            except StopIteration as stop:
                if stop.value is not None:  # None: it had ended before
                    self._end = stop.value
                return
            except RowError as error:
                self._reject_row(error)

    def _following(self, time_us: int) -> int:
        """Return the earliest time that the next row may have if rows go forward.

        Rows that are an hour or more apart never have one time twice, but for a local one.
        """
        last_us = self._not_before_us
        is_sparse = last_us is not None and time_us - last_us >= HOUR_US - 1
        return time_us + 1 if is_sparse else time_us

    def _sample(self, record: Record) -> Sample:
        cell = record.cells[self._time_index]
        try:
            time_us = self._parse(cell.text, self._not_before_us)
        except (ValueError, OverflowError) as error:
            what = f"{self._mapping.time_column}: {error}"
            raise RowError(what, line=record.line, column=cell.column) from error
        points = []
        for column, index in self._indexes:
            cell = record.cells[index]
            try:
                value = column.value(cell.text, self._mapping.decimal)
                points.append(Point(name=column.point, unit=column.unit, value=value))
            except (ValueError, PackError) as error:
                self._cells += 1
                self._say(record.line, cell.column, f"{error}; the cell is left out")
        if not points:
            raise RowError("no cell can be used", line=record.line, column=1)
        try:
            return Sample(device="", time_us=time_us, points=tuple(points))
        except PackError as error:
            text = record.cells[self._time_index]
            what = f"{self._mapping.time_column} is {text.text[:40]!r}: {error.what}"
            raise RowError(what, line=record.line, column=text.column) from error

    def _reject_row(self, error: RowError) -> None:
        self._rejected += 1
        self._say(error.line, error.column, f"{error}; the row is left out")

    def _say(self, line: int, column: int, what: str) -> None:
        self._report(f"{self._path}:{line}:{column}: {what}")

    def _position(self) -> str:
        """Where to go on, with what was counted so far, and how to know the file again."""
        return json.dumps(
            {
                "driver": "replay",
                "offset": self._offset,
                "line": self._line,
                "rows": self._rows,
                "rejected": self._rejected,
                "cells": self._cells,
                "not_before_us": self._not_before_us,
                "fingerprint": self._fingerprint(self._offset),
            }
        )

    def _fingerprint(self, offset: int) -> str:
        """Tell this file from another by every byte before `offset`, each of them read once."""
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            while self._read_to < offset and (
                chunk := file.read(min(CHUNK_BYTES, offset - self._read_to))
            ):
                self._read.update(chunk)
                self._read_to += len(chunk)
        return self._read.hexdigest()


def make(settings: DeviceSettings, clock: Clock, report: Report) -> ReplayDriver:
    """Make the driver that the settings describe.

    Raises:
        UsageError: when no mapping is named and none that ships knows the header.
        ConfigError: when a file cannot be read, or a mapped column is missing.
    """
    path = Path(settings.replay.file)
    map_path = Path(settings.replay.map) if settings.replay.map else None
    return ReplayDriver(
        path,
        find(path, map_path),
        period_s=settings.sampling.period_s,
        speed=settings.sampling.speed,
        clock=clock,
        report=report,
    )
