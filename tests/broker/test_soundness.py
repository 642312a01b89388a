import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantroom.broker.catalog import check
from plantroom.broker.soundness import damaged
from plantroom.broker.store import MIGRATIONS
from plantroom.wire.database import Database
from plantroom.wire.errors import StorageCorruptError, StorageError, StorageFullError

WHOLE = """
INSERT INTO session VALUES(1, 'id', 'c', 4294967295, NULL), (2, 'id', 'd', 0, 17);
INSERT INTO subscription VALUES(1, '$share/g/a/#', 63, 268435455);
INSERT INTO walk VALUES(1, '$share/g/a/#', '');
INSERT INTO retained VALUES('a', x'300400016100', 'w', 1);
INSERT INTO will VALUES(1, x'300400016100', 'w', 'c', 0, '');
INSERT INTO incoming VALUES(1, 65535);
INSERT INTO released VALUES(1, 0, 1);
INSERT INTO delivery VALUES(1, 5, 6, 7);
INSERT INTO waiting VALUES(1, 7, 1);
"""
FAULTS = [
    "DELETE FROM broker_start",
    "INSERT INTO broker_start VALUES(1)",
    "DROP TABLE broker_start; CREATE TABLE broker_start AS SELECT NULL AS boot",
    "DROP TABLE walk",
    "UPDATE retained SET packet = x'3009000161'",
    "UPDATE retained SET packet = 'text'",
    "UPDATE retained SET publisher = x'61'",
    "UPDATE retained SET at_us = 'soon'",
    "UPDATE subscription SET options = 64",
    "UPDATE subscription SET identifier = 268435456",
    "UPDATE subscription SET topic_filter = 'a/#/b'",
    "UPDATE session SET expiry_s = -1",
    "UPDATE session SET ended_at_us = 'x'",
    "UPDATE session SET client_id = CAST(x'ff' AS TEXT)",
    "UPDATE incoming SET packet_id = 0",
    "UPDATE released SET ordinal = -1",
    "UPDATE delivery SET done = 8",
    "UPDATE delivery SET next = 'x'",
    "UPDATE waiting SET end = -1",
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database.open(tmp_path / "b.db", MIGRATIONS)
    yield made
    made.close()


def run(database: Database, script: str) -> None:
    def execute(db: sqlite3.Connection) -> None:
        for line in script.split(";"):
            db.execute(line)

    database.write_now(execute)


def test_what_is_whole_is_sound(database: Database) -> None:
    check(database)
    run(database, WHOLE)
    check(database)


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_that_a_start_would_meet_names_the_file(database: Database, fault: str) -> None:
    run(database, WHOLE)
    run(database, fault)
    with pytest.raises(StorageCorruptError) as caught:
        check(database)
    assert caught.value.where == str(database.path)


def test_what_the_disk_says_is_no_damage() -> None:
    assert not damaged(StorageFullError("no space left"))
    error = StorageError("database is locked")
    error.__cause__ = sqlite3.OperationalError("database is locked")
    error.__cause__.sqlite_errorname = "SQLITE_BUSY"
    assert not damaged(error)
