import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from plantroom.wire import apart
from plantroom.wire.apart import Missing

HVAC = "spiffe://b/agent/hvac"


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.execute("CREATE TABLE quarantine(device TEXT, epoch INTEGER, seq INTEGER)")
        made.executescript(apart.SCHEMA)
        yield made


def put(connection: sqlite3.Connection, epoch: int | None, seq: int) -> None:
    connection.execute("INSERT INTO quarantine VALUES(?, ?, ?)", (HVAC, epoch, seq))
    known = apart.UNKNOWN if epoch is None else epoch
    apart.count(connection, HVAC, known, seq, seq)


def found(connection: sqlite3.Connection) -> list[tuple[str, int, int, int]]:
    return [each[:4] for each in apart.missing(connection)]


def test_what_is_on_record_is_not_missing(connection: sqlite3.Connection) -> None:
    for epoch, seq in ((7, 5), (7, 3), (8, 0), (None, 0), (None, 0)):
        put(connection, epoch, seq)
    assert found(connection) == []


def test_a_record_that_was_deleted_is_missed_within_its_range(
    connection: sqlite3.Connection,
) -> None:
    for seq in (5, 3, 9):
        put(connection, 7, seq)
    put(connection, None, 0)
    connection.execute("DELETE FROM quarantine WHERE seq = 5")
    assert list(apart.missing(connection)) == [
        Missing(HVAC, 7, 3, 9, "altered: 3 were set apart, of which 2 are on record")
    ]
    connection.execute("DELETE FROM quarantine")
    assert found(connection) == [(HVAC, 0, 0, 0), (HVAC, 7, 3, 9)]


@pytest.mark.parametrize(
    "change", ["items = 2", "first = 0", "last = 9", "seal = seal + 1", "epoch = 8"]
)
def test_a_count_that_was_changed_is_named(connection: sqlite3.Connection, change: str) -> None:
    put(connection, 7, 3)
    connection.execute(f"UPDATE apart SET {change}")
    assert found(connection)


def test_a_count_that_was_deleted_is_named(connection: sqlite3.Connection) -> None:
    put(connection, 7, 3)
    connection.execute("DELETE FROM apart")
    assert found(connection) == [(HVAC, 7, 0, 0)]


def test_a_file_of_a_former_version_has_no_count(connection: sqlite3.Connection) -> None:
    put(connection, 7, 3)
    connection.execute("DROP TABLE apart")
    assert found(connection) == []


def test_a_count_made_from_an_older_file_has_no_seal(connection: sqlite3.Connection) -> None:
    put(connection, 7, 3)
    connection.execute("UPDATE apart SET seal = NULL")
    assert found(connection) == []
    connection.execute("DELETE FROM quarantine")
    assert found(connection) == [(HVAC, 7, 3, 3)]
