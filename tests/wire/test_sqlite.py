import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from plantroom.wire.errors import StorageCorruptError, StorageError, StorageFullError
from plantroom.wire.sqlite import connect, translated

ONE = {"part": ("CREATE TABLE a(x INTEGER)",)}
TWO = {"part": (*ONE["part"], "ALTER TABLE a ADD COLUMN y INTEGER")}


def test_file_is_made_in_wal_mode_and_fully_synchronous(tmp_path: Path) -> None:
    connection = connect(tmp_path / "new" / "a.db", ONE)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


def test_schema_is_brought_up_to_date_and_data_stays(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.db", ONE)
    connection.execute("INSERT INTO a VALUES(7)")
    connection.close()
    connection = connect(tmp_path / "a.db", TWO)
    assert connection.execute("SELECT x, y FROM a").fetchall() == [(7, None)]
    connection.close()


def test_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    connect(tmp_path / "a.db", TWO).close()
    with pytest.raises(StorageError, match="has schema 2, this program knows 1"):
        connect(tmp_path / "a.db", ONE)


def test_file_that_is_no_database_is_named_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database, and long enough to be looked at" * 100)
    with pytest.raises(StorageCorruptError, match=r"a\.db"):
        connect(path, ONE)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot make the folder"):
        connect(tmp_path / "file" / "a.db", ONE)


def test_full_database_raises_an_error_that_a_retry_can_mend(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = connect(path, {"part": ("CREATE TABLE b(x BLOB)",)})
    connection.execute("PRAGMA max_page_count=4")
    with pytest.raises(StorageFullError) as caught, translated(path):
        connection.execute("INSERT INTO b VALUES(zeroblob(100000))")
    assert caught.value.retry_helps
    connection.close()


def test_other_errors_keep_their_text(tmp_path: Path) -> None:
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(StorageError, match="no such table"),
        translated(tmp_path / "a.db"),
    ):
        connection.execute("SELECT 1 FROM nowhere")
