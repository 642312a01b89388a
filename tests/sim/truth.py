"""The judge of a simulated run: what was taken, by the disks' own triggers, against what is where.

It reads tables and never asks the product whether all is well, except for the ledger's word, which
has to be the same as its own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from plantroom.broker import segments
from plantroom.cloud import book_tables, readback
from plantroom.cloud.store import StoredBook
from plantroom.gateway import books, ingress
from plantroom.gateway.queue_schema import CONFIRMED, EVICTED, QUARANTINED, TAP
from plantroom.lab import audit
from plantroom.lab.ledger import _cloud_page, _gateway_page
from plantroom.wire import senml
from tests.sim.disk import Disk
from tests.sim.process import DOMAIN, spiffe_id

Key = tuple[str, int, int]  # device, epoch, seq
Known = tuple[str, int, int, bytes]  # with the hash


class BrokenError(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Truth:
    """What only the judge knows."""

    sensors: dict[str, Disk]
    gateway: Disk
    cloud: Disk
    twins: set[Known] = field(default_factory=set)  # other readings under taken keys
    sent_by_twins: set[Known] = field(default_factory=set)  # the same, acknowledged or not
    tainted: set[Known] = field(default_factory=set)  # a medium that held them was rolled back
    garbled: bool = False
    forgotten: dict[Known, int] = field(default_factory=dict)  # taken, by a disk rolled back since
    rolled_back: set[str] = field(default_factory=set)  # sensors
    timeless: set[tuple[str, int]] = field(default_factory=set)  # epochs without a known clock
    not_queued: set[Key] = field(default_factory=set)  # refused room under the policy `newest`

    # -- what there is

    def taken(self) -> dict[Known, int]:
        """Return what the sensors took, in the order taken."""
        found = dict(self.forgotten)
        for name, disk in self.sensors.items():
            for epoch, seq, pack in disk.rows("SELECT epoch, seq, pack FROM taken ORDER BY rowid"):
                known = (spiffe_id(name), epoch, seq, _hash_of(pack))
                found.setdefault(known, len(found))
        return found

    def at_sensors(self) -> Iterator[Known]:
        """Give what the rings hold, of any state."""
        for name, disk in self.sensors.items():
            for epoch, seq, pack in disk.rows("SELECT epoch, seq, pack FROM reading"):
                yield spiffe_id(name), epoch, seq, _hash_of(pack)

    def at_gateway(self) -> Iterator[Known]:
        """Give what the gateway holds: rows, quarantine, and segments not derived yet."""
        yield from self.gateway.rows(
            "SELECT device, epoch, seq, hash FROM reading JOIN book ON book.id = reading.book"
        )
        yield from self.gateway.rows("SELECT device, epoch, first, hash FROM quarantine")
        for intake in self._underived():
            for row in intake.rows:
                yield intake.device, row.epoch, row.seq, row.hash

    def _underived(self) -> Iterator[ingress.Intake]:
        for (data,) in self.gateway.rows(
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

    def dropped(self) -> set[Key]:
        """Return what really went before it was acknowledged or confirmed."""
        found = self.not_queued | set(self.gateway.rows("SELECT device, epoch, seq FROM dropped"))
        for name, disk in self.sensors.items():
            rows = disk.rows("SELECT epoch, seq FROM dropped")
            found |= {(spiffe_id(name), epoch, seq) for epoch, seq in rows}
        return found

    def books(self) -> list[StoredBook]:
        """Return the store's books."""
        return book_tables.stored_books(self.cloud.eyes, None)

    def spans(self, kind: int) -> set[Key]:
        """Return the keys that the gateway's books have under a kind."""
        return {
            (device, epoch, seq)
            for device, epoch, first, last in self.gateway.rows(
                "SELECT device, epoch, first, last FROM span JOIN book ON book.id = span.book"
                " WHERE kind = ?",
                kind,
            )
            for seq in range(first, last + 1)
        }

    def _undecodable(self) -> set[Key]:
        """Return the keys of the packs that the gateway has set aside whole."""
        return {
            (device, epoch, seq)
            for device, epoch, first, last in self.gateway.rows(
                "SELECT device, epoch, first, last FROM quarantine WHERE epoch IS NOT NULL"
            )
            for seq in range(first, last + 1)
        }

    def noted(self) -> set[Key]:
        """Return the keys of which some durable place says that they were evicted or set aside."""
        found = self.spans(EVICTED) | self.spans(QUARANTINED) | self._undecodable()
        for name, disk in self.sensors.items():
            for epoch, first, last in disk.rows("SELECT epoch, first, last FROM note"):
                found |= {(spiffe_id(name), epoch, seq) for seq in range(first, last + 1)}
        for intake in self._underived():
            for note in intake.notes:
                found |= {(note.device, note.epoch, s) for s in range(note.first, note.last + 1)}
            if intake.bad and intake.claim:
                epoch, first, last = intake.claim
                found |= {(intake.device, epoch, seq) for seq in range(first, last + 1)}
        for book in self.books():
            for ranges in (book.evicted, book.quarantined):
                found |= _keys(book, ranges)
        return found

    def held_on(self, disk: Disk) -> tuple[set[Known], set[Key]]:
        """Return what one medium holds, and the keys of which it has something on record."""
        mine = disk.name
        if disk is self.cloud:
            books = self.books()
            noted = {
                key
                for book in books
                for ranges in (book.evicted, book.quarantined, book.gone)
                for key in _keys(book, ranges)
            }
            return {(*k, h) for k, h in self.stored().items()} | self.refused(), noted
        if disk is self.gateway:
            noted = self.spans(EVICTED) | self.spans(QUARANTINED) | self._undecodable()
            for intake in self._underived():
                for note in intake.notes:
                    span = range(note.first, note.last + 1)
                    noted |= {(note.device, note.epoch, seq) for seq in span}
            return set(self.at_gateway()), noted
        noted = {
            (spiffe_id(mine), epoch, seq)
            for epoch, first, last in disk.rows("SELECT epoch, first, last FROM note")
            for seq in range(first, last + 1)
        }
        return {known for known in self.at_sensors() if known[0] == spiffe_id(mine)}, noted

    def roll_back(self, disk: Disk, image: bytes) -> None:
        """Put an old copy of a medium in its place; remember what only it knew."""
        held, noted = self.held_on(disk)
        corrected = self._corrected()
        self.forgotten = self.taken()
        self.not_queued |= self.dropped()
        disk.restore(image)
        still_held, still_noted = self.held_on(disk)
        gone, hushed = held - still_held, noted - still_noted
        self.tainted |= gone | {k for k in self.forgotten if k[:3] in hushed}
        self.timeless |= corrected - self._corrected()
        if disk.kind == "sensor":
            self.rolled_back.add(disk.name)

    def _corrected(self) -> set[tuple[str, int]]:
        """Return the epochs of which the gateway has a clock correction."""
        notes = [ingress.note_from(body) for (body,) in self.gateway.rows("SELECT body FROM note")]
        notes += [note for intake in self._underived() for note in intake.notes]
        return {(note.device, note.epoch) for note in notes if note.kind == "correction"}

    def see_not_queued(self) -> None:
        """Remember what a commit has booked as evicted without ever having made a row of it."""
        new = self.spans(EVICTED) - self.not_queued
        if new:
            held = self.gateway.rows(
                "SELECT device, epoch, seq FROM reading JOIN book ON book.id = reading.book"
            )
            self.not_queued |= new - set(held)

    # -- what has to hold at every moment

    def check_now(self) -> None:
        """Every reading is somewhere, or its end is on record."""
        held = {*self.at_sensors(), *self.at_gateway(), *self.refused()}
        held |= {(*key, digest) for key, digest in self.stored().items()}
        missing = (self.taken().keys() | self.twins) - held - self.tainted
        if missing:
            noted = self.noted()
            noted |= self._disputed()
            lost = sorted(known[:3] for known in missing if known[:3] not in noted)
            if lost:
                raise BrokenError(f"lost: {lost[:5]}")
        self._check_gone(held)
        self._check_confirmed()

    def _check_confirmed(self) -> None:
        confirmed = self.gateway.rows(
            "SELECT device, epoch, seq, hash FROM reading JOIN book ON book.id = reading.book"
            f" WHERE state = {CONFIRMED}"
        )
        stored, refused = self.stored(), self.refused()
        for known in confirmed:
            if stored.get(known[:3]) == known[3] or known in refused or known in self.tainted:
                continue
            raise BrokenError(f"confirmed, but the store does not have it: {known[:3]}")

    def _disputed(self) -> set[Key]:
        """Return the keys of two readings of which one was evicted: books know keys, not contents.

        The epoch is disputed then, for good, and `ledger verify` says so.
        """
        return {known[:3] for known in self.sent_by_twins} & self.dropped()

    def see_given_up(self, keys: set[Key]) -> None:
        """Hold what was just booked as gone against what is held."""
        held = {*self.at_sensors(), *self.at_gateway()} - self.tainted - self.sent_by_twins
        wrong = keys & {known[:3] for known in held}
        if wrong:
            raise BrokenError(f"booked gone while still held: {sorted(wrong)[:5]}")

    def _check_gone(self, held: set[Known]) -> None:
        keys = {known[:3] for known in held} - {known[:3] for known in self.tainted}
        for book in self.books():
            wrong = _keys(book, book.gone) & keys
            if wrong:
                raise BrokenError(f"booked gone while still held: {sorted(wrong)[:5]}")

    # -- what has to hold once everything has come to rest

    def judge(self) -> None:
        """Hold the end of a run against what was taken."""
        self.check_now()
        self._rests()
        stored, refused = self.stored(), self.refused() | self._set_aside()
        told = {key for book in self.books() for key in _keys(book, book.evicted)}
        dropped, taken = self.dropped(), self.taken()
        quarantined = {key for book in self.books() for key in _keys(book, book.quarantined)}
        for known in (*taken, *sorted(self.twins)):
            key, digest = known[:3], known[3]
            if stored.get(key) == digest or known in refused:
                continue
            if key in told and key in dropped:
                continue
            if key in quarantined | self._undecodable() and self.garbled:
                continue
            if key in self._disputed():
                continue
            if known not in self.tainted:
                raise BrokenError(f"{self._fate(key, stored, told)}: {key}")
        self._nothing_made_up(stored, taken, told, dropped)
        self._in_order(taken)
        self._ledger_agrees()

    def _fate(self, key: Key, stored: dict[Key, bytes], told: set[Key]) -> str:
        if key in stored:
            return "altered, or dropped as a duplicate that it is not"
        return "said to be evicted, but never was" if key in told else "lost"

    def _set_aside(self) -> set[Known]:
        return set(self.gateway.rows("SELECT device, epoch, first, hash FROM quarantine"))

    def _rests(self) -> None:
        for name, disk in self.sensors.items():
            if disk.rows("SELECT 1 FROM reading WHERE state <> 2") or disk.rows(
                "SELECT 1 FROM note"
            ):
                raise BrokenError(f"stuck: {name} still has something to send")
        if self.gateway.rows(f"SELECT 1 FROM reading WHERE state < {CONFIRMED}"):
            raise BrokenError("stuck: readings wait at the gateway")
        if self.gateway.rows("SELECT 1 FROM note WHERE told = 0"):
            raise BrokenError("stuck: notes were never receipted")
        timeless = self.cloud.rows(
            "SELECT DISTINCT d.spiffe_id, r.epoch FROM r JOIN series s ON s.id = r.series"
            " JOIN device d ON d.id = s.device WHERE r.bucket = -1"
        )
        if set(timeless) - self.timeless and not self.rolled_back:
            raise BrokenError("a clock correction was lost: stored readings have no time")
        for book in self.books():
            keys = _keys(book, book.holes) - {known[:3] for known in self.tainted}
            if keys:
                raise BrokenError(f"never terminal: a hole is asked for for ever: {sorted(keys)}")

    def _nothing_made_up(
        self, stored: dict[Key, bytes], taken: dict[Known, int], told: set[Key], dropped: set[Key]
    ) -> None:
        real = taken.keys() | self.sent_by_twins
        made_up = [key for key, digest in stored.items() if (*key, digest) not in real]
        if made_up:
            raise BrokenError(f"altered: stored but never taken: {made_up[:3]}")
        false = sorted((told | self.spans(EVICTED)) - dropped)
        if false:
            raise BrokenError(f"said to be evicted, but never was: {false[:5]}")
        if not self.sent_by_twins:
            reused = self.cloud.rows("SELECT 1 FROM quarantine WHERE reason = 'epoch-reuse'")
            if reused or self.gateway.rows("SELECT 1 FROM book WHERE disputed"):
                raise BrokenError("an epoch was used twice, and there is no second sensor")

    def _in_order(self, taken: dict[Known, int]) -> None:
        """The export is ordered by device, epoch, seq: that has to be the order taken."""
        for name in self.sensors.keys() - self.rolled_back:
            device = spiffe_id(name)
            order = [known[:3] for known in taken if known[0] == device]
            if order != sorted(order):
                raise BrokenError(f"misordered: the export of {name} is not in the order taken")

    def _ledger_agrees(self) -> None:
        if self.tainted or self.sent_by_twins:
            return
        below = [_gateway_page(entry) for entry in books.summary(self.gateway.eyes)]
        accounts = audit.compare(below, [_cloud_page(book) for book in self.books()])
        faults = [fault for account in accounts for fault in account.faults]
        if faults:
            raise BrokenError(f"the ledger does not close: {faults[:3]}")
        for book in self.books():
            if book_tables.altered_segments(self.cloud.eyes, book):
                raise BrokenError("the ledger finds stored rows altered")


@lru_cache(maxsize=10_000)
def _hash_of(pack: bytes) -> bytes:
    """Return the hash of the reading that a sensor's row holds."""
    return senml.decode(pack).readings[0].hash()


def _keys(book: StoredBook, ranges: Iterable[tuple[int, int]]) -> set[Key]:
    return {
        (book.spiffe_id, book.epoch, seq) for low, high in ranges for seq in range(low, high + 1)
    }
