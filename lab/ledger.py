"""The books of a state folder, read from its files: they answer whether anything runs or not."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from plantroom.cloud.store import StoredBook, StoreReader
from plantroom.gateway import books, verifying
from plantroom.lab import app, audit
from plantroom.lab.audit import SEGMENT_SEQS, Account, Fault, Page
from plantroom.lab.layout import Layout
from plantroom.wire.ranges import RangeSet
from plantroom.wire.sqlite import translated

_ALTERED_BELOW = "altered: the gateway's rows are not those that were received"


def accounts(layout: Layout) -> tuple[Account, ...]:
    """Compare the gateway's books with the cloud's.

    The gateway's are read first: what is on its way meanwhile is then stored, never missing.
    """
    below = gateway_pages(layout)
    with _store(layout) as store:
        above = [_cloud_page(book) for book in store.books()] if store else []
    return audit.compare(below, above)


def verify(layout: Layout) -> tuple[Account, ...]:
    """Like `accounts`, and the rows of both sides are hashed again."""
    below, wrong = _gateway_verified(layout)
    with _store(layout) as store:
        read = store.books() if store else []
        altered = {
            (book.spiffe_id, book.epoch): _altered(store, book)
            for book in read
            if store and book.stored
        }
    compared = audit.compare(below, [_cloud_page(book) for book in read])
    return tuple(
        audit.with_faults(
            account,
            (
                *wrong.get((account.device, account.epoch), ()),
                *altered.get((account.device, account.epoch), ()),
            ),
        )
        for account in compared
    )


def _gateway_verified(layout: Layout) -> tuple[list[Page], dict[tuple[str, int], list[Fault]]]:
    """Return the gateway's books, and what of its rows was changed, of one moment."""
    wrong: dict[tuple[str, int], list[Fault]] = {}
    if not layout.queue.exists():
        return [], wrong
    with _read_only(layout.queue) as connection:
        pages = [_gateway_page(entry) for entry in books.summary(connection)]
        for device, epoch, (first, last) in verifying.altered(connection):
            fault = Fault(first=first, last=last, what=_ALTERED_BELOW)
            wrong.setdefault((device, epoch), []).append(fault)
    return pages, wrong


@contextmanager
def _store(layout: Layout) -> Iterator[StoreReader | None]:
    """Open the cloud's store; None when only a gateway has ever run here."""
    if layout.queue.exists() and not layout.store.exists():
        yield None
        return
    with app.cloud_store(layout) as store:
        yield store


def _altered(store: StoreReader, book: StoredBook) -> tuple[Fault, ...]:
    return tuple(
        Fault(
            first=segment * SEGMENT_SEQS,
            last=(segment + 1) * SEGMENT_SEQS - 1,
            what="altered: the stored rows are not those that were received",
        )
        for segment in store.verify(book)
    )


def gateway_pages(layout: Layout) -> list[Page]:
    """Return the gateway's books; none when it has never run."""
    path = layout.queue
    if not path.exists():
        return []
    with _read_only(path) as connection:
        return [_gateway_page(entry) for entry in books.summary(connection)]


@contextmanager
def _read_only(path: Path) -> Iterator[sqlite3.Connection]:
    with translated(path):
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        with closing(connection):
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
    )
