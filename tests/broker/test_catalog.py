import asyncio
import sqlite3
from pathlib import Path

import pytest

from plantroom.broker import catalog
from plantroom.broker.memory import MemorySink
from plantroom.broker.sink import Sink
from plantroom.wire.database import Database
from tests.broker.harness import running


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


DAMAGE = {
    "retained packet": "UPDATE retained SET packet = x'3fff'",
    "retained text": "UPDATE retained SET publisher = CAST(x'ff' AS TEXT)",
    "will packet": "UPDATE will SET packet = x''",
}


@pytest.mark.parametrize("damage", [*DAMAGE, "page"])
def test_damage_that_shows_when_it_is_loaded_is_set_aside_too(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "b.db"

    async def scenario(sink: Sink) -> None:
        async with running(sink=sink) as live:
            raw = await live.client("r", clean=False, will=("w", b"w", 1, False))
            await raw.subscribe(("a", 1))
            for number in range(1, 301):
                raw.publish(f"retained/{number}", bytes(200), retain=True, packet_id=number)
            await raw.frames(300)
            with sqlite3.connect(path) as saved:
                saved.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            saved.close()
            (tmp_path / "copy.db").write_bytes(path.read_bytes())  # the will is in it

    sink, close = catalog.open_sink("sqlite", path)
    asyncio.run(scenario(sink))
    close()
    path.unlink()
    (tmp_path / "copy.db").rename(path)
    if damage == "page":
        with sqlite3.connect(path) as database:
            database.execute("VACUUM")  # or the first that is found may be what a row has left
        database.close()
        data = bytearray(path.read_bytes())
        start = data.index(b"retained/150\x33") // 4096 * 4096  # topic, packet: not of the index
        data[start : start + 2000] = b"\x55" * 2000
        path.write_bytes(bytes(data))
    else:
        with sqlite3.connect(path) as database:
            database.execute(DAMAGE[damage])
        database.close()
    sink, close = catalog.open_sink("sqlite", path)
    asyncio.run(serves(sink))
    close()
    assert "set aside as" in caplog.text
    assert len(list(tmp_path.glob("b.db.damaged-*"))) >= 1


async def serves(sink: Sink) -> None:
    async with running(sink=sink) as live:
        raw = await live.client("r", clean=False)
        raw.publish("a")
        await raw.acknowledged()


def test_owner_shares_its_database(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "own.db", catalog.MIGRATIONS)
    assert asyncio.run(catalog.sqlite_sink(database).load()).boot == 1
    database.close()
