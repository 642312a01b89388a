"""The store in one SQLite file: WAL, synchronous FULL, one writer thread; and a reader of such."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from plantroom.cloud import (
    book_tables,
    branches,
    readback,
    retention,
    verifying,
    verifying_books,
)
from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.readback import value_of
from plantroom.cloud.store import (
    Altered,
    Belongs,
    Committed,
    Delivery,
    Remembered,
    Row,
    StoredBook,
)
from plantroom.cloud.store_schema import HOUR_US, MIGRATIONS
from plantroom.cloud.verifying_notes import Notes
from plantroom.cloud.writing import Writer
from plantroom.views.history import HistoryQuery, Sampled, Series, thin
from plantroom.wire.database import Database, translated
from plantroom.wire.errors import StorageCorruptError, StorageError

LOG = logging.getLogger("plantroom.cloud.sqlite_store")
CHECKPOINT_S = 30.0
RAW_BYTES_MAX = 64 * 1024 * 1024


class SqliteStore:
    """Implements `cloud.store.Store`."""

    def __init__(
        self,
        path: Path,
        *,
        belongs: Belongs = belongs_by_name,
        raw_bytes_max: int = RAW_BYTES_MAX,
        checkpoint_s: float = CHECKPOINT_S,
    ) -> None:
        self._checkpoint_s = checkpoint_s
        self._database = Database.open(path, MIGRATIONS)
        self._writer = Writer(belongs, raw_bytes_max=raw_bytes_max)
        self._store_id = str(self._database.write_now(_store_id))

    @property
    def store_id(self) -> str:
        """Random, made with the store."""
        return self._store_id

    async def commit(self, deliveries: Sequence[Delivery]) -> Committed:
        """Commit batches in one transaction; see `Store`."""

        def work(connection: sqlite3.Connection) -> Committed:
            try:
                return self._writer.apply(connection, deliveries)
            except BaseException:
                self._writer.forget()
                raise

        try:
            return await self._database.write(work)
        except StorageError:
            self._writer.forget()  # COMMIT itself may fail
            raise

    async def renew(self) -> None:
        """Take a new name; see `Store`."""
        self._store_id = await self._database.write(_renew)

    async def knows(self, commit: int, heard: Mapping[str, int]) -> bool:
        """Look for commits in this store's history; see `Store`."""
        return await self._database.read(lambda c: branches.knows(c, commit, heard))

    async def retire(self, now_us: int, keep_us: int) -> int:
        """Let go what is beyond retention; see `Store`."""

        def work(connection: sqlite3.Connection) -> int:
            return retention.retire(connection, retention.before(connection, now_us, keep_us))

        return await self._database.write(work)

    async def books(self, spiffe_ids: Iterable[str] | None = None) -> list[StoredBook]:
        """Give books; see `Store`."""
        return await self._database.read(lambda c: book_tables.stored_books(c, spiffe_ids))

    async def history(self, query: HistoryQuery) -> Series | None:
        """Answer a chart's question; see `Store`."""
        return await self._database.read(lambda c: history(c, query))

    async def latest(self) -> list[Remembered]:
        """Give the newest value of every point."""
        return await self._database.read(latest)

    async def run(self) -> NoReturn:
        """Truncate the WAL now and then: readers that are never idle would let it grow."""
        while True:
            await asyncio.sleep(self._checkpoint_s)
            if self._database.damage is not None:  # a look-up may have found it
                raise StorageCorruptError(
                    self._database.damage.what, where=str(self._database.path)
                )
            try:
                await self._database.checkpoint()
            except StorageCorruptError:
                raise
            except StorageError as error:  # a full disk: readings are taken once there is room
                LOG.warning("the WAL stays as long as it is: %s", error)

    def close(self) -> None:
        """Finish what is queued and close; idempotent."""
        self._database.close()


