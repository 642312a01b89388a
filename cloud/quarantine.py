"""Readings that the SQLite store refuses to mix with the others: kept apart, with the reason."""

import sqlite3

from plantroom.cloud.store import Delivery
from plantroom.wire.reading import Reading


class Quarantine:
    """Keeps refused readings, keyed by (device, epoch, seq, hash).

    At most `raw_bytes_max` bytes of them are kept; beyond that key, hash and reason only.
    """

    def __init__(self, raw_bytes_max: int) -> None:
        self._raw_bytes_max = raw_bytes_max
        self._raw_bytes: int | None = None

    def forget(self) -> None:
        """Forget how much is kept: a transaction was rolled back."""
        self._raw_bytes = None

    def add(
        self, connection: sqlite3.Connection, delivery: Delivery, reading: Reading, reason: str
    ) -> bool:
        """Keep a reading; False when the same one is there already."""
        if self._raw_bytes is None:
            (self._raw_bytes,) = connection.execute(
                "SELECT COALESCE(SUM(LENGTH(raw)), 0) FROM quarantine"
            ).fetchone()
        raw = reading.canonical()
        kept = raw if self._raw_bytes + len(raw) <= self._raw_bytes_max else None
        done = connection.execute(
            "INSERT OR IGNORE INTO quarantine(device, epoch, seq, hash, site, reason, at_us, raw)"
            " VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
            (
                reading.device,
                reading.epoch,
                reading.seq,
                reading.hash(),
                delivery.site,
                reason,
                delivery.received_us,
                kept,
            ),
        )
        if done.rowcount and kept is not None:
            self._raw_bytes += len(raw)
        return bool(done.rowcount)
