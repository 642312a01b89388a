"""A SQLite file that is damaged: found, set aside as it is, and service begun anew without it."""

import contextlib
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from plantroom.wire.errors import StorageCorruptError
from plantroom.wire.sqlite import set_aside, translated

_log = logging.getLogger("plantroom.wire.damage")
FILE_DAMAGED: Final = "file-damaged"  # the alarm: over once what was lost with it is back
DAMAGES_MAX: Final = 5  # in one life of a process: then it is the disk
CHECKED_BYTES_MAX: Final = 64 * 1024 * 1024  # a larger file would hold up every start


def check(path: Path, *, bytes_max: int = CHECKED_BYTES_MAX) -> None:
    """Look through a file, if there is one and it is not larger than that; read only.

    Raises:
        StorageCorruptError: when it is damaged.
    """
    try:
        if path.stat().st_size > bytes_max:
            return
    except OSError:
        return
    with translated(path), contextlib.closing(sqlite3.connect(path)) as connection:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        text = " ".join(verdict.split())
        raise StorageCorruptError(f"database is damaged: {text}", where=str(path))


def set_aside_in(path: Path) -> list[Path]:
    """Return the damaged files that lie beside this one, oldest first."""
    return sorted(
        aside
        for aside in path.parent.glob(f"{path.name}.damaged-*")
        if not aside.name.endswith(("-wal", "-shm"))
    )


def damage_in(error: BaseException, path: Path) -> StorageCorruptError | None:
    """Return what an error (or one in its group, or behind it) says of damage to this file."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, StorageCorruptError) and one.where == str(path):
            return one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting += [one.__cause__, one.__context__]
    return None


async def outlive(path: Path, serve: Callable[[], Awaitable[None]]) -> None:
    """Serve; when that ends because `path` is damaged, set the file aside and serve again.

    Raises:
        StorageCorruptError: when it has been damaged too often: the disk is to be looked at.
    """
    for _ in range(DAMAGES_MAX):
        try:
            return await serve()
        except Exception as error:
            damage = damage_in(error, path)
            if damage is None:
                raise
            aside = set_aside(path, str(int(time.time())))
            _log.error("%s: it is %s now, and a new file is begun", damage, aside.name)
    raise StorageCorruptError(
        f"damaged {DAMAGES_MAX} times",
        where=str(path),
        remedy="check the disk; the damaged files lie beside it",
    )
