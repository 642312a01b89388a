"""A queue file that was damaged, set aside as it is: what of it can still be read is brought back.

It runs beside the service, from the file that was set aside, as often as it takes: what is there
already is a duplicate. Until it has ended nothing is `gone`; what it cannot bring back, and no
sensor's ring has, is booked `quarantined(file NAME)` for as long as the file lies there.
"""

import asyncio
import contextlib
import hashlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from plantroom.gateway import ingress
from plantroom.gateway.ingress import Arrival, Intake, Row
from plantroom.gateway.queue_schema import CONFIRMED, TAP
from plantroom.gateway.spool import Queue
from plantroom.gateway.stored import reading_from
from plantroom.wire.envelope import Note, note_from
from plantroom.wire.errors import PlantroomError

_log = logging.getLogger("plantroom.gateway.salvage")
_CHUNK_IDS: Final = 1_000
_FAILURES_MAX: Final = 200_000  # some seconds; a bad area of that many rows ends a table

Arrivals = Callable[[bytes], Iterable[Arrival]]
Heads = list[tuple[str, int, int]]  # device, epoch, highest


@dataclass(slots=True)
class Salvaged:
    """A part of what could be read."""

    heads: Heads = field(default_factory=list)
    intakes: list[Intake] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


class Salvage:
    """Brings back what the files set aside still hold."""

    def __init__(  # noqa: PLR0913 -- its collaborators, each named
        self,
        queue: Queue,
        files: Iterable[Path],
        *,
        arrivals: Arrivals,
        trust_domain: str,
        wake: Callable[[], None],
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue = queue
        self._files = list(files)
        self._arrivals = arrivals
        self._trust_domain = trust_domain
        self._wake = wake
        self._done = done

    async def run(self) -> None:
        """Bring back each file that was not brought back before."""
        for path in await self._queue.to_salvage(self._files):
            count = 0
            parts = read(path, self._arrivals, self._trust_domain)
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                count += sum(len(intake.rows) for intake in part.intakes)
                await self._queue.bring_back(part.heads, part.intakes, part.notes)
                self._wake()
            await self._queue.salvaged(path)
            _log.error("%s: %d readings that were not confirmed are back", path.name, count)
        self._done()


def read(path: Path, arrivals: Arrivals, trust_domain: str) -> Iterator[Salvaged]:
    """Give what can be read of a damaged queue, in parts; what cannot is skipped."""
    with contextlib.closing(_opened(path)) as sql:
        found = Salvaged()
        for table, select, make in (
            ("book", "SELECT device, epoch, highest FROM book WHERE id", _head),
            (
                "reading",
                f"SELECT hash, body FROM reading WHERE state < {CONFIRMED} AND id",
                _reading,
            ),
            ("note", "SELECT body FROM note WHERE told = 0 AND id", _note),
        ):
            for rows in _chunks(sql, table, select):
                for row in rows:
                    make(found, row)
                yield found
                found = Salvaged()
        for rows in _chunks(sql, "segment", f"{_SEGMENTS} AND id"):
            for (data,) in rows:
                _segment(found, arrivals, trust_domain, data)
            yield found
            found = Salvaged()


_SEGMENTS: Final = (
    "SELECT data FROM segment WHERE tapped > 0 AND id >"
    f" ifnull((SELECT segment FROM tap WHERE name = '{TAP}'), 0)"
)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )


def _chunks(sql: sqlite3.Connection, table: str, select: str) -> Iterator[list[Any]]:
    """Give rows by ranges of ids; a range that cannot be read is halved down to the bad rows.

    A damaged page may claim any id: what lies between two ids is never counted through.
    """
    low = _number(sql, f"SELECT min(id) FROM {table}")
    high = _number(sql, f"SELECT max(id) FROM {table}") or _number(
        sql, f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'"
    )
    following = f"SELECT min(id) FROM {table} WHERE id >= ?"
    at, last_of_all = low or 1, high or 0
    failures, waiting = 0, list[tuple[int, int]]()
    while failures < _FAILURES_MAX:
        if not waiting:
            if at > last_of_all:
                return
            found = _number(sql, following, at)
            at = at if found is None else max(at, found)
            waiting.append((at, min(at + _CHUNK_IDS - 1, last_of_all)))
            at += _CHUNK_IDS
        first, last = waiting.pop()
        try:
            rows = sql.execute(f"{select} BETWEEN ? AND ?", (first, last)).fetchall()
        except sqlite3.Error:
            failures += 1
            if first < last:
                middle = (first + last) // 2
                waiting += [(middle + 1, last), (first, middle)]
            continue
        if rows:
            yield rows


def _number(sql: sqlite3.Connection, query: str, *values: int) -> int | None:
    try:
        row = sql.execute(query, values).fetchone()
    except sqlite3.Error:
        return None
    return row[0] if row and isinstance(row[0], int) else None


def _head(found: Salvaged, row: tuple[Any, ...]) -> None:
    device, epoch, highest = row
    if isinstance(device, str) and isinstance(epoch, int) and isinstance(highest, int):
        found.heads.append((device, epoch, highest))


def _reading(found: Salvaged, row: tuple[Any, ...]) -> None:
    """Take a reading whose hash is still that of its bytes."""
    digest, body = row
    if not isinstance(body, bytes) or hashlib.sha256(body).digest() != digest:
        return
    reading = reading_from(body)
    intake = Intake(reading.device)
    intake.rows.append(Row(reading.epoch, reading.seq, digest, body))
    found.intakes.append(intake)


def _note(found: Salvaged, row: tuple[Any, ...]) -> None:
    with contextlib.suppress(PlantroomError, TypeError):
        found.notes.append(note_from(row[0]))


def _segment(found: Salvaged, arrivals: Arrivals, trust_domain: str, data: bytes) -> None:
    try:
        intakes = [ingress.read(arrival, trust_domain) for arrival in arrivals(data)]
    except Exception:  # noqa: BLE001 -- whatever damaged bytes lead to: the next one may be whole
        _log.warning("a segment of %d bytes cannot be read", len(data))
        return
    found.intakes += [intake for intake in intakes if intake is not None]
