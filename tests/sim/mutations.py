"""Rules of the product, each broken on purpose: the simulation has to notice every one of them.

The names are those of the delivery model, where it has one for it. Each entry changes the product
while its block runs, and says in which plans it has a chance to do harm.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

from plantroom.broker.journal import Journal
from plantroom.cloud import writing
from plantroom.cloud.ingest import Ingest
from plantroom.cloud.store import Committed, StoredBook
from plantroom.device import outbox
from plantroom.device.dispatch import Dispatch
from plantroom.device.ring import Limits, Ring
from plantroom.gateway import answers, room, tables
from plantroom.gateway.lanes import Flight, Lanes
from plantroom.gateway.line import Line
from plantroom.gateway.posting import Posting
from plantroom.gateway.queue_schema import AGAIN, CONFIRMED, TAP
from plantroom.gateway.spool import Queue
from plantroom.gateway.stored import reading_from
from plantroom.gateway.uplink import Uplink
from plantroom.wire.envelope import Receipt
from plantroom.wire.errors import StorageError
from plantroom.wire.link import Message
from plantroom.wire.ranges import RangeSet

Change = Callable[[], Any]  # a context manager


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A broken rule; `faults` and `plan` are where it shows."""

    name: str
    change: Change
    faults: tuple[str, ...]
    plan: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    pace: dict[str, Any] = field(default_factory=dict)


def swap(target: Any, name: str, new: Any) -> Change:
    """Put something else in a thing's place."""
    return lambda: mock.patch.object(target, name, new)


# -- sensor


def _sent_when_refused(self: Dispatch, parcel: Any, _code: int, now_s: float) -> None:
    self._accepted(parcel, now_s)


def _no_tombstone(_self: Ring, _row: Any, _reason: str, _at_us: int) -> None:
    return None


def _next_epoch_is_guessable(last: int, _wall_us: int, _randbits: Any) -> int:
    return last + 1


# -- building's broker


def _ack_before_commit(_self: Journal, outlet: Any, data: bytes, *, count: int, **_: Any) -> None:
    outlet.write(data)
    outlet.acknowledged(count)


# -- gateway


def _evict_in_the_air(rows: Any, too_much: Any, _in_air: Any) -> Any:
    return _plain_until(rows, too_much, ())


_plain_until = room._until
_plain_post = Queue._post
_plain_next_rows = Line._next_rows
_plain_row = Posting._row
_plain_publish = Uplink._publish


def _cursor_first(self: Queue, intakes: Any, after: Any, upto: Any, sql: sqlite3.Connection) -> Any:
    """Move the cursor in a transaction of its own, before the rows."""
    moved = sql.execute(
        "UPDATE tap SET segment = ? WHERE name = ? AND segment = ?",
        (upto.segment, TAP, after.segment),
    ).rowcount
    if not moved:
        return self._refusing
    sql.execute("COMMIT")
    sql.execute("BEGIN IMMEDIATE")
    sql.execute("UPDATE tap SET segment = ? WHERE name = ?", (after.segment, TAP))
    return _plain_post(self, intakes, after, upto, sql)


def _cursor_by_time(self: Line, sql: sqlite3.Connection, lane: Any, limit: int) -> list[Any]:
    """Take what is later than the last one taken: readings that share a time are passed over."""
    chosen = []
    for row in _plain_next_rows(self, sql, lane, limit):
        time_us = reading_from(row[5]).time_us or 0
        if time_us > _NEWEST.get(row[2], -1):
            _NEWEST[row[2]] = time_us
            chosen.append(row)
    return chosen


_NEWEST: dict[str, int] = {}


@contextmanager
def _by_time() -> Iterator[None]:
    _NEWEST.clear()
    with mock.patch.object(Line, "_next_rows", _cursor_by_time):
        yield


def _dedup_by_key(self: Posting, book: Any, row: Any) -> None:
    """Take another reading under a key that is held for a duplicate."""
    with mock.patch.object(Posting, "_reused", return_value=None):
        _plain_row(self, book, row)


async def _delete_on_puback(self: Uplink, message: Message) -> None:
    """Forget a batch once the cloud's broker has it."""
    await _plain_publish(self, message)
    for flight in list(self._lanes._lanes["live"].in_air.values()):
        if flight.payload == message.payload:
            ids = [row.id for row in flight.rows]
            await self._queue._database.write(partial(tables.move, ids=ids, to=CONFIRMED))


