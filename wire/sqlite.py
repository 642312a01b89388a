"""One SQLite file, opened the one way: WAL, synchronous, schema brought up to date, errors named.

Synchronous and light, so that the sensor's outbox shares it; `database.py` adds the threads.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from plantroom.wire.errors import StorageCorruptError, StorageError, StorageFullError

Migrations = Mapping[str, Sequence[str]]
BUSY_TIMEOUT_S = 5.0


class _Translated:
    """Turns errors within its block; no generator, since every transaction has some of these."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise _translate(error, self._path) from error


def translated(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turn SQLite's errors into ours, each with what the operator can do."""
    return _Translated(path)


def set_aside(path: Path, stamp: str) -> Path:
    """Rename a damaged file (and its WAL) so that its name says so; nothing is deleted.

    Raises:
        StorageError: when it cannot be renamed, as on a disk that fails or may only be read.
    """
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        try:
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        except OSError as error:
            raise StorageError(
                f"is damaged and cannot be set aside: {error.strerror}",
                where=str(part),
                remedy="check the disk: folder, owner and mount",
            ) from error
    return aside


def _translate(error: sqlite3.Error, path: Path) -> StorageError:
    name = getattr(error, "sqlite_errorname", "") or ""
    where = str(path)
    if name in {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"}:
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


def connect(
    path: Path, migrations: Migrations, *, synchronous: str = "FULL", gives_back: bool = False
) -> sqlite3.Connection:
    """Open (or create) a database in WAL mode and bring its schema up to date.

    `gives_back`: made so that pages that are free can be given back to the disk a few at a time;
    that can be decided only before a file has its first page.

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
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            if gives_back:
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # before WAL writes page 1
            _enter_wal(connection)
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("PRAGMA foreign_keys=ON")
            # Some builds write zeros over all that is deleted: twice the writes of a queue. Here
            # only where the page is written anyway.
            connection.execute("PRAGMA secure_delete=FAST")
            _migrate(connection, migrations, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Turn WAL mode on; SQLite does not wait for others there, whatever its busy timeout is."""
    give_up_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() >= give_up_s:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(connection: sqlite3.Connection, migrations: Migrations, path: Path) -> None:
    if _versions(connection).items() >= {p: len(s) for p, s in migrations.items() if s}.items():
        return
    connection.execute("BEGIN IMMEDIATE")  # another process may be opening the same file
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version(part TEXT PRIMARY KEY, version INTEGER NOT NULL)"
    )
    versions = _versions(connection)
    for part, scripts in migrations.items():
        version = versions.get(part, 0)
        if version > len(scripts):
            raise StorageError(
                f"{part} has schema {version}, this program knows {len(scripts)}",
                where=str(path),
                remedy="run the newer program",
            )
        for script in scripts[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(
            "INSERT OR REPLACE INTO schema_version VALUES(?, ?)", (part, len(scripts))
        )
    connection.execute("COMMIT")


def _versions(connection: sqlite3.Connection) -> dict[str, int]:
    if not connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE name = 'schema_version'"
    ).fetchone():
        return {}
    return dict(connection.execute("SELECT part, version FROM schema_version"))


def _statements(script: str) -> Iterator[str]:
    """Split a script; `executescript` would commit what is open, half a schema included."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip("; \n"):
        raise StorageError(f"a migration ends within a statement: {statement[:60]!r}")
