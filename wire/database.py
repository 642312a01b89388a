"""One SQLite file with one owning thread, so that nothing blocks the event loop."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from plantroom.wire.errors import StorageCorruptError, StorageError, StorageFullError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Migrations = Mapping[str, Sequence[str]]


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, each with what the operator can do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error


def _translate(error: sqlite3.Error, path: Path) -> StorageError:
    name = getattr(error, "sqlite_errorname", "") or ""
    where = str(path)
    if name.startswith("SQLITE_FULL") or name == "SQLITE_IOERR_WRITE":
        return StorageFullError("no space left", where=where, remedy="free disk space")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StorageCorruptError(
            f"database is damaged: {error}", where=where, remedy="it is set aside, not overwritten"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StorageError(
            f"cannot write the database: {error}", where=where, remedy="check folder, owner, mount"
        )
    return StorageError(f"database: {error}", where=where)


def connect(path: Path, migrations: Migrations, *, synchronous: str = "FULL") -> sqlite3.Connection:
    """Open (or create) a database in WAL mode and bring its schema up to date.

    Several parts may share a file (the broker's sessions and the gateway's queue do):
    `migrations[part][n]` is a script that leads that part from version n to n + 1; one that has
    shipped is never edited. The connection is in autocommit: transactions are begun by hand.
    """
    with translated(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the folder: {error.strerror}",
                where=str(path.parent),
                remedy="check owner and mount, or choose another folder with --state",
            ) from error
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA busy_timeout=5000")
            _migrate(connection, migrations, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _migrate(connection: sqlite3.Connection, migrations: Migrations, path: Path) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version(part TEXT PRIMARY KEY, version INTEGER NOT NULL)"
    )
    versions = dict(connection.execute("SELECT part, version FROM schema_version"))
    for part, scripts in migrations.items():
        version = versions.get(part, 0)
        if version > len(scripts):
            raise StorageError(
                f"{part} has schema {version}, this program knows {len(scripts)}",
                where=str(path),
                remedy="run the newer program",
            )
        for number, script in enumerate(scripts[version:], version + 1):
            connection.executescript(
                f"BEGIN;{script};INSERT OR REPLACE INTO schema_version VALUES('{part}',{number});"
                "COMMIT;"
            )


class Database:
    """A SQLite file whose writes run on one thread, in order, each in a transaction of its own.

    Reads run on a second thread with a read-only connection, so that a long look-up does not
    hold up a commit.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-write")
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-read")

    @classmethod
    def open(cls, path: Path, migrations: Migrations, *, synchronous: str = "FULL") -> "Database":
        """Open the file and bring its schema up to date; call it before the loop has traffic."""
        writer = connect(path, migrations, synchronous=synchronous)
        with translated(path):
            reader = sqlite3.connect(
                f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
        return cls(path, writer, reader)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction; when this returns, it is on the disk."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._write_thread, self.write_now, work)

    def write_now(self, work: Work[T]) -> T:
        """Like `write`, on the calling thread: only for the owning thread and for set-up."""
        with translated(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        return result

    async def read(self, work: Work[T]) -> T:
        """Run `work` on the read-only connection."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_thread, self._read_now, work)

    def _read_now(self, work: Work[T]) -> T:
        with translated(self.path):
            return work(self._reader)

    async def checkpoint(self) -> None:
        """Move the WAL into the database and truncate it; run it on a timer."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._write_thread, self._checkpoint_now)

    def _checkpoint_now(self) -> None:
        with translated(self.path):
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Finish what is queued and close; idempotent."""
        self._write_thread.shutdown(wait=True)
        self._read_thread.shutdown(wait=True)
        self._reader.close()
        self._writer.close()
