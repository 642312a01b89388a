"""The books of a state folder, read from its files: they answer whether anything runs or not."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from plantroom.broker import segments
from plantroom.cloud import restoring
from plantroom.cloud.state_folder import StateFolder
from plantroom.cloud.store import StoredBook, StoreReader
from plantroom.gateway import books, verifying
from plantroom.gateway.verifying_books import Segments
from plantroom.gateway.verifying_notes import GATEWAY
from plantroom.lab import app, audit
from plantroom.lab.audit import Account, Fault, Page
from plantroom.lab.layout import Layout
from plantroom.wire.errors import StorageError
from plantroom.wire.ranges import RangeSet
from plantroom.wire.sqlite import translated


def accounts(layout: Layout) -> tuple[Account, ...]:
    """Compare the gateway's books with the cloud's.

    The gateway's are read first: what is on its way meanwhile is then stored, never missing.
    """
    below = gateway_pages(layout)
    with _store(layout) as store:
        above = [_cloud_page(book) for book in store.books()] if store else []
    return audit.compare(below, above)


def verify(layout: Layout) -> tuple[Account, ...]:
    """Like `accounts`, and everything that lies on both sides is compared with its books."""
    with _gateway_snapshot(layout) as connection:
        faults: list[_Named] = []
        below = _gateway_side(connection, faults) if connection else []
        with _store(layout) as store:
            above = _cloud_side(store, below, faults) if store else []
        compared = audit.compare(below, above)
        if connection:
            faults += _missing(connection, compared)
    return audit.with_faults(compared, faults)


_Named = tuple[str, int, Fault]
_SEGMENTS = Segments(segments.arrivals, segments.left_of)


def _gateway_side(connection: sqlite3.Connection, faults: list[_Named]) -> list[Page]:
    """Return the gateway's pages, and add what was changed there to the faults."""
    found = set(verifying.altered(connection, _SEGMENTS))
    faults += ((each.device, each.epoch, Fault(*each[2:])) for each in sorted(found))
    pages = []
    try:
        pages = [_gateway_page(entry) for entry in books.summary(connection)]
    except (sqlite3.Error, TypeError, ValueError) as error:
        if not found:
            faults.append((GATEWAY, 0, Fault(0, 0, f"altered: its books cannot be read: {error}")))
    return pages


def _cloud_side(store: StoreReader, below: list[Page], faults: list[_Named]) -> list[Page]:
    """Return the cloud's pages, and add what was changed there to the faults.

    Where its books cannot be read at all, everything that its gateway knows of is at fault.
    """
    try:
        read = store.books()
        pages = [_cloud_page(book) for book in read]
        for book in read:
            key = (book.spiffe_id, book.epoch)
            faults += ((*key, Fault(*each)) for each in store.verify(book))
        faults += ((*key, Fault(*each)) for key, each in store.astray())
    except (StorageError, TypeError, ValueError) as error:
        text = f"altered: the cloud's books cannot be read: {error}"
        at = [(page.device, page.epoch, max(0, page.highest)) for page in below]
        for device, epoch, last in at or [("cloud", 0, 0)]:
            faults.append((device, epoch, Fault(0, last, text[:200])))
        return []
    return pages


def _missing(
    connection: sqlite3.Connection, accounts: Iterable[Account]
) -> Iterator[tuple[str, int, Fault]]:
    """Look for the rows of what should wait at the gateway."""
    for account in accounts:
        if account.queued:
            key = account.device, account.epoch
            for first, last in verifying.missing(connection, *key, account.queued):
                yield *key, Fault(first, last, "neither stored nor in the queue, as is booked")


def renew_store(layout: Layout) -> tuple[str, str]:
    """Give the cloud's store a new name after it was restored; see `cloud.restoring.renew`."""
    return restoring.renew(layout.store, StateFolder(layout.cloud).lock)


@contextmanager
def _gateway_snapshot(layout: Layout) -> Iterator[sqlite3.Connection | None]:
    """Open the queue as it is at one moment; None when no gateway has ever run here."""
    if not layout.queue.exists():
        yield None
        return
    with _read_only(layout.queue) as connection:
        yield connection


@contextmanager
def _store(layout: Layout) -> Iterator[StoreReader | None]:
    """Open the cloud's store; None when only a gateway has ever run here."""
    if layout.queue.exists() and not layout.store.exists():
        yield None
        return
    with app.cloud_store(layout) as store:
        yield store


def gateway_pages(layout: Layout) -> list[Page]:
    """Return the gateway's books; none when it has never run."""
    with _gateway_snapshot(layout) as connection:
        return [_gateway_page(entry) for entry in books.summary(connection)] if connection else []


@contextmanager
def _read_only(path: Path) -> Iterator[sqlite3.Connection]:
    with translated(path):
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        with closing(connection):
            connection.text_factory = lambda text: text.decode(errors="replace")  # as it is
            connection.execute("BEGIN")  # one snapshot
            yield connection


def _gateway_page(entry: Any) -> Page:
    received, evicted, quarantined = (
        RangeSet(map(tuple, entry[name])) for name in ("received", "evicted", "quarantined")
    )
    excused = audit.union(evicted, quarantined)
    return Page(
        device=entry["device"],
        epoch=entry["epoch"],
        highest=entry["highest"],
        held=audit.without(received, excused),
        settled=RangeSet(map(tuple, entry["confirmed"])),
        excused=excused,
        lost=RangeSet(map(tuple, entry["gone"])),
        digests={int(segment): total for segment, total in entry["digests"].items()},
        disputed=entry["disputed"],
        reasons={name.replace("gone(", "lost("): count for name, count in entry["reasons"].items()},
    )


def _cloud_page(book: StoredBook) -> Page:
    return Page(
        device=book.spiffe_id,
        epoch=book.epoch,
        highest=book.highest,
        held=book.stored,
        settled=book.stored,
        excused=audit.union(book.quarantined, book.evicted),
        lost=book.gone,
        digests={segment: total.hex() for segment, total in book.digests.items()},
        disputed=book.disputed,
        reasons=book.reasons,
    )
