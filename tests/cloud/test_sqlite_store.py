"""What is the SQLite store's alone; its behaviour as a store is in test_store.py."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.sqlite_store import SqliteReader, SqliteStore
from plantroom.wire.errors import StorageCorruptError, StorageError, StorageFullError
from tests.fakes.deliveries import delivery, reading


def filled(path: Path, count: int = 2500) -> None:
    async def main() -> None:
        store = SqliteStore(path, belongs=belongs_by_name)
        await store.commit([delivery(map(reading, range(count)))])
        store.close()
        store.close()  # closing twice is once

    asyncio.run(main())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE r SET value = 21.5 WHERE seq = 1234 AND value = 143.4",
        "DELETE FROM r WHERE seq = 1234",
        "UPDATE r SET seq = 2600 WHERE seq = 1234",
        "UPDATE r SET value = x'00' WHERE seq = 1234 AND value = x'01'",
        "UPDATE series SET unit = 'K' WHERE unit = 'Cel'",
    ],
)
def test_one_changed_row_is_named_by_its_segment(tmp_path: Path, change: str) -> None:
    path = tmp_path / "store.db"
    filled(path)
    connection = sqlite3.connect(path)
    assert connection.execute(change).rowcount > 0
    connection.commit()
    connection.close()
    reader = SqliteReader(path)
    (book,) = reader.books()
    named = [(found.first, found.last) for found in reader.verify(book)]
    whole = [(0, 2499)] if "series" in change else [(1000, 1999)]
    assert named[0] in ([*whole, (1000, 1999)])
    assert all(what.startswith("altered: ") for *_, what in reader.verify(book))
    reader.close()


def test_reader_reads_beside_a_writer_and_sees_one_moment(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    filled(path, 10)

    async def main() -> None:
        store = SqliteStore(path)
        reader = SqliteReader(path)
        rows = reader.export()
        next(rows)
        await store.commit([delivery(map(reading, range(10, 20)), number=2)])
        assert {row.seq for row in rows} == set(range(10))
        assert {row.seq for row in reader.export()} == set(range(20))
        reader.close()
        store.close()

    asyncio.run(main())


def test_reader_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no store"):
        SqliteReader(tmp_path / "none.db")


def test_full_disk_stores_nothing_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        store = SqliteStore(path)
        await store.commit([delivery(map(reading, range(10)))])
        writer = store._database._writer
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StorageFullError):
            await store.commit([delivery(map(reading, range(10, 5000)), number=2)])
        writer.execute("PRAGMA max_page_count = 1000000")
        done = await store.commit([delivery(map(reading, range(10, 5000)), number=2)])
        assert len(done.stored) == 4990
        assert (await store.books())[0].stored.count == 5000
        store.close()

    asyncio.run(main())


def test_a_wal_that_cannot_be_truncated_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        store = SqliteStore(tmp_path / "store.db", checkpoint_s=0.001)
        tries = [asyncio.Event(), asyncio.Event()]

        async def checkpoint() -> None:
            next(each for each in tries if not each.is_set()).set()
            if not tries[-1].is_set():
                raise StorageFullError("no space left", where="store.db")
            await asyncio.Event().wait()

        monkeypatch.setattr(store._database, "checkpoint", checkpoint)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            stage = tasks.create_task(store.run())
            await tries[-1].wait()
            stage.cancel()
        store.close()

    asyncio.run(main())
    assert "no space left" in caplog.text


def test_quarantine_keeps_raw_bytes_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        store = SqliteStore(path, raw_bytes_max=200)
        foreign = [reading(n, device="spiffe://elsewhere.example/agent/x") for n in range(5)]
        await store.commit([delivery(foreign)])
        store.close()

    asyncio.run(main())
    connection = sqlite3.connect(path)
    kept = [raw is not None for (raw,) in connection.execute("SELECT raw FROM quarantine")]
    connection.close()
    assert len(kept) == 5
    assert 0 < sum(kept) < 5


def test_damage_that_a_look_up_finds_ends_the_store_so_that_it_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def fill() -> None:
        store = SqliteStore(path)
        await store.commit([delivery([reading(seq) for seq in range(500)])])
        store.close()

    async def look() -> None:
        store = SqliteStore(path, checkpoint_s=0.01)
        try:
            with pytest.raises(StorageCorruptError):
                await store.latest()
            with pytest.raises(StorageCorruptError) as caught:
                async with asyncio.timeout(60):
                    await store.run()
            assert caught.value.where == str(path)
        finally:
            store.close()

    asyncio.run(fill())
    with path.open("r+b") as file:
        file.seek(6 * 4096)
        file.write(b"\xa5" * (path.stat().st_size - 6 * 4096))
    asyncio.run(look())
