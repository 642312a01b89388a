"""Numbers for readings that come to ingestion in calls, each one reading however often it comes.

A number is on the disk before its reading goes to the store, which takes each (device, epoch, seq)
once: a call that is made again, also after a crash in between, finds the number that it had. The
epoch is a new one at every start, so that a restored file cannot reuse one.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from plantroom.wire.clock import Clock, is_plausible
from plantroom.wire.database import Database
from plantroom.wire.errors import UsageError
from plantroom.wire.reading import KEY_MAX

REMEMBERED_MAX: Final = 1_000_000
_RANDOM_BITS: Final = 20

_TABLES: Final = """
CREATE TABLE numbering(device TEXT PRIMARY KEY, epoch INTEGER NOT NULL, next INTEGER NOT NULL);
CREATE TABLE accepted(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name BLOB NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    time_us INTEGER NOT NULL
);
CREATE TABLE asked(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name BLOB NOT NULL UNIQUE,
    hash BLOB NOT NULL
);
"""
MIGRATIONS: Final = {"accepted": (_TABLES,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A reading without numbers: what names it, whose it is, when it was taken."""

    name: bytes
    device: str
    time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """The number that it has, and the time that it was first given with."""

    epoch: int
    seq: int
    time_us: int


class Accepted:
    """What was numbered, in one SQLite file."""

    def __init__(self, path: Path, *, clock: Clock, random_bits: Callable[[int], int]) -> None:
        self._database = Database.open(path, MIGRATIONS)
        self._clock = clock
        self._random_bits = random_bits
        self._begun: set[str] = set()

    async def number(self, asked: bytes, hashed: bytes, given: Sequence[Given]) -> list[Number]:
        """Return each reading's number, the one it had if it was given before.

        `asked` names the call, `hashed` is of what it says.

        Raises:
            UsageError: when that name was used for something else.
            StorageError: when nothing could be numbered.
        """
        return await self._database.write(partial(self._number, asked, hashed, given))

    def _number(
        self, asked: bytes, hashed: bytes, given: Sequence[Given], sql: sqlite3.Connection
    ) -> list[Number]:
        known = sql.execute("SELECT hash FROM asked WHERE name = ?", (asked,)).fetchone()
        if known is not None and known[0] != hashed:
            raise UsageError(
                "this idempotency key was used for something else",
                where="idempotency key",
                remedy="give another one",
            )
        sql.execute("INSERT OR IGNORE INTO asked(name, hash) VALUES(?, ?)", (asked, hashed))
        numbers = [self._one(sql, each) for each in given]
        for table in ("accepted", "asked"):
            sql.execute(
                f"DELETE FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ?",
                (REMEMBERED_MAX,),
            )
        return numbers

    def _one(self, sql: sqlite3.Connection, given: Given) -> Number:
        row = sql.execute(
            "SELECT epoch, seq, time_us FROM accepted WHERE name = ?", (given.name,)
        ).fetchone()
        if row is not None:
            return Number(epoch=row[0], seq=row[1], time_us=row[2])
        epoch, seq = self._next(sql, given.device)
        sql.execute(
            "INSERT INTO accepted(name, epoch, seq, time_us) VALUES(?, ?, ?, ?)",
            (given.name, epoch, seq, given.time_us),
        )
        sql.execute(
            "INSERT OR REPLACE INTO numbering VALUES(?, ?, ?)", (given.device, epoch, seq + 1)
        )
        return Number(epoch=epoch, seq=seq, time_us=given.time_us)

    def _next(self, sql: sqlite3.Connection, device: str) -> tuple[int, int]:
        row = sql.execute(
            "SELECT epoch, next FROM numbering WHERE device = ?", (device,)
        ).fetchone()
        if row is not None and device in self._begun:
            return int(row[0]), int(row[1])
        self._begun.add(device)
        wall_us = self._clock.wall_us()
        seconds = wall_us // 1_000_000 if is_plausible(wall_us) else 0
        counter = max(((row[0] if row else 0) >> _RANDOM_BITS) + 1, seconds)
        return (counter << _RANDOM_BITS | self._random_bits(_RANDOM_BITS)) & KEY_MAX, 0

    def close(self) -> None:
        """Close; idempotent."""
        self._database.close()
