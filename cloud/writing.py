"""What a commit does to the SQLite store: readings once each, notes once each, and their books.

Runs on the store's writer thread inside its transaction. A reading whose key is stored with the
same hash is a duplicate; with another hash it is quarantined, never dropped as one.
"""

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from plantroom.cloud import book_tables, branches, readback
from plantroom.cloud.note_tables import NoteTables
from plantroom.cloud.placing import Placing, Series
from plantroom.cloud.quarantine import Quarantine
from plantroom.cloud.readback import BookRef
from plantroom.cloud.store import Belongs, Committed, Delivery
from plantroom.cloud.store_schema import RETIRED, STORED
from plantroom.wire import spans
from plantroom.wire.envelope import Batch, Receipt, Span
from plantroom.wire.ranges import RangeSet, runs
from plantroom.wire.reading import Reading

LOG = logging.getLogger("plantroom.cloud.writing")
FOREIGN, REUSE = "foreign-device", "epoch-reuse"


@dataclass(slots=True)
class _Tally:
    """What one delivery comes to."""

    stored: dict[tuple[str, int], RangeSet] = field(default_factory=dict)
    quarantined: list[Span] = field(default_factory=list)
    notes: list[tuple[str, int, int]] = field(default_factory=list)

    def store(self, readings: Sequence[Reading]) -> None:
        """Count readings of one book, in order of seq, as held: now or already."""
        if readings:
            key = (readings[0].device, readings[0].epoch)
            ranges = self.stored.setdefault(key, RangeSet())
            for first, last in runs(reading.seq for reading in readings):
                ranges.add(first, last)

    def receipt(self, batch: Batch, store_id: str, commit: int, branch: str = "") -> Receipt:
        """Make the answer to its batch."""
        return Receipt(
            incarnation=batch.incarnation,
            number=batch.number,
            store_id=store_id,
            commit=commit,
            stored=tuple(
                Span(device=device, epoch=epoch, first=first, last=last)
                for (device, epoch), ranges in self.stored.items()
                for first, last in ranges
            ),
            quarantined=tuple(self.quarantined),
            notes=tuple(self.notes),  # type: ignore[arg-type] # (author, life, number)
            branch=branch,
        )


