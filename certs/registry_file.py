"""The registry's SQLite file, as each part of it is read and written: one call at a time."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from plantroom.wire.errors import StorageCorruptError
from plantroom.wire.sqlite import Migrations, connect, translated

T = TypeVar("T")


class RegistryFile:
    """One connection to the file, with the tables of one part; may be called from any thread.

    Raises:
        StorageError: when the file cannot be used.
    """

    def __init__(self, path: Path, migrations: Migrations) -> None:
        self.path = path
        self._lock = threading.Lock()
        with _explained(path):
            self._connection = connect(path, migrations)

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for this thread, its errors named."""
        with self._lock, _explained(self.path), translated(self.path):
            yield self._connection

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._held() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return result

    def _read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._held() as connection:
            return connection.execute(sql, values).fetchall()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say what a damaged registry means: nobody can make up who was registered and revoked."""
    try:
        yield
    except StorageCorruptError as error:
        raise StorageCorruptError(
            "registry of identities is damaged",
            where=str(path),
            remedy="restore it from a backup; or move it away, then a new one begins empty, and "
            "devices, gateways and operators have to be registered and revoked anew",
        ) from error
