"""The store seam: where readings end up, with the books that prove it.

What is committed together is durable together: readings, their ranges and digests, notes, and the
commit counter. An implementation is held to `tests/cloud/test_store.py`.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from plantroom.views.history import HistoryQuery, Series
from plantroom.wire.envelope import Batch, Receipt
from plantroom.wire.ranges import RangeSet
from plantroom.wire.reading import Reading, Value

SEGMENT_SEQS = 1000

Belongs = Callable[[str, str], bool]  # is this device (SPIFFE ID) of that site?


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A batch as it arrived: from the gateway of which site, and when."""

    site: str
    gateway: str
    batch: Batch
    received_us: int


class Altered(NamedTuple):
    """A range of a book in which something is not as it was received, and what."""

    first: int
    last: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What a commit did: a receipt for each delivery, in order, and what was new."""

    receipts: tuple[Receipt, ...]
    stored: tuple[Reading, ...] = ()
    duplicates: int = 0
    after_retention: int = 0  # of the duplicates, those that can no longer be compared
    quarantined: Mapping[str, int] = field(default_factory=dict)  # by reason
    late: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One value of one stored reading, as it is exported."""

    time_us: int | None
    site: str
    device: str
    point: str
    value: Value
    unit: str | None
    epoch: int
    seq: int
    received_us: int
    late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBook:
    """What the store knows of one (device, epoch); `highest` is -1 when nothing is known."""

    spiffe_id: str
    site: str
    device: str
    epoch: int
    highest: int
    stored: RangeSet
    quarantined: RangeSet
    evicted: RangeSet
    gone: RangeSet
    digests: Mapping[int, bytes]
    disputed: bool
    retired: RangeSet = field(default_factory=RangeSet)  # stored, and gone by retention
    reasons: Mapping[str, int] = field(default_factory=dict)  # evicted(full): how many

    @property
    def holes(self) -> RangeSet:
        """What is in no state: neither stored nor quarantined, evicted or gone."""
        missing = self.stored.holes(self.highest)
        for ranges in (self.quarantined, self.evicted, self.gone):
            for first, last in ranges:
                missing.discard(first, last)
        return missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The newest value of one point, for the board at start."""

    site: str
    device: str
    point: str
    unit: str | None
    value: Value
    time_us: int | None
    epoch: int
    seq: int


class StoreReader(Protocol):
    """A store that is only looked at; its calls block."""

    def export(
        self, *, device: str | None = None, from_us: int | None = None, to_us: int | None = None
    ) -> Generator[Row, None, None]:
        """Give stored values by site, device, epoch, seq, point; close it if left early."""
        ...

    def books(self, spiffe_ids: Iterable[str] | None = None) -> list[StoredBook]:
        """Give the books of these devices, or of all, ordered by site, device and epoch."""
        ...

    def verify(self, book: StoredBook) -> list[Altered]:
        """Compare what is stored of a book with what was booked when it was received."""
        ...

    def astray(self) -> list[tuple[tuple[str, int], Altered]]:
        """Give what was changed and is of no one book, with whose it is: (device, epoch)."""
        ...

    def close(self) -> None:
        """Close; idempotent."""
        ...


class Store(Protocol):
    """The store of a running cloud; what it gives is durable when it is given."""

    @property
    def store_id(self) -> str:
        """Random, made with the store and renewed when it is restored from a backup."""
        ...

    async def commit(self, deliveries: Sequence[Delivery]) -> Committed:
        """Commit batches in one transaction.

        Raises:
            StorageError: nothing of it is stored, and nothing may be receipted.
        """
        ...

    async def renew(self) -> None:
        """Take a new `store_id`: this store was restored from a backup, and gateways send again."""
        ...

    async def knows(self, commit: int, heard: Mapping[str, int]) -> bool:
        """Say whether this store has made so many commits, and those of the branches `heard`.

        Whoever opens a store to write begins a branch, with a name that receipts say.
        """
        ...

    async def retire(self, now_us: int, keep_us: int) -> int:
        """Let some of what was taken longer ago go, by segments; return how many readings.

        Their ranges stay stored, their digests stay, and they are booked `evicted(retention)`.
        """
        ...

    async def books(self, spiffe_ids: Iterable[str] | None = None) -> list[StoredBook]:
        """Give the books of these devices, or of all, ordered by site, device and epoch."""
        ...

    async def history(self, query: HistoryQuery) -> Series | None:
        """Answer a chart's question."""
        ...

    async def latest(self) -> list[Remembered]:
        """Give the newest value of every point."""
        ...

    async def run(self) -> None:
        """Keep the store in shape while the process runs."""
        ...

    def close(self) -> None:
        """Finish what is queued and close; idempotent."""
        ...
