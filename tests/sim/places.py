"""What lies where in a simulated run: read from the disks' tables, never asked of the product."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from plantroom.broker import segments
from plantroom.cloud import book_tables, readback
from plantroom.cloud.store import StoredBook
from plantroom.gateway import ingress
from plantroom.gateway.queue_schema import EVICTED, QUARANTINED, TAP
from plantroom.wire import senml
from plantroom.wire.envelope import note_from
from tests.sim.disk import Disk
from tests.sim.process import DOMAIN, spiffe_id

Key = tuple[str, int, int]  # device, epoch, seq
Known = tuple[str, int, int, bytes]  # with the hash


class BrokenError(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Places:
    """Every disk on which readings and what is said of them can lie."""

    sensors: dict[str, Disk]
    gateways: list[Disk]  # more than one where it has a clone
    cloud: Disk
    _looked: dict[str, tuple[Any, Any]] = field(default_factory=dict, init=False)

    def _once(self, what: str, disks: Iterable[Disk], look: Callable[[], Any]) -> Any:
        """Look at disks again only when something was written there."""
        states = [(disk.name, disk.state) for disk in disks]
        known = self._looked.get(what)
        if known is None or known[0] != states or any(state is None for _, state in states):
            known = self._looked[what] = (states, look())
        return known[1]

    def at_sensors(self) -> Iterator[Known]:
        """Give what the rings hold, of any state."""
        for name, disk in self.sensors.items():
            for epoch, seq, pack in disk.rows("SELECT epoch, seq, pack FROM reading"):
                yield spiffe_id(name), epoch, seq, hash_of(pack)

    def at_gateway(self) -> list[Known]:
        """Return what the gateway holds: rows, quarantine, and segments not derived yet."""
        found: list[Known] = self._once(
            "at gateway", self.gateways, lambda: list(self._at_gateway())
        )
        return found

    def _at_gateway(self) -> Iterator[Known]:
        yield from self.at_gateways(
            "SELECT device, epoch, seq, hash FROM reading JOIN book ON book.id = reading.book"
        )
        yield from self.at_gateways("SELECT device, epoch, first, hash FROM quarantine")
        for intake in self.underived():
            for row in intake.rows:
                yield intake.device, row.epoch, row.seq, row.hash

    def at_gateways(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        for disk in self.gateways:
            yield from disk.rows(query, *values)

    def underived(self) -> Iterator[ingress.Intake]:
        for (data,) in self.at_gateways(
            "SELECT data FROM segment WHERE tapped > 0 AND id >"
            " ifnull((SELECT segment FROM tap WHERE name = ?), 0)",
            TAP,
        ):
            for arrival in segments.arrivals(data):
                intake = ingress.read(arrival, DOMAIN)
                if intake is not None:
                    yield intake

    def stored(self) -> dict[Key, bytes]:
        """Return what the store has, by key, computed from its rows."""
        found: dict[Key, bytes] = self._once("stored", (self.cloud,), self._stored)
        return found

    def _stored(self) -> dict[Key, bytes]:
        found: dict[Key, bytes] = {}
        for ref in readback.book_refs(self.cloud.eyes, None):
            for reading in readback.readings_of(self.cloud.eyes, ref):
                key = (reading.device, reading.epoch, reading.seq)
                if key in found:
                    raise BrokenError(f"duplicated: {key}")
                found[key] = reading.hash()
        return found

    def refused(self) -> set[Known]:
        """Return what the store has set apart."""
        return set(self.cloud.rows("SELECT device, epoch, seq, hash FROM quarantine"))

    def books(self) -> list[StoredBook]:
        """Return the store's books."""
        found: list[StoredBook] = self._once(
            "books", (self.cloud,), lambda: book_tables.stored_books(self.cloud.eyes, None)
        )
        return found

    def spans(self, kind: int) -> set[Key]:
        """Return the keys that the gateway's books have under a kind."""
        return {
            (device, epoch, seq)
            for device, epoch, first, last in self.at_gateways(
                "SELECT device, epoch, first, last FROM span JOIN book ON book.id = span.book"
                " WHERE kind = ?",
                kind,
            )
            for seq in range(first, last + 1)
        }

    def undecodable(self) -> set[Key]:
        """Return the keys of the packs that the gateway has set aside whole."""
        return {
            (device, epoch, seq)
            for device, epoch, first, last in self.at_gateways(
                "SELECT device, epoch, first, last FROM quarantine WHERE epoch IS NOT NULL"
            )
            for seq in range(first, last + 1)
        }

    def noted(self) -> set[Key]:
        """Return the keys of which some durable place says that they were evicted or set aside."""
        found = self.noted_by_gateways()
        for name, disk in self.sensors.items():
            for epoch, first, last in disk.rows("SELECT epoch, first, last FROM note"):
                found |= {(spiffe_id(name), epoch, seq) for seq in range(first, last + 1)}
        for book in self.books():
            for ranges in (book.evicted, book.quarantined):
                found |= keys_of(book, ranges)
        return found

    def corrected(self) -> set[tuple[str, int]]:
        """Return the epochs of which the gateway has a clock correction."""
        notes = [note_from(body) for (body,) in self.at_gateways("SELECT body FROM note")]
        notes += [note for intake in self.underived() for note in intake.notes]
        return {(note.device, note.epoch) for note in notes if note.kind == "correction"}

    def held_by_gateways(self) -> tuple[set[Known], set[Key]]:
        return set(self.at_gateway()), self.noted_by_gateways()

    def noted_by_gateways(self) -> set[Key]:
        """Return the keys that gateways say were evicted or set aside, or will once they derive."""
        found = self.spans(EVICTED) | self.spans(QUARANTINED) | self.undecodable()
        for intake in self.underived():
            for note in intake.notes:
                found |= {(note.device, note.epoch, s) for s in range(note.first, note.last + 1)}
            if intake.bad and intake.claim:
                epoch, first, last = intake.claim
                found |= {(intake.device, epoch, seq) for seq in range(first, last + 1)}
        return found


@lru_cache(maxsize=10_000)
def hash_of(pack: bytes) -> bytes:
    """Return the hash of the reading that a sensor's row holds."""
    return senml.decode(pack).readings[0].hash()


def keys_of(book: StoredBook, ranges: Iterable[tuple[int, int]]) -> set[Key]:
    return {
        (book.spiffe_id, book.epoch, seq) for low, high in ranges for seq in range(low, high + 1)
    }
