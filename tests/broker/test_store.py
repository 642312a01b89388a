import asyncio
import sqlite3
from pathlib import Path

import pytest

from plantroom.broker.store import MIGRATIONS, SqliteStore
from plantroom.wire.database import Database
from plantroom.wire.errors import StorageError
from tests.broker.test_sink import SESSION, batch


def test_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "b.db", MIGRATIONS)
    database.write_now(lambda db: db.execute("DROP TABLE session"))

    async def scenario() -> None:
        with pytest.raises(StorageError):
            await SqliteStore(database).commit(batch(SESSION, segment=b"x"))

    asyncio.run(scenario())
    count = database.write_now(lambda db: db.execute("SELECT count(*) FROM segment").fetchone())
    assert count == (0,)
    database.close()


def test_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    database = Database.open(path, MIGRATIONS)
    asyncio.run(committed(SqliteStore(database)))
    other = sqlite3.connect(path)
    assert other.execute("SELECT data FROM segment").fetchall() == [(b"x",)]
    other.close()
    database.close()


async def committed(store: SqliteStore) -> None:
    await store.commit(batch(segment=b"x"))
