"""The sinks that there are, by the name that settings use."""

import logging
from collections.abc import Callable
from pathlib import Path

from plantroom.broker import soundness
from plantroom.broker.memory import MemorySink
from plantroom.broker.sink import Sink
from plantroom.broker.store import MIGRATIONS, SqliteStore, state
from plantroom.wire.database import Database
from plantroom.wire.errors import StorageCorruptError, StorageError

LOGGER = logging.getLogger("plantroom.broker.catalog")
Closer = Callable[[], None]


def open_sink(kind: str, path: Path) -> tuple[Sink, Closer]:
    """Open a sink; return it and what closes it.

    Raises:
        StorageError: when it cannot be opened.
    """
    if kind == "memory":
        return MemorySink(), lambda: None
    try:
        database = _open_whole(path)
    except StorageCorruptError as error:
        set_aside(path, error)
        database = _open_whole(path)
    return SqliteStore(database), database.close


def _open_whole(path: Path) -> Database:
    """Open a database and read all that a start reads of it: damage may show only then."""
    try:
        database = Database.open(path, MIGRATIONS)
    except StorageError as error:
        if soundness.damaged(error):
            raise StorageCorruptError(error.what, where=error.where) from error
        raise
    try:
        check(database)
    except BaseException:
        database.close()
        raise
    return database


def check(database: Database) -> None:
    """Read everything that a start reads of a database that its owner has opened.

    Raises:
        StorageCorruptError: when any of it is damaged: the database has to be set aside.
    """
    soundness.check(database, state)


def set_aside(path: Path, error: StorageCorruptError) -> Path:
    """Move a damaged database out of the way, as it is; return where it is now."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    LOGGER.error("%s: set aside as %s, a new one is begun", error, aside)
    return aside


def sqlite_sink(database: Database) -> Sink:
    """Return the sink in a database that its owner has opened with `MIGRATIONS` among others."""
    return SqliteStore(database)


__all__ = ["MIGRATIONS", "check", "open_sink", "set_aside", "sqlite_sink"]
