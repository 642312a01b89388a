"""Storage that a crash leaves as a crash does: what is committed stays, all else is gone.

Each disk is SQLite in memory, opened through the product's own functions. A crash can be planned
for any commit: before it (nothing of the transaction is there) or after it (all of it is, and
nobody was told). `tests/sim/test_disk.py` holds real files, with their tails torn, to the same.
Triggers keep the truth for the judge in tables of their own, in the same transactions.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self, cast
from unittest import mock

from plantroom.broker.store import MIGRATIONS as BROKER_TABLES
from plantroom.cloud.store_schema import GONE
from plantroom.cloud.store_schema import MIGRATIONS as STORE_TABLES
from plantroom.device.outbox import MIGRATIONS as OUTBOX_TABLES
from plantroom.gateway.queue_schema import CONFIRMED
from plantroom.gateway.queue_schema import MIGRATIONS as QUEUE_TABLES
from plantroom.wire.database import Database, Work, translated
from plantroom.wire.errors import StorageFullError
from plantroom.wire.sqlite import Migrations, connect
from tests.sim.virtual_loop import DeadError, VirtualLoop

SENT = 2
_TRUTH: dict[str, str] = {
    "sensor": f"""
        CREATE TABLE taken(epoch INTEGER, seq INTEGER, pack BLOB);
        CREATE TABLE dropped(epoch INTEGER, seq INTEGER);
        CREATE TRIGGER truth_taken AFTER INSERT ON reading BEGIN
            INSERT INTO taken VALUES(new.epoch, new.seq, new.pack); END;
        CREATE TRIGGER truth_dropped AFTER DELETE ON reading WHEN old.state <> {SENT} BEGIN
            INSERT INTO dropped VALUES(old.epoch, old.seq); END;
        """,
    "gateway": f"""
        CREATE TABLE dropped(id INTEGER, device TEXT, epoch INTEGER, seq INTEGER);
        CREATE TRIGGER truth_dropped AFTER DELETE ON reading WHEN old.state < {CONFIRMED} BEGIN
            INSERT INTO dropped SELECT old.id, device, epoch, old.seq FROM book
            WHERE id = old.book; SELECT news('dropped'); END;
        CREATE TABLE settled(device TEXT, epoch INTEGER, seq INTEGER);
        CREATE TRIGGER truth_settled AFTER UPDATE OF state ON reading
        WHEN new.state = {CONFIRMED} AND old.state < {CONFIRMED} BEGIN
            INSERT INTO settled SELECT device, epoch, new.seq FROM book WHERE id = new.book;
            SELECT news('settled'); END;
        """,
    "cloud": f"""
        CREATE TABLE given_up(book INTEGER, first INTEGER, last INTEGER);
        CREATE TRIGGER truth_given_up AFTER INSERT ON span WHEN new.kind = {GONE} BEGIN
            INSERT INTO given_up VALUES(new.book, new.first, new.last); END;
        CREATE TRIGGER truth_given_up_too AFTER UPDATE OF last ON span WHEN new.kind = {GONE} BEGIN
            INSERT INTO given_up VALUES(new.book, old.last + 1, new.last); END;
        """,
}
_TABLES: dict[str, Migrations] = {
    "sensor": OUTBOX_TABLES,
    "gateway": BROKER_TABLES | QUEUE_TABLES,
    "cloud": STORE_TABLES,
}


class _Mount:
    """A disk as one life of its process has it: dead with that process, never closed before."""

    def __init__(self, disk: "Disk") -> None:
        self._disk = disk
        self.alive = True

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Run a statement; COMMIT is the disk's own business."""
        if not self.alive:
            raise DeadError
        if sql == "COMMIT":
            return self._disk.commit()
        return self._disk.connection.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        """Run a statement for each row."""
        if not self.alive:
            raise DeadError
        return self._disk.connection.executemany(sql, parameters)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.alive and self._disk.connection.in_transaction

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.in_transaction:
            self.execute("COMMIT" if kind is None else "ROLLBACK")

    def close(self) -> None:
        """Stay: the disk outlives its process."""


