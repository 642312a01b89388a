"""Soundness: whether a database has what a start reads of it, before one begins.

SQLite notices a page that is none; a byte that has changed within a record it may give back as a
number that is none of ours, or as nothing at all. Such a database is set aside as well.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from itertools import chain
from typing import Any

from plantroom.broker.filters import filter_fault
from plantroom.broker.primitives import VARINT_MAX
from plantroom.broker.runs import parse_one
from plantroom.broker.sink import State
from plantroom.wire.database import Database
from plantroom.wire.errors import StorageCorruptError, StorageError

_SQL_FAULTS = ("SQLITE_ERROR", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH")
_INT64 = (-(1 << 63), (1 << 63) - 1)
_ORDINAL = (0, 1 << 62)
_RANGES: Mapping[str, tuple[int, int]] = {
    "sid": (1, (1 << 63) - 1),
    "expiry_s": (0, 0xFFFF_FFFF),
    "delay_s": (0, 0xFFFF_FFFF),
    "options": (0, 0x3F),
    "identifier": (0, VARINT_MAX),
    "packet_id": (1, 0xFFFF),
    "ordinal": _ORDINAL,
    "done": _ORDINAL,
    "sent": _ORDINAL,
    "next": _ORDINAL,
    "at_us": _INT64,
}


def check(database: Database, read: Callable[[sqlite3.Connection], State]) -> None:
    """Read everything that a start reads, as the sink of this database does.

    Raises:
        StorageCorruptError: when any of it is damaged: the database has to be set aside.
    """
    try:
        found = database.write_now(read)
        _check(found)
    except StorageCorruptError as error:
        raise StorageCorruptError(error.what, where=str(database.path)) from error
    except StorageError as error:
        if damaged(error):
            raise StorageCorruptError(error.what, where=error.where) from error
        raise


def damaged(error: StorageError) -> bool:
    """Say whether it is what the file holds: not the disk, a lock, or who may read it."""
    cause = error.__cause__
    if not isinstance(cause, sqlite3.Error):
        return False
    name = getattr(cause, "sqlite_errorname", None)  # Python's own have none: text is not UTF-8
    return name is None or name.startswith(_SQL_FAULTS)


def _check(found: State) -> None:
    if not _within(found.boot, (0, 1 << 31)):
        raise StorageCorruptError(f"{found.boot!r} is no number of starts")
    for record in _records(found):
        for field in fields(record):
            value = getattr(record, field.name)
            if not _sound(field.name, value):
                kind = type(record).__name__
                raise StorageCorruptError(f"{kind} has {field.name} {str(value)[:40]!r}")
    for sid, end in found.waiting:
        if not (_within(sid, _RANGES["sid"]) and _within(end, _ORDINAL)):
            raise StorageCorruptError(f"a queue is of session {sid!r} up to {end!r}")
    for cursor in found.cursors:
        if max(cursor.done, cursor.sent) > cursor.next:
            raise StorageCorruptError(f"session {cursor.sid} is behind its end")


def _records(found: State) -> Iterable[Any]:
    return chain(
        found.sessions,
        found.subscriptions,
        found.walks,
        found.retained,
        found.wills,
        found.incoming,
        found.released,
        found.cursors,
    )


def _sound(name: str, value: object) -> bool:
    if name in _RANGES:
        return _within(value, _RANGES[name])
    if name == "packet":
        return isinstance(value, bytes) and parse_one(value) is not None
    if name == "topic_filter":
        return isinstance(value, str) and filter_fault(value) is None
    if name == "ended_at_us":
        return value is None or _within(value, _INT64)
    return isinstance(value, bool if name in {"open", "finished"} else str)


def _within(value: object, limits: tuple[int, int]) -> bool:
    return isinstance(value, int) and limits[0] <= value <= limits[1]
