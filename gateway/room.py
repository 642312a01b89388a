"""Making room: what goes when the queue is full, and when publishes have to be refused.

Confirmed readings go first; that is no eviction. Of the others nothing goes under `reject`; under
`oldest` the first in line go, each with a tombstone; under `newest` what arrives is not queued
(see posting). What is in the air is never evicted.
"""

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from plantroom.gateway import books, tables
from plantroom.gateway.queue_schema import AGAIN, CONFIRMED, EVICTED, WAITING
from plantroom.gateway.settings import GatewaySettings
from plantroom.gateway.tables import Depth, Life
from plantroom.wire import spans
from plantroom.wire.ranges import runs

Policy = Literal["reject", "oldest", "newest"]
_DISK_SHARE = 8
_LOW_WATER = 0.97  # a refusal ends once the queue has drained to this share of its limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the queue may hold; `age_us_max` 0 means any age."""

    readings_max: int
    bytes_max: int
    age_us_max: int
    disk_free_bytes_min: int
    policy: Policy
    quarantine_bytes_max: int
    history_bytes_max: int = 1 << 62


def limits_of(settings: GatewaySettings, *, disk_bytes: int | None = None) -> Limits:
    """Return the queue's limits in its own units, of a disk that has so many bytes in all.

    What has to stay free is never more than a share of the disk: of a small one nothing would be
    left to use.
    """
    queue = settings.queue
    free_min = queue.disk_free_bytes_min
    if disk_bytes is not None:
        free_min = min(free_min, disk_bytes // _DISK_SHARE)
    return Limits(
        readings_max=queue.readings_max,
        bytes_max=queue.bytes_max,
        age_us_max=int(queue.age_s_max * 1_000_000),
        disk_free_bytes_min=free_min,
        policy=queue.policy,  # type: ignore[arg-type]  # checked by its choices
        quarantine_bytes_max=queue.quarantine_bytes_max,
        history_bytes_max=queue.history_bytes_max,
    )


def excess(limits: Limits, depth: Depth) -> Depth:
    """Return how much more there is than may be."""
    return Depth(
        readings=max(0, depth.readings - limits.readings_max),
        bytes=max(0, depth.bytes - limits.bytes_max),
    )


def is_full(limits: Limits, depth: Depth, disk_free_bytes: int, *, refusing: bool) -> bool:
    """Say whether publishes are refused now; while they are, it takes some drain to end that."""
    share = _LOW_WATER if refusing else 1.0
    return (
        depth.readings >= limits.readings_max * share
        or depth.bytes >= limits.bytes_max * share
        or disk_free_bytes < limits.disk_free_bytes_min / share
    )


def waiting(depths: dict[int, Depth]) -> Depth:
    """Return the depth of what is not confirmed."""
    return depths[WAITING] + depths[AGAIN]


def make(  # noqa: PLR0913 -- whose queue, which limits, and what is short
    connection: sqlite3.Connection,
    life: Life,
    limits: Limits,
    in_air: Collection[int],
    *,
    aged_us: int,
    short: int = 0,
) -> None:
    """Bring the queue below its limits, as far as the policy allows.

    `aged_us` is the running time now, `short` how many bytes the disk has too few.
    """
    if limits.age_us_max:
        _evict_old(connection, life, aged_us - limits.age_us_max, in_air)
    depths = tables.depths(connection)
    too_much = _or_short(excess(limits, waiting(depths) + depths[CONFIRMED]), short)
    too_much = _or_short(too_much, depths[CONFIRMED].bytes - limits.history_bytes_max)
    if too_much == Depth():
        return
    freed = _drop_history(connection, too_much)
    if limits.policy == "oldest":
        waits = waiting(tables.depths(connection))
        too_much = _or_short(excess(limits, waits), short - freed)
        if too_much != Depth():
            rows = connection.execute(
                "SELECT id, book, seq, size, hash FROM reading INDEXED BY reading_waiting"
                f" WHERE state < {CONFIRMED} ORDER BY id"
            )
            _evict(connection, life, _until(rows, too_much, in_air), "full")


def _or_short(too_much: Depth, short: int) -> Depth:
    return Depth(readings=too_much.readings, bytes=max(too_much.bytes, short))


def _drop_history(connection: sqlite3.Connection, too_much: Depth) -> int:
    """Forget the oldest confirmed readings, unless they still wait to be sent to a new store.

    Returns how many bytes that has freed.
    """
    if tables.meta(connection, "requeue_last") is not None:
        return 0
    rows = connection.execute(
        "SELECT id, book, seq, size, hash FROM reading INDEXED BY reading_history"
        f" WHERE state = {CONFIRMED} ORDER BY id"
    )
    chosen = _until(rows, too_much, ())
    tables.remove(connection, [row[0] for row in chosen])
    return sum(row[3] for row in chosen)


_Row = tuple[int, int, int, int, bytes]


def _until(rows: Iterable[_Row], too_much: Depth, in_air: Collection[int]) -> list[_Row]:
    chosen: list[_Row] = []
    readings, size = too_much.readings, too_much.bytes
    for row in rows:
        if readings <= 0 and size <= 0:
            break
        if row[0] in in_air:
            continue
        chosen.append(row)
        readings -= 1
        size -= row[3]
    return chosen


def _evict_old(
    connection: sqlite3.Connection, life: Life, before_us: int, in_air: Collection[int]
) -> None:
    """Evict what waits for too long, in running time: a clock that jumps evicts nothing."""
    chosen = []
    for *row, aged_us in connection.execute(
        "SELECT id, book, seq, size, hash, aged_us FROM reading INDEXED BY reading_waiting"
        f" WHERE state < {CONFIRMED} ORDER BY id"
    ):
        if aged_us >= before_us:
            break
        if row[0] not in in_air:
            chosen.append((row[0], row[1], row[2], row[3], row[4]))
    _evict(connection, life, chosen, "age")


def _evict(connection: sqlite3.Connection, life: Life, rows: list[_Row], reason: str) -> None:
    """Take readings out of the queue and leave a tombstone for every range."""
    if not rows:
        return
    by_book: dict[int, list[tuple[int, bytes]]] = {}
    for _, book, seq, _, digest in rows:
        by_book.setdefault(book, []).append((seq, digest))
    for book, members in by_book.items():
        device, epoch = connection.execute(
            "SELECT device, epoch FROM book WHERE id = ?", (book,)
        ).fetchone()
        for first, last in runs(sorted(seq for seq, _ in members)):
            spans.add(connection, (book, EVICTED), first, last, reason)
            tables.say(connection, life, "evicted", (device, epoch), (first, last), reason)
        books.add_hashes(connection, book, members, sign=-1)
        books.unsettle(connection, book)
    tables.remove(connection, [row[0] for row in rows])
    tables.tally(connection, f"evicted:{reason}", len(rows))
