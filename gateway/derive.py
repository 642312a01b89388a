"""The stage behind the PUBACK: reads tapped segments past the cursor and derives the queue.

Decoding runs on the database's reading thread, posting on its writing thread; the cursor moves with
what was derived, so a crash at any moment only means that a segment is derived again.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from plantroom.gateway import ingress
from plantroom.gateway.holding import FULL, NO_RESERVE, UNDERIVED, Holding
from plantroom.gateway.ingress import Arrival, Intake
from plantroom.gateway.spool import Cursor, Queue
from plantroom.wire.database import Database
from plantroom.wire.errors import StorageError

_log = logging.getLogger("plantroom.gateway.derive")
_SEGMENTS_MAX = 64
_READINGS_MAX = 2_000  # one transaction's worth: publishers wait for the same disk
_BYTES_MAX = 524_288  # of payloads: decoded they are ten times that, and two groups in memory
_RETRY_S = 1.0


class Arrivals(Protocol):
    """Gives the tapped messages of a segment, but for the first ones, in their order."""

    def __call__(self, data: bytes, skip: int = 0) -> Iterable[Arrival]: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    intakes: list[Intake]
    after: Cursor
    upto: Cursor


class Deriver:
    """Derives the queue from what the broker has committed.

    `holding` is told when publishes have to be refused; `derived` hears of every intake that was
    posted (views, bridge), after the commit.
    """

    def __init__(  # noqa: PLR0913 -- its collaborators, each named
        self,
        database: Database,
        queue: Queue,
        *,
        arrivals: Arrivals,
        trust_domain: str,
        holding: Holding,
        derived: Callable[[list[Intake]], None],
    ) -> None:
        self._database = database
        self._queue = queue
        self._arrivals = arrivals
        self._trust_domain = trust_domain
        self._holding = holding
        self._derived = derived
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Say that there may be new segments."""
        self._woken.set()

    async def run(self) -> None:
        """Derive until cancelled; what fails is tried again, publishes are refused meanwhile."""
        self.wake()
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self.derive()
                self._holding.set(UNDERIVED, holds=False)
            except StorageError as error:
                self._holding.set(UNDERIVED, holds=True)
                _log.error("queue cannot be derived: %s", error)
                await asyncio.sleep(_RETRY_S)
                self.wake()

    async def derive(self) -> None:
        """Derive all that there is; the next segments are read while a group is being posted."""
        group = await self._next(await self._queue.cursor())
        while group is not None:
            await self._holding.ended(NO_RESERVE)  # only what frees space may write
            _, group = await asyncio.gather(self._post(group), self._next(group.upto))

    async def _next(self, cursor: Cursor) -> _Group | None:
        return await self._database.read(partial(self._read, cursor))

    async def _post(self, group: _Group) -> None:
        full = await self._queue.post(group.intakes, after=group.after, upto=group.upto)
        self._holding.set(FULL, holds=full)
        if group.intakes:
            self._derived(group.intakes)

    def _read(self, cursor: Cursor, sql: sqlite3.Connection) -> _Group | None:
        """Read what comes behind the cursor: some segments, or a part of one that is large."""
        intakes: list[Intake] = []
        upto = cursor
        found = size_bytes = 0
        for segment, data in sql.execute(
            "SELECT id, CASE WHEN tapped > 0 THEN data END FROM segment WHERE id > ?"
            " ORDER BY id LIMIT ?",
            (cursor.segment, _SEGMENTS_MAX),
        ):
            part = upto.part
            for arrival in self._arrivals(data, part) if data is not None else ():
                part += 1
                size_bytes += len(arrival.payload)
                intake = ingress.read(arrival, self._trust_domain)
                if intake is not None:
                    intake.segment = segment
                    intakes.append(intake)
                    found += len(intake.rows) + len(intake.samples)
                if found >= _READINGS_MAX or size_bytes >= _BYTES_MAX:
                    upto = Cursor(upto.segment, part)
                    return _Group(intakes=intakes, after=cursor, upto=upto)
            upto = Cursor(segment)
        return _Group(intakes=intakes, after=cursor, upto=upto) if upto > cursor else None