def _confirm_whole(_self: Queue, answer: Receipt, flight: Flight, sql: sqlite3.Connection) -> Any:
    outcome = answers.receipt(sql, answer, flight.rows, flight.notes)
    tables.move(sql, sorted(row.id for row in flight.rows), CONFIRMED)
    return replace(outcome, again=())


async def any_incarnation(self: Uplink, answer: Any) -> None:
    """Take the answers of an earlier life for ours, and confirm what has these numbers now."""
    mine = replace(answer, incarnation=self._queue.incarnation)
    with mock.patch.object(Queue, "_settle", _confirm_whole):
        await _plain_answered(self, mine)


_plain_answered = Uplink._answered
_plain_meet = answers.meet


def _former_forgotten(connection: sqlite3.Connection, store_id: str) -> Any:
    """Take an answer of a former store for one of a new store."""
    connection.execute("DELETE FROM former_store")
    return _plain_meet(connection, store_id)


def _notes_not_receipted(self: Line, sql: sqlite3.Connection, limit: int) -> Any:
    """Take notes out of the queue when they are sent."""
    found = _plain_notes(self, sql, limit)
    for (number, _), _note in found:
        sql.execute("UPDATE note SET told = 1 WHERE id = ?", (number,))
    return found


_plain_notes = Line._next_notes


_plain_fill = answers._fill


def _fill_quietly(connection: Any, life: Any, hole: Any, **more: Any) -> Any:
    return _plain_fill(connection, life, hole, **(more | {"quiet": True}))


@contextmanager
def _said_once() -> Iterator[None]:
    """Say a tombstone once: books that say it again for a hole would heal the first half."""
    with (
        mock.patch.object(Line, "_next_notes", _notes_not_receipted),
        mock.patch.object(answers, "_fill", _fill_quietly),
    ):
        yield


def _halves_requeued(_self: Lanes, _flight: Flight) -> list[Flight]:
    """Give an unreadable batch back to the queue, which makes the same batch of it again."""
    return []


async def _requeue(self: Queue, flight: Flight) -> None:
    ids = sorted(row.id for row in flight.rows)

    def work(sql: sqlite3.Connection) -> None:
        tables.move(sql, ids, AGAIN)
        self._line.land(flight)
        self._line.rewind(0)

    await self._database.write(work)


@contextmanager
def _no_halves() -> Iterator[None]:
    with (
        mock.patch.object(Lanes, "halve", _halves_requeued),
        mock.patch.object(Queue, "set_aside", _requeue),
    ):
        yield


def _history_is_evicted(connection: sqlite3.Connection, too_much: Any) -> int:
    """Let confirmed readings go as if they were evicted."""
    rows = connection.execute(
        "SELECT id, book, seq, size, hash FROM reading INDEXED BY reading_history"
        f" WHERE state = {CONFIRMED} ORDER BY id"
    )
    chosen = _plain_until(rows, too_much, ())
    room._evict(connection, _LIFE[0], chosen, "full")
    return sum(row[3] for row in chosen)


_LIFE: list[Any] = [None]
_plain_make = room.make


@contextmanager
def _confirmed_as_evicted() -> Iterator[None]:
    def make(connection: Any, life: Any, *args: Any, **more: Any) -> None:
        _LIFE[0] = life
        _plain_make(connection, life, *args, **more)

    with (
        mock.patch.object(room, "make", make),
        mock.patch.object(room, "_drop_history", _history_is_evicted),
    ):
        yield


# -- cloud


async def _receipt_before_commit(self: Ingest, found: Any) -> list[Message]:
    """Answer as if the store had committed, and let it commit a moment later."""
    receipts = []
    for delivery in found.deliveries:
        tally = writing._Tally()
        for reading in delivery.batch.readings:
            tally.store(reading)
        tally.notes += [(note.author, note.life, note.number) for note in delivery.batch.notes]
        receipts.append(tally.receipt(delivery.batch, self._store.store_id, self._commit + 1))

    async def commit() -> None:
        await asyncio.sleep(0.5)
        with contextlib.suppress(StorageError):
            await self._store.commit(found.deliveries)

    _LATER.append(asyncio.create_task(commit()))
    return self._receipts(found.deliveries, Committed(receipts=tuple(receipts)))


_LATER: list[Any] = []


