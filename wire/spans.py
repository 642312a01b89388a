"""Ranges of a book, kept in SQL: every operation costs what it touches, not what the book holds.

The table is `span(book, kind, first, last, reason)` with the key (book, kind, first). The ranges of
one (book, kind) never overlap; of two reasons for one number, the first stays.
"""

import sqlite3

from plantroom.wire.ranges import RangeSet

Key = tuple[int, int]  # book, kind
Span = tuple[int, int, str]


def touching(connection: sqlite3.Connection, key: Key, low: int, high: int) -> list[Span]:
    """Return the spans of `key` that share a number with `low` to `high`, in order."""
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
    connection: sqlite3.Connection, key: Key, first: int, last: int, reason: str = ""
) -> RangeSet:
    """Add a range and return the part of it that was not in before."""
    new = RangeSet([(first, last)])
    before = connection.execute(
        "SELECT first, last, reason FROM span"
        " WHERE book = ? AND kind = ? AND first <= ? ORDER BY first DESC LIMIT 1",
        (*key, last + 1),
    ).fetchone()
    if before is None or before[1] < first - 1:  # it touches nothing
        _insert(connection, key, new, reason)
        return new
    if before[1] == first - 1 and before[2] == reason:  # it goes on where the last one ends
        connection.execute(
            "UPDATE span SET last = ? WHERE book = ? AND kind = ? AND first = ?",
            (last, *key, before[0]),
        )
        return new
    joined = RangeSet([(first, last)])
    same = []
    for low, high, why in touching(connection, key, first - 1, last + 1):
        new.discard(low, high)
        if why == reason:
            same.append((*key, low))
            joined.add(low, high)
    if not new:
        return new
    for low, high, why in touching(connection, key, first, last):
        if why != reason:
            joined.discard(low, high)
    connection.executemany("DELETE FROM span WHERE book = ? AND kind = ? AND first = ?", same)
    _insert(connection, key, joined, reason)
    return new


def discard(connection: sqlite3.Connection, key: Key, first: int, last: int) -> None:
    """Take a range out, as far as it is in."""
    for low, high, reason in touching(connection, key, first, last):
        connection.execute(
            "DELETE FROM span WHERE book = ? AND kind = ? AND first = ?", (*key, low)
        )
        rest = RangeSet([(low, high)])
        rest.discard(first, last)
        _insert(connection, key, rest, reason)


def within(connection: sqlite3.Connection, key: Key, low: int, high: int) -> RangeSet:
    """Return what of `low` to `high` is in."""
    return RangeSet(
        (max(first, low), min(last, high))
        for first, last, _ in touching(connection, key, low, high)
    )


def load(connection: sqlite3.Connection, key: Key) -> RangeSet:
    """Return every range of `key`; one that cannot be (somebody has changed it) is left out."""
    return RangeSet(
        connection.execute(
            "SELECT first, last FROM span WHERE book = ? AND kind = ?"
            " AND first BETWEEN 0 AND last AND typeof(last) = 'integer' ORDER BY first",
            key,
        )
    )


def highest(connection: sqlite3.Connection, key: Key) -> int:
    """Return the largest number that is in, or -1."""
    row = connection.execute(
        "SELECT last FROM span WHERE book = ? AND kind = ? ORDER BY first DESC LIMIT 1", key
    ).fetchone()
    return -1 if row is None else int(row[0])


def _insert(connection: sqlite3.Connection, key: Key, ranges: RangeSet, reason: str) -> None:
    connection.executemany(
        "INSERT INTO span(book, kind, first, last, reason) VALUES(?, ?, ?, ?, ?)",
        [(*key, first, last, reason) for first, last in ranges],
    )
