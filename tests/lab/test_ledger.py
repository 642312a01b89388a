import sqlite3

import pytest

from plantroom.gateway import books
from plantroom.gateway.queue_schema import MIGRATIONS
from plantroom.lab import ledger
from plantroom.lab.layout import Layout
from plantroom.wire.errors import UnreachableError
from plantroom.wire.sqlite import connect
from tests.fakes.readings import HVAC, hvac_reading
from tests.fakes.stored import put


def gateway_book(layout: Layout, highest: int, spans: dict[int, list[tuple[int, int]]]) -> None:
    """Write a gateway's book for epoch 7 by hand."""
    connection = connect(layout.queue, MIGRATIONS)
    book = books.book_of(connection, HVAC, 7)
    books.raise_highest(connection, book, highest)
    for kind, ranges in spans.items():
        connection.executemany(
            "INSERT INTO span(book, kind, first, last) VALUES(?, ?, ?, ?)",
            [(book, kind, first, last) for first, last in ranges],
        )
    readings = [hvac_reading(seq) for first, last in spans[0] for seq in range(first, last + 1)]
    books.add_hashes(connection, book, [(one.seq, one.hash()) for one in readings])
    connection.close()


def test_gateway_and_cloud_agree(layout: Layout) -> None:
    gateway_book(layout, 4, {0: [(0, 4)], 1: [(0, 4)]})
    put(layout.store, *map(hvac_reading, range(5)))
    (account,) = ledger.verify(layout)
    assert account.closes
    assert account.is_stored


def test_what_the_cloud_has_not_yet_is_queued(layout: Layout) -> None:
    gateway_book(layout, 4, {0: [(0, 4)], 1: [(0, 1)]})
    put(layout.store, *map(hvac_reading, range(2)))
    (account,) = ledger.accounts(layout)
    assert account.closes
    assert list(account.queued) == [(2, 4)]


def test_a_gateway_that_has_never_reached_a_cloud_has_books_too(layout: Layout) -> None:
    gateway_book(layout, 4, {0: [(0, 4)]})
    (account,) = ledger.verify(layout)
    assert list(account.queued) == [(0, 4)]


def test_a_row_that_was_taken_from_the_store_is_found(layout: Layout) -> None:
    gateway_book(layout, 4, {0: [(0, 4)], 1: [(0, 4)]})
    put(layout.store, *map(hvac_reading, range(5)))
    with sqlite3.connect(layout.store) as connection:
        connection.execute("DELETE FROM r WHERE seq = 2")
    connection.close()
    assert [account.closes for account in ledger.accounts(layout)] == [True]
    (account,) = ledger.verify(layout)
    assert [fault.what.partition(":")[0] for fault in account.faults] == ["altered"]


def test_where_nothing_ever_ran_there_are_no_books(layout: Layout) -> None:
    with pytest.raises(UnreachableError, match="plantroom up"):
        ledger.accounts(layout)
