"""One SQLite file with one owning thread, so that nothing blocks the event loop."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from plantroom.wire.sqlite import Migrations, connect, translated

__all__ = ["Database", "Migrations", "Work", "connect", "translated"]

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


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
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
        return cls(path, writer, reader)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction; when this returns, it is on the disk."""
        return await self.begin(work)

    def begin(self, work: Work[T]) -> "asyncio.Future[T]":
        """Like `write`, but the transaction starts now; what it gives must be awaited."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._write_thread, self.write_now, work)

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
