"""One SQLite file with one owning thread, so that nothing blocks the event loop."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from plantroom.wire.errors import StorageCorruptError
from plantroom.wire.sqlite import Migrations, connect, translated

__all__ = ["Database", "Migrations", "Work", "connect", "translated"]

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
INLINE_S = 0.002
_SMOOTHING = 8
_CHECKPOINT_WRITES = 256
_MOVE = "PRAGMA wal_checkpoint(PASSIVE)"


class Database:
    """A SQLite file whose writes run on one thread, in order, each in a transaction of its own.

    Reads run on a second thread with a read-only connection, so that a long look-up does not
    hold up a commit. The WAL is moved into the database on a third one, for the same reason.

    A hand-over to a thread and back costs the CPU more than a commit (the threads pass the
    interpreter to and fro), and on a busy machine more time than most disks need: work that its
    caller calls brief runs in the loop while such work has taken less than `INLINE_S` and nothing
    else is queued, on the thread otherwise.
    """

    def __init__(
        self,
        path: Path,
        connections: tuple[sqlite3.Connection, sqlite3.Connection, sqlite3.Connection],
        *,
        wal_bytes_max: int = 0,
    ) -> None:
        self.path = path
        self.damage: StorageCorruptError | None = None
        self._writer, self._reader, self._mover = connections
        self._wal = path.with_name(path.name + "-wal")
        self._wal_bytes_max = wal_bytes_max
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-write")
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-read")
        self._move_thread = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-checkpoint")
        self._turn = threading.Lock()  # of whoever uses the writer: a thread, or the loop
        self._queued: deque[None] = deque()  # one for each thing that the write thread has to do
        self._brief_s = 0.0  # how long brief work takes, smoothed
        self._unmoved = 0  # writes since the last checkpoint was begun

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
            mover = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            mover.execute(f"PRAGMA synchronous={synchronous}")
        return cls(path, (writer, reader, mover), wal_bytes_max=wal_bytes_max)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction; when this returns, it is on the disk."""
        return await self.begin(work)

    def begin(self, work: Work[T], *, brief: bool = False) -> "asyncio.Future[T]":
        """Like `write`, but the transaction starts now; what it gives must be awaited.

        `brief`: it is short, and may run in the loop where such work has been short.
        """
        if not brief:
            return self._queue(lambda: self.write_now(work))
        if self._queued or self._turn.locked() or self._brief_s > INLINE_S:
            return self._queue(lambda: self._brief(work))
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            done.set_result(self._brief(work))
        except Exception as error:  # noqa: BLE001 -- as from the thread: whoever awaits it gets it
            done.set_exception(error)
        return done

    def _queue(self, task: Callable[[], T]) -> "asyncio.Future[T]":
        """Run on the write thread, behind what is there already."""
        self._queued.append(None)
        running = self._write_thread.submit(task)
        running.add_done_callback(self._dequeue)
        return asyncio.wrap_future(running)

    def _dequeue(self, _done: "Future[T]") -> None:
        self._queued.pop()

    def _brief(self, work: Work[T]) -> T:
        begin_s = time.perf_counter()
        try:
            return self.write_now(work)
        finally:
            took_s = time.perf_counter() - begin_s
            self._brief_s += (took_s - self._brief_s) / _SMOOTHING

    def write_now(self, work: Work[T]) -> T:
        """Like `write`, on the calling thread: only for the owning thread and for set-up."""
        with self._watched(), self._turn:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            self._shorten_wal()
        self._unmoved += 1
        if self._unmoved >= _CHECKPOINT_WRITES:
            self._unmoved = 0
            self._move_thread.submit(self._move)
        return result

    def _move(self) -> None:
        """Move the WAL into the database while writes go on, then the little they added meanwhile.

        Only a WAL that was moved whole is begun again from its start, in blocks that it has.
        """
        with contextlib.suppress(sqlite3.Error):  # the writer meets it too, and says so
            self._mover.execute(_MOVE).fetchall()
            with self._turn:
                self._writer.execute(_MOVE).fetchall()

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
        return await self._queue(lambda: self._give_back(pages_max))

    def _give_back(self, pages_max: int) -> int:
        with self._watched(), self._turn:
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
        await self._queue(self._checkpoint_now)

    def _checkpoint_now(self) -> None:
        with self._watched(), self._turn:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Finish what is queued and close; idempotent."""
        self._write_thread.shutdown(wait=True)
        self._read_thread.shutdown(wait=True)
        self._move_thread.shutdown(wait=True)
        self._mover.close()
        self._reader.close()
        self._writer.close()


def _pages(connection: sqlite3.Connection) -> tuple[int, int]:
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(count), int(size)