def _dedup_without_hash(connection: Any, ref: Any, readings: Any) -> Any:
    new, again = _plain_sorted_out(connection, ref, readings)
    return new, [(reading, True) for reading, _ in again]


_plain_sorted_out = writing._sorted_out


def _holes_with_evicted(self: StoredBook) -> RangeSet:
    return self.stored.holes(self.highest)


MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        name="ack before commit",
        change=swap(Journal, "acknowledge", _ack_before_commit),
        faults=("crash-gateway", "kill-gateway"),
        plan={"ring": Limits(readings_max=4)},
    ),
    Mutation(
        name="sent when refused",
        change=swap(Dispatch, "_refused", _sent_when_refused),
        faults=("cut-wan", "silent-wan"),
        plan={"ring": Limits(readings_max=4)},
        limits={"policy": "reject", "readings_max": 6},
    ),
    Mutation(
        name="skip a tombstone",
        change=swap(Ring, "_entomb", _no_tombstone),
        faults=("cut-lan", "kill-gateway"),
        plan={"ring": Limits(readings_max=4)},
    ),
    Mutation(
        name="epoch reused",
        change=swap(outbox, "next_epoch", _next_epoch_is_guessable),
        faults=("restore-sensor",),
    ),
    Mutation(
        name="cursor apart",
        change=swap(Queue, "_post", _cursor_first),
        faults=("crash-gateway", "kill-gateway", "disk-full-gateway"),
        plan={"ring": Limits(readings_max=4)},
    ),
    Mutation(name="cursor by time", change=_by_time, faults=()),
    Mutation(
        name="delete on PUBACK",
        change=swap(Uplink, "_publish", _delete_on_puback),
        faults=("front-lost", "weather", "crash-cloud", "kill-gateway"),
        plan={"ring": Limits(readings_max=4)},
        limits={"readings_max": 6, "policy": "reject"},
    ),
    Mutation(
        name="any incarnation, whole batch",
        change=swap(Uplink, "_answered", any_incarnation),
        faults=("kill-gateway",),
        plan={"fault_every_s": 4.0, "period_s": 0.5, "late": 0.5},
        limits={"readings_max": 1000, "policy": "reject"},
        pace={"live_readings_max": 1, "backfill_readings_max": 1, "answer_timeout_s": 10.0},
    ),
    Mutation(
        name="evict in the air",
        change=swap(room, "_until", _evict_in_the_air),
        faults=("cut-wan", "weather", "kill-cloud"),
        limits={"policy": "oldest", "readings_max": 6},
    ),
    Mutation(
        name="former store",
        change=swap(answers, "meet", _former_forgotten),
        faults=("restore-cloud",),
        plan={"fault_every_s": 3.0, "period_s": 0.5, "late": 0.5},
        limits={"readings_max": 1000, "policy": "reject"},
        pace={"live_readings_max": 1, "backfill_readings_max": 1},
    ),
    Mutation(
        name="tombstone neither receipted nor said again",
        change=_said_once,
        faults=("front-lost", "weather", "kill-gateway"),
        limits={"policy": "oldest", "readings_max": 6},
    ),
    Mutation(
        name="halves requeued",
        change=_no_halves,
        faults=(),
        plan={"poison": 0.1},
    ),
    Mutation(
        name="confirmed as evicted",
        change=_confirmed_as_evicted,
        faults=(),
        limits={"readings_max": 6},
    ),
    Mutation(
        name="dedup at the gateway by key",
        change=swap(Posting, "_row", _dedup_by_key),
        faults=("twin",),
        plan={"fault_every_s": 2.0},
    ),
    Mutation(
        name="receipt before commit",
        change=swap(Ingest, "_commit_all", _receipt_before_commit),
        faults=("crash-cloud", "kill-cloud", "disk-full-cloud"),
        plan={"ring": Limits(readings_max=4)},
        limits={"readings_max": 6, "policy": "reject"},
    ),
    Mutation(
        name="dedup without hash",
        change=swap(writing, "_sorted_out", _dedup_without_hash),
        faults=("twin",),
        plan={"fault_every_s": 2.0},
        limits={"readings_max": 6},
    ),
    Mutation(
        name="refill evicted",
        change=lambda: mock.patch.object(StoredBook, "holes", property(_holes_with_evicted)),
        faults=("cut-lan",),
        plan={"ring": Limits(readings_max=4)},
    ),
)
