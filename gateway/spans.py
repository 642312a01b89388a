"""Ranges of a book, kept in SQL: every operation costs what it touches, not what the book holds.

The ranges of one (book, kind) never overlap; of two reasons for one number, the first stays.
"""

import sqlite3

from plantroom.wire.ranges import RangeSet

Span = tuple[int, int, str]


def touching(
    connection: sqlite3.Connection, key: tuple[int, int], low: int, high: int
) -> list[Span]:
    """Return the spans of `key` (book, kind) that share a number with `low` to `high`, in order."""
    found = []
    for first, last, reason in connection.execute(
        "SELECT first, last, reason FROM span"
        " WHERE book = ? AND kind = ? AND first <= ? ORDER BY first DESC",
        (*key, high),
    ):
        if last < low:
            break
        found.append((first, last, reason))
    return found[::-1]


def add(
    connection: sqlite3.Connection, key: tuple[int, int], first: int, last: int, reason: str = ""
) -> RangeSet:
    """Add a range and return the part of it that was not in before."""
    new = RangeSet([(first, last)])
    same = []
    joined = RangeSet([(first, last)])
    for span in touching(connection, key, first - 1, last + 1):
        new.discard(span[0], span[1])
        if span[2] == reason:
            same.append(span)
            joined.add(span[0], span[1])
    if not new:
        return new
    for span in touching(connection, key, first, last):
        if span[2] != reason:
            joined.discard(span[0], span[1])
    connection.executemany(
        "DELETE FROM span WHERE book = ? AND kind = ? AND first = ?",
        [(*key, span[0]) for span in same],
    )
    connection.executemany(
        "INSERT INTO span(book, kind, first, last, reason) VALUES(?, ?, ?, ?, ?)",
        [(*key, low, high, reason) for low, high in joined],
    )
    return new


def discard(connection: sqlite3.Connection, key: tuple[int, int], first: int, last: int) -> None:
    """Take a range out, as far as it is in."""
    for low, high, reason in touching(connection, key, first, last):
        connection.execute(
            "DELETE FROM span WHERE book = ? AND kind = ? AND first = ?", (*key, low)
        )
        rest = RangeSet([(low, high)])
        rest.discard(first, last)
        connection.executemany(
            "INSERT INTO span(book, kind, first, last, reason) VALUES(?, ?, ?, ?, ?)",
            [(*key, a, b, reason) for a, b in rest],
        )


def within(connection: sqlite3.Connection, key: tuple[int, int], low: int, high: int) -> RangeSet:
    """Return what of `low` to `high` is in."""
    return RangeSet(
        (max(first, low), min(last, high))
        for first, last, _ in touching(connection, key, low, high)
    )


def load(connection: sqlite3.Connection, key: tuple[int, int]) -> RangeSet:
    """Return every range of (book, kind)."""
    return RangeSet(
        connection.execute(
            "SELECT first, last FROM span WHERE book = ? AND kind = ? ORDER BY first", key
        )
    )


def highest(connection: sqlite3.Connection, key: tuple[int, int]) -> int:
    """Return the largest number that is in, or -1."""
    row = connection.execute(
        "SELECT last FROM span WHERE book = ? AND kind = ? ORDER BY first DESC LIMIT 1", key
    ).fetchone()
    return -1 if row is None else int(row[0])