class _Eyes:
    """The judge's way to look at a disk, also while its process is dead."""

    def __init__(self, disk: "Disk") -> None:
        self._disk = disk

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Query."""
        return self._disk.connection.execute(sql, parameters)


class VirtualDatabase(Database):
    """The product's database without its threads: whose turn it is depends on the seed alone."""

    def __init__(self, path: Path, mount: _Mount) -> None:
        self.path = path
        self.damage = None
        self._mount = cast("sqlite3.Connection", mount)

    async def write(self, work: Work[Any], **_: bool) -> Any:
        return await self.begin(work)

    def begin(self, work: Work[Any], *, brief: bool = False) -> "asyncio.Future[Any]":
        """Write on the thread; what is brief may run in the loop (the product decides by time)."""
        loop = cast("VirtualLoop", asyncio.get_running_loop())
        if not brief or loop.is_busy(self._writes) or loop.chance.random() < 0.5:
            return loop.run_in_executor(self._writes, self.write_now, work)
        done: asyncio.Future[Any] = loop.create_future()
        try:
            done.set_result(self.write_now(work))
        except DeadError:
            pass  # nobody hears of it
        except Exception as error:  # noqa: BLE001 -- as from the thread
            done.set_exception(error)
        return done

    @property
    def _writes(self) -> Executor:
        return cast("Executor", self)  # the virtual loop wants to know which thread, no more

    def write_now(self, work: Work[Any]) -> Any:
        with translated(self.path):
            self._mount.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._mount)
                self._mount.execute("COMMIT")
            except BaseException:
                if self._mount.in_transaction:
                    self._mount.execute("ROLLBACK")
                raise
        return result

    async def read(self, work: Work[Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, work, self._mount)

    async def checkpoint(self) -> None:
        pass

    async def give_back(self, pages_max: int) -> int:
        return 0 * pages_max

    def close(self) -> None:
        pass


@cache
def _formatted(kind: str) -> sqlite3.Connection:
    """Return an empty disk: the product's schema, brought up by the product's own code."""
    with mock.patch.object(sqlite3, "connect", _in_memory):
        connection = connect(Path("/nowhere"), _TABLES[kind])
    connection.executescript(_TRUTH[kind])
    return connection


_sqlite_connect = sqlite3.connect


def _in_memory(*_: object, **__: object) -> sqlite3.Connection:
    return _sqlite_connect(":memory:", isolation_level=None)


class Disk:
    """One machine's storage."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        self._mount: _Mount | None = None
        self.full = False
        self.commits = self.crashes = 0
        self.crash_in: int | None = None  # commits from now
        self.crash_after = False
        self.crashed: Callable[[], None] = lambda: None
        self.committed: Callable[[], None] = lambda: None
        self.eyes = cast("sqlite3.Connection", _Eyes(self))  # as product functions take it
        self.news: set[str] = set()  # what triggers have told since somebody looked
        self._loads = 0
        self._load(_formatted(kind))

    def _load(self, source: sqlite3.Connection) -> None:
        """Copy a database: SQLite is faster with one of its own than with an image's bytes."""
        self.connection = _in_memory()
        self.connection.create_function("news", 1, self.news.add)
        source.backup(self.connection)
        self._loads += 1
        self._changes_seen = -1

    @property
    def state(self) -> tuple[int, int] | None:
        """What stays the same while nothing is written; None within a transaction."""
        if self.connection.in_transaction:
            return None
        return self._loads, self.connection.total_changes

    def mount(self) -> _Mount:
        """Begin a life; an earlier one is over."""
        self.power_off()
        self._mount = _Mount(self)
        return self._mount

    @property
    def powered(self) -> bool:
        """Whether somebody lives here."""
        return self._mount is not None and self._mount.alive

    def image(self) -> bytes:
        """Return a copy of what is committed."""
        return self.connection.serialize()

    def restore(self, image: bytes) -> None:
        """Put an old copy in its place."""
        source = _in_memory()
        source.deserialize(image)
        self._load(source)
        source.close()

    def power_off(self) -> None:
        """Lose what is not committed; whoever still writes is dead."""
        if self._mount is not None:
            self._mount.alive = False
        self.crash_in = None
        if self.connection.in_transaction:
            self.connection.rollback()

    def commit(self) -> sqlite3.Cursor:
        """Commit, unless something is planned for this commit."""
        if self.full:
            raise StorageFullError("no space left", where=self.name)
        self.commits += 1
        dies = self.crash_in is not None and self.crash_in <= 0
        if self.crash_in is not None:
            self.crash_in -= 1
        if dies and not self.crash_after:
            self._die()
        done = self.connection.execute("COMMIT")
        if self._changes_seen != self.connection.total_changes:
            self._changes_seen = self.connection.total_changes
            self.committed()
        if dies:
            self._die()
        return done

    def _die(self) -> None:
        self.crashes += 1
        self.power_off()
        self.crashed()
        raise DeadError

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Look at what is there, as the judge does."""
        return self.connection.execute(query, values).fetchall()


@contextmanager
def mounted(disks: dict[str, Disk]) -> Iterator[None]:
    """Let the product open these disks under the paths `/sim/NAME`."""

    def opened(path: Path, migrations: Migrations, **_: object) -> sqlite3.Connection:
        disk = disks[path.name]
        assert migrations.keys() <= _TABLES[disk.kind].keys()
        return cast("sqlite3.Connection", disk.mount())

    def database(path: Path, migrations: Migrations, **_: object) -> Database:
        return VirtualDatabase(path, cast("_Mount", opened(path, migrations)))

    with (
        mock.patch("plantroom.device.outbox.connect", opened),
        mock.patch.object(Database, "open", database),
    ):
        yield
