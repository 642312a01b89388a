"""More rules, each broken on purpose: about what is said of readings, and to whom.

Clock corrections, tombstones, quarantine, `gone`, answers to what cannot be read; and some that
are not about that.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from plantroom.cloud import readback
from plantroom.cloud.ingest import Ingest
from plantroom.cloud.note_tables import NoteTables
from plantroom.cloud.quarantine import Quarantine
from plantroom.device.dispatch import Dispatch
from plantroom.device.ring import Limits, Ring
from plantroom.gateway import tables
from plantroom.gateway.lanes import Lanes
from plantroom.gateway.posting import Posting
from plantroom.gateway.queue_schema import GONE, WAITING
from plantroom.gateway.tables import Life
from plantroom.wire import spans
from plantroom.wire.errors import PackError, StorageFullError
from plantroom.wire.reading import Point, Reading
from tests.sim.mutations import Mutation, swap

# -- clock corrections

_plain_notes = Ring.notes


def _corrected_once(self: Ring, device: str) -> Any:
    """Forget a correction as soon as it is sent."""
    found = _plain_notes(self, device)
    self.drop_notes([(note.life, note.number) for note in found if note.kind == "correction"])
    return found


def _read_as_corrected(
    connection: sqlite3.Connection, ref: Any, rows: list[Any]
) -> Iterator[Reading]:
    """Hash what is stored with the time that it was given later."""
    mono = connection.execute(
        "SELECT mono_us FROM mono WHERE book = ? AND seq = ?", (ref.id, rows[0].seq)
    ).fetchone()
    try:
        yield Reading(
            device=ref.spiffe_id,
            time_us=rows[0].time_us,
            mono_us=None if mono is None else mono[0],
            points=tuple(Point(name=row.point, unit=row.unit, value=row.value) for row in rows),
            epoch=ref.epoch,
            seq=rows[0].seq,
        )
    except PackError:
        return


# -- notes

_plain_say = tables.say
_plain_take = NoteTables.take


def _say_in_one_life(connection: sqlite3.Connection, life: Life, *words: Any) -> None:
    """Number notes as if this gateway had only ever had one life."""
    _plain_say(
        connection, Life(incarnation=1, clock=life.clock, random_bits=life.random_bits), *words
    )


def _known_by_number(
    self: NoteTables, connection: sqlite3.Connection, delivery: Any, note: Any, *, ours: bool
) -> bool:
    """Take a note for one that is there already because it has its number."""
    owner = note.device if note.author == "sensor" else f"{delivery.site}/{delivery.gateway}"
    key = (owner, note.life, note.number)
    if connection.execute(
        "SELECT 1 FROM note WHERE owner = ? AND life = ? AND number = ?", key
    ).fetchone():
        return False
    return _plain_take(self, connection, delivery, note, ours=ours)


@contextmanager
def _note_by_number() -> Iterator[None]:
    with (
        mock.patch.object(tables, "say", _say_in_one_life),
        mock.patch.object(NoteTables, "take", _known_by_number),
    ):
        yield


def _gone_unchecked(self: Posting, book: Any, note: Any) -> None:
    """Pass on that a sensor no longer has a range, whoever else has it."""
    spans.add(self._sql, (book.id, GONE), note.first, note.last, note.reason)
    key, span = (note.device, note.epoch), (note.first, note.last)
    tables.say(self._sql, self._life, "gone", key, span, note.reason)


# -- quarantine, and what cannot be read


def _not_kept(_self: Quarantine, *_: Any) -> bool:
    """Answer that a reading is quarantined, and keep nothing of it."""
    return True


def _too_full(*_: Any) -> Any:
    """Refuse what cannot be decoded, since quarantine is full."""
    raise StorageFullError("quarantine is full", where="sim")


def _no_answer(_self: Ingest, _each: Any) -> list[Any]:
    """Leave a batch that cannot be read without an answer."""
    return []


@contextmanager
def _silence() -> Iterator[None]:
    """Never take silence for an answer either: that would heal the first half."""
    with (
        mock.patch.object(Ingest, "_unreadable", _no_answer),
        mock.patch.object(Lanes, "looks_unreadable", return_value=False),
    ):
        yield


# -- sensor

_plain_lost = Dispatch.lost


def _forgotten_in_the_air(self: Dispatch) -> None:
    """Forget a pack that was being written when its connection was lost."""
    self._offered = None
    _plain_lost(self)


# -- lanes

_plain_queue = Posting._queue


def _always_live(self: Posting, book: Any, row: Any, _state: int) -> None:
    """Let live have what comes behind a later reading of its epoch."""
    _plain_queue(self, book, row, WAITING)


MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        name="forgotten while it was written",
        change=swap(Dispatch, "lost", _forgotten_in_the_air),
        faults=(),
        plan={"period_s": 0.5},
    ),
    Mutation(
        name="correction said once",
        change=swap(Ring, "notes", _corrected_once),
        faults=("reboot-sensor", "moody-broker"),
        plan={"fault_every_s": 3.0},
        limits={"policy": "reject", "readings_max": 1000},
    ),
    Mutation(
        name="hash of what was corrected",
        change=swap(readback, "_reading", _read_as_corrected),
        faults=("reboot-sensor",),
    ),
    Mutation(
        name="note known by its number",
        change=_note_by_number,
        faults=("kill-gateway", "cut-wan", "cut-lan", "front-lost"),
        plan={"faulty_s": 60.0, "fault_every_s": 3.0, "period_s": 0.5},
        limits={"policy": "oldest", "readings_max": 6},
        pace={"hello_s": 200.0},  # each says it again, in the end under a number that is free
    ),
    Mutation(
        name="gone passed on unchecked",
        change=swap(Posting, "_gone", _gone_unchecked),
        faults=("slow-gateway", "kill-sensor"),
        plan={"ring": Limits(readings_max=4), "fault_every_s": 3.0, "period_s": 0.5},
        pace={"hello_s": 1.0},
    ),
    Mutation(
        name="quarantined, and not kept",
        change=swap(Quarantine, "add", _not_kept),
        faults=("twin",),
        plan={"fault_every_s": 2.0},
        limits={"readings_max": 6},
    ),
    Mutation(
        name="undecodable refused",
        change=swap(Posting, "_bad", _too_full),
        faults=(),
        plan={"garble": 0.1},
    ),
    Mutation(
        name="unreadable without an answer",
        change=_silence,
        faults=(),
        plan={"poison": 0.1},
    ),
    Mutation(
        name="live takes what is late",
        change=swap(Posting, "_queue", _always_live),
        faults=("moody-broker",),
        plan={"fault_every_s": 2.0, "period_s": 0.5},
        limits={"policy": "reject", "readings_max": 1000},
    ),
)