class SqliteReader:
    """Implements `cloud.store.StoreReader` on a file that another process may be writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise StorageError("there is no store", where=str(path), remedy="check --state")
        with translated(path):
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
            )
        self._connection.text_factory = _readable
        self._notes: tuple[int, Notes] | None = None

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """One moment of the store, however long the look takes."""
        with translated(self._path):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.execute("COMMIT")

    def export(
        self, *, device: str | None = None, from_us: int | None = None, to_us: int | None = None
    ) -> Generator[Row, None, None]:
        """Give stored values; see `StoreReader`."""
        with self._snapshot() as connection:
            yield from readback.export(
                connection, device=device or "", from_us=from_us, to_us=to_us
            )

    def books(self, spiffe_ids: Iterable[str] | None = None) -> list[StoredBook]:
        """Give books; see `StoreReader`."""
        with self._snapshot() as connection:
            return book_tables.stored_books(connection, spiffe_ids)

    def verify(self, book: StoredBook) -> list[Altered]:
        """Compare a book with its rows; see `StoreReader`."""
        with self._snapshot() as connection:  # of which the book is read again
            now = [
                each
                for each in book_tables.stored_books(connection, [book.spiffe_id])
                if each.epoch == book.epoch
            ]
            notes = self._read_notes(connection)
            return [found for each in now for found in verifying.altered(connection, each, notes)]

    def astray(self) -> list[tuple[tuple[str, int], Altered]]:
        """Give what was changed and is of no book; see `StoreReader`."""
        with self._snapshot() as connection:
            return list(verifying_books.astray(connection, self._read_notes(connection)))

    def _read_notes(self, connection: sqlite3.Connection) -> Notes:
        """Load all tombstones, again only where the store has changed."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if self._notes is None or self._notes[0] != version:
            self._notes = version, Notes(connection)
        return self._notes[1]

    def close(self) -> None:
        """Close; idempotent."""
        self._connection.close()


def _readable(text: bytes) -> str:
    """Read text that somebody may have changed: `verify` names it, and must not end at it."""
    return text.decode(errors="replace")


def _store_id(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT store_id FROM store").fetchone()[0])


def _renew(connection: sqlite3.Connection) -> str:
    connection.execute("UPDATE store SET store_id = lower(hex(randomblob(16)))")
    return _store_id(connection)


def latest(connection: sqlite3.Connection) -> list[Remembered]:
    """Give the newest value of every point, whatever its unit."""
    rows = connection.execute(
        "SELECT d.site, d.name, s.point, s.unit, l.value, l.ts, l.epoch, l.seq"
        " FROM latest l JOIN series s ON s.id = l.series JOIN device d ON d.id = s.device"
        " ORDER BY l.epoch, l.seq"
    )
    return [
        Remembered(
            site=site,
            device=device,
            point=point,
            unit=unit or None,
            value=value_of(value),
            time_us=time_us,
            epoch=epoch,
            seq=seq,
        )
        for site, device, point, unit, value, time_us, epoch, seq in rows
    ]


def history(connection: sqlite3.Connection, query: HistoryQuery) -> Series | None:
    """Thin one point's values, in the unit that it was last reported in."""
    found = connection.execute(
        "SELECT s.id, d.site, s.unit FROM series s JOIN device d ON d.id = s.device"
        " JOIN latest l ON l.series = s.id"
        " WHERE d.name = ? AND s.point = ? AND ? IN ('', d.site)"
        " ORDER BY l.epoch DESC, l.seq DESC LIMIT 1",
        (query.device, query.point, query.site or ""),
    ).fetchone()
    if found is None:
        return None
    series, site, unit = found
    samples, rows = thin(_samples(connection, series, query), query.points_max)
    return Series(
        site=site,
        device=query.device,
        point=query.point,
        unit=unit or None,
        samples=samples,
        rows=rows,
    )


def _samples(connection: sqlite3.Connection, series: int, query: HistoryQuery) -> Iterator[Sampled]:
    low_us = query.from_us or 0
    high_us = 2**62 if query.to_us is None else query.to_us
    for bucket in readback.buckets(connection, low_us // HOUR_US, high_us // HOUR_US):
        for ts, value in connection.execute(
            "SELECT ts, value FROM r WHERE bucket = ? AND series = ? AND ts >= ? AND ts < ?",
            (bucket, series, low_us, high_us),
        ):
            yield ts, value_of(value)
