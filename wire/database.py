"""One SQLite file with one owning thread, so that nothing blocks the event loop."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from plantroom.wire.errors import StorageCorruptError
from plantroom.wire.sqlite import Migrations, connect, translated

__all__ = ["Database", "Migrations", "Work", "connect", "translated"]

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Database:
    """A SQLite file whose writes run on one thread, in order, each in a transaction of its own.

    Reads run on a second thread with a read-only connection, so that a long look-up does not
    hold up a commit.
    """

    def __init__(
        self,
        path: Path,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        *,
        wal_bytes_max: int = 0,
    ) -> None:
        self.path = path
        self.damage: StorageCorruptError | None = None
        self._writer = writer
        self._reader = reader
        self._wal = path.with_name(path.name + "-wal")
        self._wal_bytes_max = wal_bytes_max
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-write")
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-read")

    @classmethod
    def open(
        cls,
        path: Path,
        migrations: Migrations,
        *,
        synchronous: str = "FULL",
        gives_back: bool = False,
        wal_bytes_max: int = 0,
    ) -> "Database":
        """Open the file and bring its schema up to date; call it before the loop has traffic.

        `wal_bytes_max`: the WAL is moved into the database before it is longer than this, as far
        as no long look-up holds it (0: when SQLite wants to). `gives_back`: see `connect`.
        """
        writer = connect(path, migrations, synchronous=synchronous, gives_back=gives_back)
        with translated(path):
            if wal_bytes_max:
                (page_size,) = writer.execute("PRAGMA page_size").fetchone()
                pages = max(1, wal_bytes_max // 2 // page_size)
                writer.execute(f"PRAGMA wal_autocheckpoint={pages}")
                writer.execute(f"PRAGMA journal_size_limit={wal_bytes_max}")
            reader = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
        return cls(path, writer, reader, wal_bytes_max=wal_bytes_max)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction; when this returns, it is on the disk."""
        return await self.begin(work)

    def begin(self, work: Work[T]) -> "asyncio.Future[T]":
        """Like `write`, but the transaction starts now; what it gives must be awaited."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._write_thread, self.write_now, work)

    def write_now(self, work: Work[T]) -> T:
        """Like `write`, on the calling thread: only for the owning thread and for set-up."""
        with self._watched():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            self._shorten_wal()
        return result

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Name errors, and remember damage: whoever owns the file sets it aside."""
        try:
            with translated(self.path):
                yield
        except StorageCorruptError as error:
            self.damage = self.damage or error
            raise

    @property
    def wal_bytes(self) -> int:
        """How long the WAL is on the disk."""
        try:
            return self._wal.stat().st_size
        except OSError:
            return 0

    def _shorten_wal(self) -> None:
        """Move a WAL that is too long into the database; a reader that holds it is waited for."""
        if self._wal_bytes_max and self.wal_bytes > self._wal_bytes_max:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    async def give_back(self, pages_max: int) -> int:
        """Give up to so many free pages back to the disk; return how many bytes that was."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._write_thread, self._give_back, pages_max)

    def _give_back(self, pages_max: int) -> int:
        with self._watched():
            before, size = _pages(self._writer)
            # `execute` stops after the first page: the pragma gives a row without columns for each
            self._writer.executescript(f"PRAGMA incremental_vacuum({pages_max:d})")
            return (before - _pages(self._writer)[0]) * size

    async def read(self, work: Work[T]) -> T:
        """Run `work` on the read-only connection."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_thread, self._read_now, work)

    def _read_now(self, work: Work[T]) -> T:
        with self._watched():
            return work(self._reader)

    async def checkpoint(self) -> None:
        """Move the WAL into the database and truncate it; run it on a timer."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._write_thread, self._checkpoint_now)

    def _checkpoint_now(self) -> None:
        with self._watched():
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Finish what is queued and close; idempotent."""
        self._write_thread.shutdown(wait=True)
        self._read_thread.shutdown(wait=True)
        self._reader.close()
        self._writer.close()


def _pages(connection: sqlite3.Connection) -> tuple[int, int]:
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(count), int(size)
