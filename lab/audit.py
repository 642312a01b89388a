"""Compare the books of a gateway with those of the cloud: what is where, and what is nowhere.

Every reading up to the highest number that either side has heard of is queued at its sensor or at
the gateway, stored in the cloud, evicted with a reason, or quarantined with a reason; what is in
none of these states, was lost, or has another digest than when it was sent, keeps a book from
closing. A sensor sends its oldest readings first: what it has numbered and neither side has seen is
still with it only as long as it has sent nothing newer. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from plantroom.wire.ranges import RangeSet

SEGMENT_SEQS = 1000
Key = tuple[str, int]  # device, epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one hop knows of one (device, epoch).

    `held`: received here and neither evicted nor quarantined here. `settled`: of these, known to
    be stored further up (the gateway's receipts; at the cloud everything held). `excused`: evicted
    or quarantined, with a reason on record. `lost`: known to be nowhere any more, also where it was
    held once. `digests`: by segment of 1,000 numbers, of what is held. `reasons`: evicted(full) and
    how many, for people.
    """

    device: str
    epoch: int
    highest: int
    held: RangeSet = field(default_factory=RangeSet)
    settled: RangeSet = field(default_factory=RangeSet)
    excused: RangeSet = field(default_factory=RangeSet)
    lost: RangeSet = field(default_factory=RangeSet)
    digests: Mapping[int, str] = field(default_factory=dict)
    disputed: bool = False
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def holes(self) -> RangeSet:
        """What this hop has never had and has no excuse for."""
        return without(RangeSet([(0, self.highest)] if self.highest >= 0 else []), self.known)

    @property
    def known(self) -> RangeSet:
        """What this hop can account for."""
        return union(self.held, self.excused)


class Fault(NamedTuple):
    """Why a book does not close: a range of it, and what is wrong there."""

    first: int
    last: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Both hops' pages of one (device, epoch), and what is wrong between them.

    `queued` waits at the gateway, `at_sensor` has not been sent yet.
    """

    device: str
    epoch: int
    gateway: Page | None
    cloud: Page | None
    queued: RangeSet
    at_sensor: RangeSet
    faults: tuple[Fault, ...]

    @property
    def closes(self) -> bool:
        """Whether everything is accounted for."""
        return not self.faults

    @property
    def is_stored(self) -> bool:
        """Whether everything is in the cloud's store, nothing on its way, nothing excused."""
        highest = max(page.highest for page in (self.gateway, self.cloud) if page is not None)
        stored = self.cloud.held if self.cloud is not None else RangeSet()
        return self.closes and (highest < 0 or stored.covers(0, highest))


def compare(gateway: Iterable[Page], cloud: Iterable[Page]) -> tuple[Account, ...]:
    """Return one account for each (device, epoch) that either side knows, in order."""
    below = {(page.device, page.epoch): page for page in gateway}
    above = {(page.device, page.epoch): page for page in cloud}
    newest: dict[str, int] = {}
    for page in (*below.values(), *above.values()):
        if page.known:
            newest[page.device] = max(page.epoch, newest.get(page.device, page.epoch))
    return tuple(
        _account(key, below.get(key), above.get(key), is_newest=newest.get(key[0], 0) <= key[1])
        for key in sorted(below.keys() | above.keys())
    )


def _account(key: Key, gateway: Page | None, cloud: Page | None, *, is_newest: bool) -> Account:
    empty = Page(device=key[0], epoch=key[1], highest=-1)
    below, above = gateway or empty, cloud or empty
    queued = without(below.held, union(below.settled, above.known, below.lost))
    unseen = _unseen(below, above) if is_newest else RangeSet()
    return Account(
        device=key[0],
        epoch=key[1],
        gateway=gateway,
        cloud=cloud,
        queued=queued,
        at_sensor=unseen,
        faults=tuple(_faults(below, above, union(queued, unseen))),
    )


def _unseen(below: Page, above: Page) -> RangeSet:
    """Return the numbers above all that either side has seen."""
    seen = union(below.known, above.known, below.lost, above.lost).highest
    first, last = 0 if seen is None else seen + 1, max(below.highest, above.highest)
    return RangeSet([(first, last)] if first <= last else [])


def _faults(below: Page, above: Page, waiting: RangeSet) -> Iterator[Fault]:
    highest = max(below.highest, above.highest)
    known = union(above.known, waiting, below.excused, above.lost)
    everything = RangeSet([(0, highest)] if highest >= 0 else [])
    yield from _each(
        without(everything, known), "neither queued nor stored, and neither evicted nor quarantined"
    )
    lost = without(above.lost, union(above.known, waiting, below.excused))
    yield from _each(lost, "lost")
    if below.disputed or above.disputed:
        yield Fault(first=0, last=max(highest, 0), what="disputed: its epoch was used twice")
    yield from _altered(below, above)


def _altered(below: Page, above: Page) -> Iterator[Fault]:
    """Compare digests of the segments of which both sides hold the same numbers."""
    for segment in sorted(below.digests.keys() & above.digests.keys()):
        if below.digests[segment] == above.digests[segment]:
            continue
        first, last = segment * SEGMENT_SEQS, (segment + 1) * SEGMENT_SEQS - 1
        if _within(below.held, first, last) == _within(above.held, first, last):
            yield Fault(first=first, last=last, what="altered: gateway and cloud digests differ")


def _each(ranges: RangeSet, what: str) -> Iterator[Fault]:
    for first, last in ranges:
        yield Fault(first=first, last=last, what=what)


def with_faults(
    accounts: Iterable[Account], faults: Iterable[tuple[str, int, Fault]]
) -> tuple[Account, ...]:
    """Return the accounts with further faults; one for a (device, epoch) of no book has its own."""
    more: dict[Key, list[Fault]] = {}
    for device, epoch, fault in faults:
        more.setdefault((device, epoch), []).append(fault)
    found = {(account.device, account.epoch): account for account in accounts}
    for key in more.keys() - found.keys():
        found[key] = _account(key, None, None, is_newest=False)
    return tuple(
        replace(found[key], faults=(*found[key].faults, *more.get(key, ())))
        for key in sorted(found)
    )


def union(*parts: RangeSet) -> RangeSet:
    """Return what is in any of these."""
    union = RangeSet()
    for part in parts:
        for first, last in part:
            union.add(first, last)
    return union


def without(ranges: RangeSet, taken: RangeSet) -> RangeSet:
    """Return what is in the first and not in the second."""
    rest = ranges.copy()
    for first, last in taken:
        rest.discard(first, last)
    return rest


def _within(ranges: RangeSet, first: int, last: int) -> RangeSet:
    return RangeSet((max(a, first), min(b, last)) for a, b in ranges if a <= last and b >= first)