class Writer:
    """Applies deliveries; what it remembers between commits is ids only."""

    def __init__(self, belongs: Belongs, *, raw_bytes_max: int) -> None:
        self._belongs = belongs
        self._series = Series()
        self._quarantine = Quarantine(raw_bytes_max)
        self._notes = NoteTables(self._series)
        self._branch = ""

    def forget(self) -> None:
        """Forget ids: the transaction that may have made them was rolled back."""
        self._series.forget()
        self._quarantine.forget()

    def apply(self, connection: sqlite3.Connection, deliveries: Sequence[Delivery]) -> Committed:
        """Apply all deliveries; the caller commits."""
        store_id, commit = connection.execute(
            "UPDATE store SET commits = commits + 1 RETURNING store_id, commits"
        ).fetchone()
        self._branch = branches.keep(connection, self._branch, commit)
        act = _Act(connection)
        receipts = [
            self._deliver(act, delivery).receipt(delivery.batch, store_id, commit, self._branch)
            for delivery in deliveries
        ]
        return Committed(
            receipts=tuple(receipts),
            stored=tuple(act.stored),
            duplicates=act.duplicates,
            quarantined=act.quarantined,
            late=act.late,
            after_retention=act.after_retention,
        )

    def _deliver(self, act: "_Act", delivery: Delivery) -> _Tally:
        tally = _Tally()
        for note in delivery.batch.notes:
            ours = self._belongs(note.device, delivery.site)
            self._notes.take(act.connection, delivery, note, ours=ours)
            tally.notes.append((note.author, note.life, note.number))
        groups: dict[tuple[str, int], list[Reading]] = {}
        for reading in delivery.batch.readings:
            groups.setdefault((reading.device, reading.epoch), []).append(reading)
        for (device, epoch), readings in groups.items():
            if self._belongs(device, delivery.site):
                ref = self._series.book(act.connection, device, epoch)
                self._store(act, tally, delivery, ref, readings)
            else:
                LOG.warning("foreign device=%s from site=%s", device, delivery.site)
                self._set_apart(act, tally, delivery, readings, FOREIGN)
        for device, heads in delivery.batch.heads.items():
            if self._belongs(device, delivery.site):
                for epoch, head in heads.items():
                    ref = self._series.book(act.connection, device, epoch)
                    book_tables.raise_highest(act.connection, ref.id, head)
        return tally

    def _store(
        self, act: "_Act", tally: _Tally, delivery: Delivery, ref: BookRef, readings: list[Reading]
    ) -> None:
        new, again = _sorted_out(act.connection, ref, readings)
        tally.store(new)
        if new:
            placing = Placing(act.connection, ref, self._series, delivery.received_us)
            act.late += placing.place(new)
            act.stored += new
        same = [reading for reading, is_same in again if is_same]
        act.duplicates += len(same)
        if same:
            span = min(one.seq for one in same), max(one.seq for one in same)
            retired = spans.within(act.connection, (ref.id, RETIRED), *span)
            act.after_retention += sum(one.seq in retired for one in same)
        tally.store(same)
        reused = [reading for reading, is_same in again if not is_same]
        if reused:
            LOG.error("epoch reused device=%s epoch=%d", ref.spiffe_id, ref.epoch)
            act.connection.execute("UPDATE book SET disputed = 1 WHERE id = ?", (ref.id,))
            self._set_apart(act, tally, delivery, reused, REUSE)

    def _set_apart(
        self,
        act: "_Act",
        tally: _Tally,
        delivery: Delivery,
        readings: Iterable[Reading],
        reason: str,
    ) -> None:
        for reading in readings:
            if self._quarantine.add(act.connection, delivery, reading, reason):
                act.quarantined[reason] = act.quarantined.get(reason, 0) + 1
            tally.quarantined.append(
                Span(
                    device=reading.device,
                    epoch=reading.epoch,
                    first=reading.seq,
                    last=reading.seq,
                    reason=reason,
                )
            )


@dataclass(slots=True)
class _Act:
    """One commit under way."""

    connection: sqlite3.Connection
    stored: list[Reading] = field(default_factory=list)
    duplicates: int = 0
    late: int = 0
    after_retention: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)


def _sorted_out(
    connection: sqlite3.Connection, ref: BookRef, readings: Iterable[Reading]
) -> tuple[list[Reading], list[tuple[Reading, bool]]]:
    """Tell new readings, in order of seq, from those whose key is held (and whether they agree).

    A held key whose rows are gone from the store by retention cannot be compared: it agrees.
    """
    ordered = sorted(readings, key=lambda reading: reading.seq)
    low, high = ordered[0].seq, ordered[-1].seq
    held = spans.within(connection, (ref.id, STORED), low, high)
    if not held and all(one.seq < other.seq for one, other in pairwise(ordered)):
        return ordered, []
    new: dict[int, Reading] = {}
    again: list[Reading] = []
    for reading in ordered:
        if reading.seq in held or reading.seq in new:
            again.append(reading)
        else:
            new[reading.seq] = reading
    known = {seq: reading.hash() for seq, reading in new.items()} if again else {}
    for reading in _held_before(connection, ref, [r.seq for r in again if r.seq in held]):
        known[reading.seq] = reading.hash()
    judged = [
        (reading, known.get(reading.seq, reading.hash()) == reading.hash()) for reading in again
    ]
    return list(new.values()), judged


def _held_before(
    connection: sqlite3.Connection, ref: BookRef, seqs: list[int]
) -> Iterable[Reading]:
    for first, last in RangeSet((seq, seq) for seq in seqs):
        yield from readback.readings_of(connection, ref, first, last)
