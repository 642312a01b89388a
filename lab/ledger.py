"""The books of a state folder, read from its files: they answer whether anything runs or not."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from plantroom.cloud import restoring
from plantroom.cloud.state_folder import StateFolder
from plantroom.cloud.store import StoredBook, StoreReader
from plantroom.gateway import books, verifying
from plantroom.lab import app, audit
from plantroom.lab.audit import Account, Fault, Page
from plantroom.lab.layout import Layout
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
        below = [_gateway_page(entry) for entry in books.summary(connection)] if connection else []
        found = list(verifying.altered(connection)) if connection else []
        with _store(layout) as store:
            read = store.books() if store else []
            above = {_key(book): store.verify(book) for book in read} if store else {}
        compared = audit.compare(below, [_cloud_page(book) for book in read])
        faults = [
            *((each.device, each.epoch, Fault(*each[2:])) for each in found),
            *((*key, Fault(*each)) for key, ranges in above.items() for each in ranges),
            *(_missing(connection, compared) if connection else ()),
        ]
    return audit.with_faults(compared, faults)


def _key(book: StoredBook) -> tuple[str, int]:
    return book.spiffe_id, book.epoch


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
