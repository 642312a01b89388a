"""Which SVIDs that were issued here are past their time, and which alarms about that are raised.

In the registry's file, so that a restart clears what was raised before it.
"""

from dataclasses import dataclass
from pathlib import Path

from plantroom.certs.registry_file import RegistryFile
from plantroom.wire.spiffe import SpiffeId

OVERDUE_MAX = 1000

MIGRATIONS = {
    "svid_alarm": (
        """
        CREATE TABLE svid_alarm(rule TEXT NOT NULL, spiffe_id TEXT NOT NULL,
            PRIMARY KEY(rule, spiffe_id)) WITHOUT ROWID;
        """,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """An SVID that should have been renewed."""

    spiffe_id: SpiffeId
    not_after_s: int


class SvidAlarms(RegistryFile):
    """The tables; may be called from any thread, one call at a time.

    Raises:
        StorageError: when the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, MIGRATIONS)

    def overdue(self, now_s: float) -> tuple[Overdue, ...]:
        """Return whose newest SVID is past two thirds of its life; not the revoked."""
        rows = self._read(
            "SELECT spiffe_id, not_after_s FROM issued "
            "WHERE ? > at_us / 1e6 + (not_after_s - at_us / 1e6) * 2 / 3 "
            "AND spiffe_id IN (SELECT spiffe_id FROM entry) "
            "AND spiffe_id NOT IN (SELECT name FROM denied WHERE kind = 'id') "
            "ORDER BY not_after_s DESC LIMIT ?",
            now_s,
            OVERDUE_MAX,
        )
        return tuple(
            Overdue(spiffe_id=SpiffeId.parse(name), not_after_s=not_after_s)
            for name, not_after_s in rows
        )

    def raised(self) -> frozenset[tuple[str, SpiffeId]]:
        """Return rule and ID of every alarm that is raised."""
        rows = self._read("SELECT rule, spiffe_id FROM svid_alarm")
        return frozenset((rule, SpiffeId.parse(name)) for rule, name in rows)

    def note(self, rule: str, spiffe_id: SpiffeId, *, raised: bool) -> None:
        """Keep that an alarm was raised, or is over."""
        row = (rule, str(spiffe_id))
        sql = (
            "INSERT OR IGNORE INTO svid_alarm VALUES(?,?)"
            if raised
            else "DELETE FROM svid_alarm WHERE rule = ? AND spiffe_id = ?"
        )
        self._write(lambda c: c.execute(sql, row))
