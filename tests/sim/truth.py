"""The judge of a simulated run: what was taken, by the disks' own triggers, against what is where.

It reads tables and never asks the product whether all is well, except for the ledger's word, which
has to be the same as its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from plantroom.cloud import book_tables
from plantroom.gateway import books
from plantroom.gateway.queue_schema import CONFIRMED, EVICTED
from plantroom.lab import audit
from plantroom.lab.ledger import _cloud_page, _gateway_page, _missing
from plantroom.wire.quarantined import Quarantined
from tests.sim.disk import Disk
from tests.sim.places import BrokenError, Key, Known, Places, hash_of, keys_of
from tests.sim.process import CLONE, spiffe_id


@dataclass(slots=True)
class Truth(Places):
    """What only the judge knows."""

    twins: set[Known] = field(default_factory=set)  # other readings under taken keys
    sent_by_twins: set[Known] = field(default_factory=set)  # the same, acknowledged or not
    tainted: set[Known] = field(default_factory=set)  # a medium that held them was rolled back
    garbled: bool = False
    strict: bool = False
    forgotten: dict[Known, int] = field(default_factory=dict)  # taken, by a disk rolled back since
    rolled_back: set[str] = field(default_factory=set)  # sensors
    timeless: set[tuple[str, int]] = field(default_factory=set)  # epochs without a known clock
    not_queued: set[Key] = field(default_factory=set)  # refused room under the policy `newest`
    let_go: set[Known] = field(default_factory=set)  # by the store, since they were old enough
    replayed: set[Key] = field(default_factory=set)  # out of quarantine

    # -- what there was

    def taken(self) -> dict[Known, int]:
        """Return what the sensors took, in the order taken."""
        found = dict(self.forgotten)
        for name, disk in self.sensors.items():
            for epoch, seq, pack in disk.rows("SELECT epoch, seq, pack FROM taken ORDER BY rowid"):
                known = (spiffe_id(name), epoch, seq, hash_of(pack))
                found.setdefault(known, len(found))
        return found

    def dropped(self) -> set[Key]:
        """Return what really went before it was acknowledged or confirmed."""
        found = self.not_queued | set(self.at_gateways("SELECT device, epoch, seq FROM dropped"))
        for name, disk in self.sensors.items():
            rows = disk.rows("SELECT epoch, seq FROM dropped")
            found |= {(spiffe_id(name), epoch, seq) for epoch, seq in rows}
        return found

    def held_on(self, disk: Disk) -> tuple[set[Known], set[Key]]:
        """Return what one medium holds, and the keys of which it has something on record."""
        mine = disk.name
        if disk in self.gateways:
            return replace(self, sensors={}, gateways=[disk]).held_by_gateways()
        if disk is self.cloud:
            books = self.books()
            noted = {
                key
                for book in books
                for ranges in (book.evicted, book.quarantined, book.gone, book.retired)
                for key in keys_of(book, ranges)
            }
            return {(*k, h) for k, h in self.stored().items()} | self.refused(), noted
        noted = {
            (spiffe_id(mine), epoch, seq)
            for epoch, first, last in disk.rows("SELECT epoch, first, last FROM note")
            for seq in range(first, last + 1)
        }
        return {known for known in self.at_sensors() if known[0] == spiffe_id(mine)}, noted

    def roll_back(self, disk: Disk, image: bytes) -> None:
        """Put an old copy of a medium in its place; remember what only it knew."""
        held, noted = self.held_on(disk)
        corrected, retired = self.corrected(), self._retired_keys()
        self.forgotten = self.taken()
        self.not_queued |= self.dropped()
        disk.restore(image)
        still_held, still_noted = self.held_on(disk)
        gone, hushed = held - still_held, noted - still_noted
        hushed |= retired - self._retired_keys() - self.stored().keys()  # noted, as something else
        self.tainted |= gone | {k for k in (*self.forgotten, *self.let_go) if k[:3] in hushed}
        self.timeless |= corrected - self.corrected()
        if disk.kind == "sensor":
            self.rolled_back.add(disk.name)

    def see_not_queued(self, disk: Disk) -> None:
        """Remember what a commit has booked as evicted without ever having made a row of it."""
        new = replace(self, gateways=[disk]).spans(EVICTED) - self.not_queued
        if new:
            held = disk.rows(
                "SELECT device, epoch, seq FROM reading JOIN book ON book.id = reading.book"
            )
            self.not_queued |= new - set(held)

    def see_replayed(self, item: Quarantined) -> None:
        """Remember what has gone from quarantine back into a queue."""
        if item.epoch is not None and item.first is not None and item.last is not None:
            seqs = range(item.first, item.last + 1)
            self.replayed |= {(item.device, item.epoch, seq) for seq in seqs}

    # -- what has to hold at every moment

    def check_now(self) -> None:
        """Every reading is somewhere, or its end is on record."""
        stored, refused = self.stored(), self.refused()
        held = {*self.at_sensors(), *self.at_gateway(), *refused}
        held |= {(*key, digest) for key, digest in stored.items()}
        held |= self._retired(stored)
        missing = (self.taken().keys() | self.twins) - held - self.tainted
        if missing:
            noted = self.noted()
            noted |= self._disputed()
            lost = sorted(known[:3] for known in missing if known[:3] not in noted)
            if lost:
                raise BrokenError(f"lost: {lost[:5]}")
        if len(self.gateways) == 1:  # a clone may hold what the other has never heard of
            self._check_gone(held)
        self._check_confirmed(stored, refused)

    def _check_confirmed(self, stored: dict[Key, bytes], refused: set[Known]) -> None:
        doubtful = [
            known
            for known in self._confirmed()
            if stored.get(known[:3]) != known[3]
            and known not in refused
            and known not in self.tainted
        ]
        ended = self._retired_keys() | self._disputed() if doubtful else set()
        lost = [known[:3] for known in doubtful if known[:3] not in ended]
        if lost:
            raise BrokenError(f"confirmed, but the store does not have it: {lost[:5]}")

    def _confirmed(self) -> Iterator[tuple[Any, ...]]:
        return self.at_gateways(
            "SELECT device, epoch, seq, hash FROM reading JOIN book ON book.id = reading.book"
            f" WHERE state = {CONFIRMED}"
        )

    def _retired_keys(self) -> set[Key]:
        return {key for book in self.books() for key in keys_of(book, book.retired)}

    def _retired(self, stored: dict[Key, bytes]) -> set[Known]:
        """Return what was stored until it was old enough; none of it may be stored again."""
        if not self.let_go:
            return set()
        keys = self._retired_keys()
        again = keys & stored.keys()
        if again:
            raise BrokenError(
                f"duplicated: beyond retention, and stored again: {sorted(again)[:5]}"
            )
        return {known for known in self.let_go if known[:3] in keys}

    def see_retiring(self, stored_before: dict[Key, bytes]) -> None:
        """Remember what retention has just let go."""
        gone = stored_before.items() - self.stored().items()
        self.let_go |= {(*key, digest) for key, digest in gone}

    def _disputed(self) -> set[Key]:
        """Return the keys of two readings of which one is gone: books know keys, not contents.

        The epoch is disputed then, for good, and `ledger verify` says so.
        """
        ended = self.dropped() | {known[:3] for known in self.let_go}
        return {known[:3] for known in self.sent_by_twins} & ended

    def see_given_up(self, keys: set[Key]) -> None:
        """Hold what was just booked as gone against what is held.

        A gateway that has a clone cannot know what that one holds: it is stored in the end.
        """
        if len(self.gateways) > 1:
            return
        held = {*self.at_sensors(), *self.at_gateway()} - self.tainted - self.sent_by_twins
        cloned = self._cloned()
        wrong = keys & {known[:3] for known in held if known[0] not in cloned}
        if wrong:
            raise BrokenError(f"booked gone while still held: {sorted(wrong)[:5]}")

    def _cloned(self) -> set[str]:
        """Return the devices that are there twice: neither knows what the other one holds."""
        return {spiffe_id(name) for name in self.sensors if name.endswith(CLONE)}

    def _check_gone(self, held: set[Known]) -> None:
        cloned = self._cloned()
        keys = {known[:3] for known in held if known[0] not in cloned}
        keys -= {known[:3] for known in self.tainted}
        for book in self.books():
            wrong = keys_of(book, book.gone) & keys
            if wrong:
                raise BrokenError(f"booked gone while still held: {sorted(wrong)[:5]}")

    # -- what has to hold once everything has come to rest

    def judge(self) -> None:
        """Hold the end of a run against what was taken."""
        self.check_now()
        self._rests()
        stored = self.stored()
        refused = self.refused() | self._set_aside() | self._retired(stored)
        told = {key for book in self.books() for key in keys_of(book, book.evicted)}
        dropped, taken = self.dropped(), self.taken()
        quarantined = {key for book in self.books() for key in keys_of(book, book.quarantined)}
        missing: set[Key] = set()
        for known in (*taken, *sorted(self.twins)):
            key, digest = known[:3], known[3]
            if stored.get(key) == digest or known in refused:
                continue
            if key in told and key in dropped:
                continue
            if key in quarantined | self.undecodable() and self.garbled:
                continue
            if key in self._disputed():
                continue
            if known not in self.tainted:
                raise BrokenError(f"{self._fate(key, stored, told)}: {key}")
            missing.add(key)
        if self.strict:
            self._refilled(stored, refused)
            self._named(missing)
        self._replayed_is_kept(stored, (told | self.spans(EVICTED)) & dropped)
        self._nothing_made_up(stored, taken, told, dropped)
        self._in_order(taken)
        self._ledger_agrees()

    def _replayed_is_kept(self, stored: dict[Key, bytes], evicted: set[Key]) -> None:
        """What was replayed is stored, or its bytes are in quarantine again."""
        here = "SELECT device, epoch, first FROM quarantine WHERE outcome = '' AND raw NOT NULL"
        given_up = "SELECT device, epoch, first FROM quarantine WHERE outcome LIKE 'dropped%'"
        kept = evicted | stored.keys() | self._retired_keys() | self._disputed()
        kept |= {known[:3] for known in self.tainted}
        gone = self.replayed - kept - {*self.at_gateways(here), *self.at_gateways(given_up)}
        if gone:
            raise BrokenError(f"replayed, and its bytes are nowhere: {sorted(gone)[:5]}")

    def _fate(self, key: Key, stored: dict[Key, bytes], told: set[Key]) -> str:
        if key in stored:
            return "altered, or dropped as a duplicate that it is not"
        return "said to be evicted, but never was" if key in told else "lost"

    def _set_aside(self) -> set[Known]:
        return set(self.at_gateways("SELECT device, epoch, first, hash FROM quarantine"))

    def _refilled(self, stored: dict[Key, bytes], refused: set[Known]) -> None:
        """What a gateway still has is stored again, whatever became of the store."""
        for known in self._confirmed():
            if stored.get(known[:3]) != known[3] and known not in refused | self.sent_by_twins:
                raise BrokenError(f"held by a gateway, and not refilled: {known[:3]}")

    def _named(self, missing: set[Key]) -> None:
        """What went with a medium is named by the ledger, as far as anybody had heard of it."""
        heard = {(book.spiffe_id, book.epoch): book.highest for book in self.books()}
        named = {
            (device, epoch, seq)
            for device, epoch, fault in self._faults()
            for seq in range(fault.first, fault.last + 1)
        }
        books = self.books()
        for ranges in ("stored", "evicted", "quarantined"):  # another state of the same key
            named |= {key for book in books for key in keys_of(book, getattr(book, ranges))}
        silent = [key for key in missing - named if key[2] <= heard.get(key[:2], -1)]
        if silent:
            raise BrokenError(f"gone, and nobody names it: {sorted(silent)[:5]}")

    def _rests(self) -> None:
        for name, disk in self.sensors.items():
            if disk.rows("SELECT 1 FROM reading WHERE state <> 2") or disk.rows(
                "SELECT 1 FROM note"
            ):
                raise BrokenError(f"stuck: {name} still has something to send")
        if any(self.at_gateways(f"SELECT 1 FROM reading WHERE state < {CONFIRMED}")):
            raise BrokenError("stuck: readings wait at the gateway")
        if any(self.at_gateways("SELECT 1 FROM note WHERE told = 0")):
            raise BrokenError("stuck: notes were never receipted")
        timeless = self.cloud.rows(
            "SELECT DISTINCT d.spiffe_id, r.epoch FROM r JOIN series s ON s.id = r.series"
            " JOIN device d ON d.id = s.device WHERE r.bucket = -1"
        )
        if set(timeless) - self.timeless and not self.rolled_back:
            raise BrokenError("a clock correction was lost: stored readings have no time")
        for book in self.books():
            keys = keys_of(book, book.holes) - {known[:3] for known in self.tainted}
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
            if reused or any(self.at_gateways("SELECT 1 FROM book WHERE disputed")):
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
        faults = [fault for *_, fault in self._faults()]
        if faults:
            raise BrokenError(f"the ledger does not close: {faults[:3]}")
        for book in self.books():
            if book_tables.altered_segments(self.cloud.eyes, book):
                raise BrokenError("the ledger finds stored rows altered")

    def _faults(self) -> Iterator[tuple[str, int, audit.Fault]]:
        """Give what `ledger verify` says of books and of what should wait, at each gateway."""
        for disk in self.gateways:
            below = [_gateway_page(entry) for entry in books.summary(disk.eyes)]
            accounts = audit.compare(below, [_cloud_page(book) for book in self.books()])
            for account in accounts:
                for fault in account.faults:
                    yield account.device, account.epoch, fault
            yield from _missing(disk.eyes, accounts)
