import sqlite3
from hashlib import sha256
from pathlib import Path

import pytest

from plantroom.broker import catalog
from plantroom.gateway import books, tables
from plantroom.gateway.queue_schema import MIGRATIONS, WAITING
from plantroom.gateway.tables import size_of
from plantroom.lab import ledger
from plantroom.lab.layout import Layout
from plantroom.wire.errors import UnreachableError
from plantroom.wire.sqlite import connect
from tests.fakes.readings import HVAC, hvac_reading
from tests.fakes.stored import put


def gateway_book(layout: Layout, highest: int, spans: dict[int, list[tuple[int, int]]]) -> None:
    """Write a gateway's book for epoch 7 by hand."""
    connection = connect(layout.queue, catalog.MIGRATIONS | MIGRATIONS)
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


def flip(path: Path, wanted: bytes) -> None:
    """Change one byte on the disk, nothing else: the last one of the only place that has these."""
    data = path.read_bytes()
    assert data.count(wanted) == 1
    at = data.index(wanted) + len(wanted) - 1
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1]))


def keep_rows(layout: Layout, count: int) -> None:
    connection = connect(layout.queue, MIGRATIONS)
    (book,) = connection.execute("SELECT id FROM book").fetchone()
    connection.executemany(
        "INSERT INTO reading(book, seq, state, size, aged_us, hash, body)"
        " VALUES(?, ?, 0, ?, 0, ?, ?)",
        [
            (book, n, size_of(body), sha256(body).digest(), body)
            for n, body in enumerate(hvac_reading(n).canonical() for n in range(count))
        ],
    )
    (size,) = connection.execute("SELECT sum(size) FROM reading").fetchone()
    tables.shift(connection, WAITING, count, size)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def test_one_byte_changed_on_the_gateways_disk_is_named_by_its_reading(layout: Layout) -> None:
    gateway_book(layout, 4, {0: [(0, 4)]})
    keep_rows(layout, 5)
    assert [account.closes for account in ledger.verify(layout)] == [True]
    flip(layout.queue, hvac_reading(3).canonical())
    (account,) = ledger.verify(layout)
    assert not account.closes
    assert (account.device, account.epoch) == (HVAC, 7)
    [fault] = account.faults
    assert (fault.first, fault.last) == (3, 3)
    assert fault.what.startswith("altered: the gateway's")


def test_one_byte_changed_in_the_cloud_is_named_by_its_segment(layout: Layout) -> None:
    readings = [hvac_reading(seq) for seq in range(1_200)]
    put(layout.store, *readings)
    with sqlite3.connect(layout.store) as connection:
        connection.execute(
            "UPDATE r SET value = 'ecp' WHERE seq = 1100"
            " AND series = (SELECT id FROM series WHERE point = 'power_mode')"
        )
    connection.close()
    (account,) = ledger.verify(layout)
    [fault] = account.faults
    assert (account.device, account.epoch) == (HVAC, 7)
    assert (fault.first, fault.last) == (1_000, 1_199)
