"""The database with its own thread: in order, whole or not at all, faults named."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from plantroom.wire.database import Database, Migrations
from plantroom.wire.errors import StorageCorruptError, StorageError

SCHEMA: Migrations = {"a": ("CREATE TABLE a(x INTEGER PRIMARY KEY)",)}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "odd #name? 100%.db", SCHEMA)
    yield opened
    opened.close()


def insert(number: int, connection: sqlite3.Connection) -> str:
    connection.execute("INSERT INTO a VALUES(?)", (number,))
    return threading.current_thread().name


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT x FROM a ORDER BY x")]


def test_what_was_written_can_be_read_at_once(database: Database) -> None:
    async def run() -> None:
        for number in range(20):
            await database.write(partial(insert, number))
            assert await database.read(numbers) == list(range(number + 1))

    asyncio.run(run())


def test_writes_run_in_order_on_one_thread_that_is_not_the_loops(database: Database) -> None:
    async def run() -> list[str]:
        pending = [database.begin(partial(insert, number)) for number in range(50)]
        return await asyncio.gather(*pending)

    names = asyncio.run(run())
    assert len(set(names)) == 1
    assert names[0] != threading.current_thread().name


def test_work_that_raises_leaves_nothing_behind_and_the_next_goes_on(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        insert(1, connection)
        raise LookupError("half way")

    async def run() -> list[int]:
        with pytest.raises(LookupError):
            await database.write(half)
        await database.write(lambda connection: insert(2, connection))
        return await database.read(numbers)

    assert asyncio.run(run()) == [2]


def test_an_error_of_sqlite_is_one_of_ours_and_rolls_back(database: Database) -> None:
    def twice(connection: sqlite3.Connection) -> None:
        insert(1, connection)
        insert(1, connection)

    async def run() -> list[int]:
        with pytest.raises(StorageError, match="UNIQUE"):
            await database.write(twice)
        return await database.read(numbers)

    assert asyncio.run(run()) == []


def test_the_reader_cannot_write(database: Database) -> None:
    async def run() -> None:
        with pytest.raises(StorageError, match="cannot write"):
            await database.read(lambda connection: insert(1, connection))

    asyncio.run(run())


def test_a_long_look_up_does_not_hold_up_a_commit(database: Database) -> None:
    started, release = threading.Event(), threading.Event()

    def slow(_connection: sqlite3.Connection) -> bool:
        started.set()
        return release.wait(20)

    async def run() -> None:
        reading = asyncio.create_task(database.read(slow), name="test.read")
        await asyncio.to_thread(started.wait, 20)
        await asyncio.wait_for(database.write(lambda c: insert(1, c)), 20)
        release.set()
        assert await reading

    asyncio.run(run())


def test_a_checkpoint_empties_the_log(database: Database) -> None:
    async def run() -> None:
        await database.write(lambda connection: insert(1, connection))
        log = database.path.with_name(database.path.name + "-wal")
        assert log.stat().st_size > 0
        await database.checkpoint()
        assert log.stat().st_size == 0

    asyncio.run(run())


def test_close_finishes_what_is_queued_and_may_be_said_twice(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database.open(tmp_path / "a.db", SCHEMA)
        pending = [database.begin(partial(insert, number)) for number in range(20)]
        database.close()
        database.close()
        assert len(await asyncio.gather(*pending)) == 20

    asyncio.run(run())
    reopened = Database.open(tmp_path / "a.db", SCHEMA)
    assert reopened.write_now(numbers) == list(range(20))
    reopened.close()


def test_a_file_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "a.db").mkdir()
    before = set(threading.enumerate())
    with pytest.raises(StorageError):
        Database.open(tmp_path / "a.db", SCHEMA)
    assert not set(threading.enumerate()) - before


def test_free_pages_go_back_to_the_disk_only_where_the_file_was_made_for_it(
    tmp_path: Path,
) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT INTO b VALUES(?)", [(b"x" * 3000,)] * 1000)

    async def shrink(database: Database) -> tuple[int, int, int]:
        await database.write(fill)
        await database.checkpoint()
        full = database.path.stat().st_size
        await database.write(lambda connection: connection.execute("DELETE FROM b") and None)
        given = await database.give_back(10_000)
        await database.checkpoint()
        return full, given, database.path.stat().st_size

    schema: Migrations = {"b": ("CREATE TABLE b(x)",)}
    giving = Database.open(tmp_path / "giving.db", schema, gives_back=True)
    keeping = Database.open(tmp_path / "keeping.db", schema)
    full, given, after = asyncio.run(shrink(giving))
    assert after == full - given < full / 10
    full, given, after = asyncio.run(shrink(keeping))
    assert (given, after) == (0, full)
    giving.close()
    keeping.close()


def test_the_wal_stays_below_its_bound(tmp_path: Path) -> None:
    bound = 256 * 1024
    database = Database.open(tmp_path / "w.db", {"b": ("CREATE TABLE b(x)",)}, wal_bytes_max=bound)

    async def write() -> list[int]:
        lengths = []
        for _ in range(100):
            await database.write(
                lambda connection: connection.execute("INSERT INTO b VALUES(?)", (b"x" * 30_000,))
            )
            lengths.append(database.wal_bytes)
        return lengths

    lengths = asyncio.run(write())
    assert 0 < max(lengths) <= bound
    database.close()


def test_damage_found_at_work_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    database = Database.open(path, {"b": ("CREATE TABLE b(x)",)})
    rows = [(b"x" * 3000,)] * 50

    async def scenario() -> None:
        await database.write(lambda c: c.executemany("INSERT INTO b VALUES(?)", rows) and None)
        await database.checkpoint()
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * 100_000)
        assert database.damage is None
        again = Database.open(path, {"b": ("CREATE TABLE b(x)",)})
        with pytest.raises(StorageCorruptError):
            await again.read(lambda c: c.execute("SELECT sum(length(x)) FROM b").fetchall())
        assert again.damage is not None
        again.close()

    asyncio.run(scenario())
    database.close()


def test_brief_work_runs_in_the_loop_while_it_is_short(database: Database) -> None:
    async def run() -> tuple[str, str, str]:
        database._brief_s = 0.0
        here = await database.begin(partial(insert, 1), brief=True)
        database._brief_s = 1.0
        there = await database.begin(partial(insert, 2), brief=True)
        return here, there, threading.current_thread().name

    here, there, loop = asyncio.run(run())
    assert here == loop
    assert there != loop


def test_brief_work_that_takes_long_moves_to_the_thread_and_comes_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plantroom.wire.database.INLINE_S", 0.05)

    async def run() -> list[bool]:
        inline = []
        for number in range(100):
            work = partial(delayed, number, number == 0)
            name = await database.begin(work, brief=True)
            inline.append(name == threading.current_thread().name)
        return inline

    inline = asyncio.run(run())
    assert inline[0]
    assert not inline[1]
    assert any(inline[2:])


def delayed(number: int, slow: bool, connection: sqlite3.Connection) -> str:  # noqa: FBT001
    if slow:
        threading.Event().wait(1.0)
    return insert(number, connection)


def test_brief_work_keeps_its_place_behind_what_is_queued(database: Database) -> None:
    started, release = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> str:
        started.set()
        release.wait(20)
        return insert(1, connection)

    async def run() -> list[int]:
        first = database.begin(slow)
        await asyncio.to_thread(started.wait, 20)
        second = database.begin(numbers, brief=True)
        release.set()
        await first
        return await second

    assert asyncio.run(run()) == [1]


def test_brief_work_that_fails_says_so_when_it_is_awaited(database: Database) -> None:
    async def run() -> list[int]:
        await database.begin(partial(insert, 1), brief=True)
        failing = database.begin(partial(insert, 1), brief=True)
        with pytest.raises(StorageError, match="UNIQUE"):
            await failing
        return await database.begin(numbers, brief=True)

    assert asyncio.run(run()) == [1]


def test_the_wal_is_moved_beside_the_writes_and_begun_again(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "m.db", {"b": ("CREATE TABLE b(x)",)})
    database.write_now(lambda connection: connection.execute("PRAGMA wal_autocheckpoint=0"))

    async def run() -> int:
        for _ in range(3000):
            await database.begin(
                lambda connection: connection.execute("INSERT INTO b VALUES(?)", (b"x" * 3000,)),
                brief=True,
            )
        return database.wal_bytes

    assert asyncio.run(run()) < 3000 * 2 * 4096 / 2  # each write fills two pages at least
    database.close()
