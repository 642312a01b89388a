import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from plantroom.cloud.restoring import renew
from plantroom.cloud.sqlite_store import SqliteStore
from plantroom.wire.errors import ConfigError, StorageError
from plantroom.wire.state_lock import held


def name_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT store_id FROM store").fetchone()[0])


def test_a_store_takes_a_new_name_while_no_cloud_runs(tmp_path: Path) -> None:
    store, lock = tmp_path / "store.db", tmp_path / "cloud.lock"
    SqliteStore(store).close()
    before = name_of(store)
    with held(lock, "cloud"), pytest.raises(ConfigError, match="runs on this state folder"):
        renew(store, lock)
    assert name_of(store) == before
    former, new = renew(store, lock)
    assert (former, new) == (before, name_of(store))
    assert former != new


def test_no_store_is_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no store"):
        renew(tmp_path / "store.db", tmp_path / "cloud.lock")
    assert list(tmp_path.iterdir()) == []
