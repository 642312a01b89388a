import asyncio
from pathlib import Path

import pytest

from plantroom.broker import catalog
from plantroom.broker.memory import MemorySink
from plantroom.wire.database import Database


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_every_kind_opens_and_closes(kind: str, tmp_path: Path) -> None:
    sink, close = catalog.open_sink(kind, tmp_path / "b.db")
    assert asyncio.run(sink.load()).boot == 1
    close()
    assert isinstance(sink, MemorySink) is (kind == "memory")


def test_damaged_database_is_set_aside_and_service_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "b.db"
    for number in (1, 2):
        path.write_bytes(b"this is no database " * 500)
        sink, close = catalog.open_sink("sqlite", path)
        assert asyncio.run(sink.load()).boot == 1
        close()
        aside = tmp_path / f"b.db.damaged-{number}"
        assert aside.read_bytes().startswith(b"this is no database")
        path.unlink()
    assert "set aside as" in caplog.text


def test_owner_shares_its_database(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "own.db", catalog.MIGRATIONS)
    assert asyncio.run(catalog.sqlite_sink(database).load()).boot == 1
    database.close()
