"""Every table of a cloud's store, one change at a time: who and which range is named."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from plantroom.cloud import book_tables, verifying, verifying_books
from plantroom.cloud.verifying_notes import Notes
from tests.fakes.building_at_rest import build
from tests.fakes.gateway_rig import device

SIZE = 1_100
ONE = "epoch = 7 AND device = (SELECT id FROM device WHERE name = 'hvac-001')"
BOOK = f"book = (SELECT id FROM book WHERE {ONE})"
Named = tuple[str, int, int, int]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Open the store of a cloud with about 1,400 readings, the first 1,000 beyond retention."""
    path = build(tmp_path_factory.mktemp("cloud"), size=SIZE).store
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def look(store: sqlite3.Connection) -> set[Named]:
    notes = Notes(store)
    return {
        (book.spiffe_id, book.epoch, found.first, found.last)
        for book in book_tables.stored_books(store)
        for found in verifying.altered(store, book, notes)
    } | {(*key, found.first, found.last) for key, found in verifying_books.astray(store, notes)}


def changed(store: sqlite3.Connection, change: str) -> set[Named]:
    """Say what is found after a change, and take it back."""
    store.execute("PRAGMA foreign_keys=OFF")
    store.execute("BEGIN")
    try:
        assert store.execute(change).rowcount > 0
        return look(store)
    finally:
        store.execute("ROLLBACK")


def test_nothing_is_named_where_nothing_was_changed(store: sqlite3.Connection) -> None:
    assert look(store) == set()


@pytest.mark.parametrize(
    ("change", "name", "named"),
    [
        (f"UPDATE book SET highest = 5000 WHERE {ONE}", "hvac-001", (7, SIZE + 13, 5000)),
        (f"UPDATE book SET highest = 5 WHERE {ONE}", "hvac-001", (7, SIZE + 13, SIZE + 13)),
        (f"UPDATE span SET last = 998 WHERE {BOOK} AND kind = 4", "hvac-001", (7, 999, 999)),
        (f"UPDATE span SET last = 1003 WHERE {BOOK} AND kind = 4", "hvac-001", (7, 1000, 1003)),
        (f"UPDATE span SET reason = 'x' WHERE {BOOK} AND kind = 4", "hvac-001", (7, 0, 999)),
        (f"UPDATE span SET kind = 7 WHERE {BOOK} AND kind = 4", "hvac-001", (7, 0, 999)),
        (f"DELETE FROM digest WHERE {BOOK} AND segment = 0", "hvac-001", (7, 0, 999)),
        (f"UPDATE arrival SET received_us = 1 WHERE {BOOK}", "hvac-001", (7, 1000, SIZE - 1)),
        (f"UPDATE arrival SET late = 1 - late WHERE {BOOK}", "hvac-001", (7, 1000, SIZE - 1)),
        (f"UPDATE arrival SET low = low - 1 WHERE {BOOK}", "hvac-001", (7, 1000, SIZE - 1)),
        (f"UPDATE arrival SET last = last + 9 WHERE {BOOK}", "hvac-001", (7, 1000, SIZE + 8)),
        ("UPDATE device SET newest_us = newest_us + 1 WHERE name = 'hvac-003'", "hvac-003",
         (7, 0, 0)),
        ("UPDATE device SET newest_us = 0 WHERE name = 'hvac-001'", "hvac-001", (8, 0, 0)),
        ("UPDATE latest SET epoch = 9 WHERE epoch = 8", "hvac-001", (8, 99, 99)),
        ("UPDATE latest SET epoch = 7 WHERE epoch = 8", "hvac-001", (8, 99, 99)),
        ("UPDATE latest SET seq = 98 WHERE epoch = 8", "hvac-001", (8, 99, 99)),
        ("DELETE FROM latest WHERE epoch = 8", "hvac-001", (8, 99, 99)),
        ("UPDATE latest SET series = 999 WHERE series = 1", "hvac-001", (8, 99, 99)),
        ("UPDATE r SET ts = ts + 1 WHERE seq = 1050 AND typeof(value) = 'blob'", "hvac-001",
         (7, 1000, SIZE - 1)),
        ("UPDATE r SET ts = 1 WHERE bucket = -1 AND seq = 9 AND typeof(value) = 'blob'",
         "hvac-003", (7, 9, 9)),
        ("UPDATE mono SET timed = 1 WHERE seq = 9", "hvac-003", (7, 0, 59)),
        ("UPDATE r SET value = x'04' WHERE seq = 1050 AND typeof(value) = 'blob'", "hvac-001",
         (7, 1050, 1050)),
        ("UPDATE mono SET timed = 3 WHERE seq = 9", "hvac-002", (7, 9, 9)),
    ],
)  # fmt: skip
def test_a_change_is_named_by_its_range(
    store: sqlite3.Connection, change: str, name: str, named: tuple[int, int, int]
) -> None:
    assert (device(name), *named) in changed(store, change)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE span SET book = 99 WHERE kind = 1",
        "UPDATE store SET store_id = 'x'",
        "UPDATE store SET commits = -1",
    ],
)
def test_what_is_of_no_device_is_the_clouds(store: sqlite3.Connection, change: str) -> None:
    assert (*verifying_books.CLOUD, 0, 0) in changed(store, change)


def test_rows_of_a_former_version_have_no_seal(store: sqlite3.Connection) -> None:
    for table in ("book", "arrival", "note", "quarantine"):
        assert changed(store, f"UPDATE {table} SET seal = NULL") == set()


def test_a_file_of_a_former_version_is_read_before_it_is_brought_up_to_date(
    store: sqlite3.Connection,
) -> None:
    store.execute("BEGIN")
    for table in ("book", "arrival", "note", "quarantine"):
        store.execute(f"ALTER TABLE {table} DROP COLUMN seal")
    found = look(store)
    store.execute("ROLLBACK")
    assert found == set()
