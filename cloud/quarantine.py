"""Readings that the SQLite store refuses to mix with the others: kept apart, with the reason.

What is there can be looked at, replayed after a fix, or dropped with a reason, on the store's file,
whether a cloud runs there or not.
"""

import sqlite3
from typing import Final

from plantroom.cloud.store import Delivery
from plantroom.wire import apart
from plantroom.wire.errors import CheckFailedError
from plantroom.wire.quarantined import DROPPED, REPLAYED, Quarantined, why_not
from plantroom.wire.reading import Reading
from plantroom.wire.seal import seal

SEALED: Final = (
    "device, epoch, seq, hash, site, reason, at_us, outcome, outcome_us, raw IS NOT NULL"
)
NAME_CHARS: Final = 12  # of the hash, which is of the key too: two items never share it


class Quarantine:
    """Keeps refused readings, keyed by (device, epoch, seq, hash).

    At most `raw_bytes_max` bytes of them are kept; beyond that key, hash and reason only.
    """

    def __init__(self, raw_bytes_max: int) -> None:
        self._raw_bytes_max = raw_bytes_max
        self._raw_bytes: int | None = None
        self._version = 0

    def forget(self) -> None:
        """Forget how much is kept: a transaction was rolled back."""
        self._raw_bytes = None

    def add(
        self, connection: sqlite3.Connection, delivery: Delivery, reading: Reading, reason: str
    ) -> bool:
        """Keep a reading; False when the same one is there already."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if self._raw_bytes is None or version != self._version:  # an operator was here
            self._version = version
            (self._raw_bytes,) = connection.execute(
                "SELECT COALESCE(SUM(LENGTH(raw)), 0) FROM quarantine"
            ).fetchone()
        raw = reading.canonical()
        kept = raw if self._raw_bytes + len(raw) <= self._raw_bytes_max else None
        key = (reading.device, reading.epoch, reading.seq, reading.hash())
        said = (*key, delivery.site, reason, delivery.received_us)
        done = connection.execute(
            "INSERT OR IGNORE INTO"
            " quarantine(device, epoch, seq, hash, site, reason, at_us, raw, seal)"
            " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*said, kept, seal(*said, "", None, int(kept is not None))),
        )
        if not done.rowcount:
            return False
        apart.count(connection, reading.device, reading.epoch, reading.seq, reading.seq)
        if kept is not None:
            self._raw_bytes += len(raw)
        return True


def items(connection: sqlite3.Connection) -> list[Quarantined]:
    """Return everything that was ever set apart here, oldest first."""
    rows = connection.execute(
        "SELECT device, epoch, seq, hash, site, reason, at_us, length(raw), outcome, outcome_us"
        " FROM quarantine ORDER BY at_us, device, epoch, seq"
    )
    return [
        Quarantined(
            name=bytes(digest).hex()[:NAME_CHARS],
            device=device,
            epoch=epoch,
            first=seq,
            last=seq,
            reason=reason,
            text=f"from {site}",
            hash=bytes(digest),
            at_us=at_us,
            size=size,
            outcome=outcome,
            outcome_us=outcome_us,
        )
        for device, epoch, seq, digest, site, reason, at_us, size, outcome, outcome_us in rows
    ]


_OF: Final = " WHERE device = ? AND epoch = ? AND seq = ? AND hash = ?"


def _key(item: Quarantined) -> tuple[object, ...]:
    return item.device, item.epoch, item.first, item.hash


def raw(connection: sqlite3.Connection, item: Quarantined) -> bytes | None:
    """Return the bytes of an item, as far as they are kept."""
    row = connection.execute(f"SELECT raw FROM quarantine{_OF}", _key(item)).fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


def site_of(connection: sqlite3.Connection, item: Quarantined) -> str:
    """Return the site whose gateway sent it."""
    row = connection.execute(f"SELECT site FROM quarantine{_OF}", _key(item)).fetchone()
    return str(row[0])


def drop(connection: sqlite3.Connection, item: Quarantined, why: str, at_us: int) -> None:
    """Give an item up: its bytes go; key, hash, reason and why it went stay on record."""
    if item.outcome:
        raise CheckFailedError(why_not(item), where=item.name)
    _end(connection, item, DROPPED + why, at_us)


def replayed(connection: sqlite3.Connection, item: Quarantined, at_us: int) -> None:
    """Note that an item was taken after all."""
    _end(connection, item, REPLAYED, at_us)


def _end(connection: sqlite3.Connection, item: Quarantined, outcome: str, at_us: int) -> None:
    connection.execute(
        f"UPDATE quarantine SET raw = NULL, outcome = ?, outcome_us = ?{_OF}",
        (outcome, at_us, *_key(item)),
    )
    row = connection.execute(f"SELECT {SEALED} FROM quarantine{_OF}", _key(item)).fetchone()
    connection.execute(f"UPDATE quarantine SET seal = ?{_OF}", (seal(*row), *_key(item)))
