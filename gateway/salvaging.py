"""Which files were set aside, in the queue's own tables, and what follows for what is missing.

A file that is not yet brought back may still hold a reading; one that is may hold it unread.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from plantroom.gateway import books, tables
from plantroom.wire.envelope import Note, note_bytes

_DONE: Final = "salvaged:"
_ASIDE: Final = "set-aside"
_UNDER_WAY: Final = "salvaging"


def begin(connection: sqlite3.Connection, files: Sequence[Path]) -> None:
    """Note, before anything is served, that files were set aside; or that none is left."""
    tables.set_meta(connection, _ASIDE, files[-1].name if files else None)
    waiting = bool(unsalvaged(connection, files))
    tables.set_meta(connection, _UNDER_WAY, 1 if waiting else None)


def unsalvaged(connection: sqlite3.Connection, files: Sequence[Path]) -> list[Path]:
    """Return the files that have not been brought back."""
    return [file for file in files if tables.meta(connection, _DONE + file.name) is None]


def done(connection: sqlite3.Connection, file: Path, files: Sequence[Path]) -> None:
    """Note that a file, one of `files`, has been brought back as far as it can be."""
    tables.set_meta(connection, _DONE + file.name, 1)
    begin(connection, files)


def book(
    connection: sqlite3.Connection,
    heads: Iterable[tuple[str, int, int]],
    notes: Iterable[Note],
) -> None:
    """Book heads and notes that were brought back."""
    for device, epoch, highest in heads:
        if epoch >= 0 and highest >= 0:
            books.raise_highest(connection, books.book_of(connection, device, epoch), highest)
    for note in notes:
        body = note_bytes(note)
        digest = sha256(body).digest() if note.author == "sensor" else body
        tables.add_note(connection, note, digest, body)


def is_under_way(connection: sqlite3.Connection) -> bool:
    """Say whether a file may still give back what is missing."""
    return tables.meta(connection, _UNDER_WAY) is not None


def file_at_fault(connection: sqlite3.Connection) -> str | None:
    """Return the name of the file that may hold what is missing here, if one was set aside."""
    name = tables.meta(connection, _ASIDE)
    return None if name is None else str(name)
