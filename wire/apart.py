"""How much was ever set apart of each (device, epoch): a row that was deleted since is missed.

A quarantine keeps a record of everything, for good: what was replayed or dropped has only given
its bytes up. Its tables share this one in the store's file and in the queue's.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final, NamedTuple

from plantroom.wire.seal import seal

SCHEMA: Final = """
CREATE TABLE apart(
    device TEXT NOT NULL, epoch INTEGER NOT NULL, items INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, seal INTEGER,
    PRIMARY KEY(device, epoch)) WITHOUT ROWID;
"""  # no seal: counted when an older file was brought up to date
UNKNOWN: Final = -1  # the epoch of what does not say any


class Missing(NamedTuple):
    """Of which device and epoch records are not as many as were made; within which range."""

    device: str
    epoch: int
    first: int
    last: int
    what: str


def count(connection: sqlite3.Connection, device: str, epoch: int, first: int, last: int) -> None:
    """Count one more item."""
    row = connection.execute(
        "SELECT items, first, last FROM apart WHERE device = ? AND epoch = ?", (device, epoch)
    ).fetchone()
    items, low, high = row or (0, first, last)
    said = (device, epoch, items + 1, min(low, first), max(high, last))
    connection.execute(
        "INSERT OR REPLACE INTO apart VALUES(?, ?, ?, ?, ?, ?)", (*said, seal(*said))
    )


def missing(connection: sqlite3.Connection) -> Iterator[Missing]:
    """Compare what was counted with the records in `quarantine`; a former file has no count."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'apart'").fetchone():
        return
    there = {
        (device, epoch): items
        for device, epoch, items in connection.execute(
            "SELECT device, ifnull(epoch, ?) AS at, count(*) FROM quarantine GROUP BY device, at",
            (UNKNOWN,),
        )
    }
    for *said, sealed in connection.execute("SELECT * FROM apart"):
        device, epoch, items, first, last = said
        found = there.pop((device, epoch), 0)
        if found != items or sealed not in {None, seal(*said)}:
            sane = all(isinstance(n, int) for n in (epoch, first, last)) and 0 <= first <= last
            at, low, high = (max(0, epoch), first, last) if sane else (0, 0, 0)
            text = f"altered: {items} were set apart, of which {found} are on record"
            yield Missing(str(device), at, low, high, text[:200])
    for (device, epoch), found in there.items():
        known = max(0, epoch) if isinstance(epoch, int) else 0
        text = f"altered: {found} set apart are on record, and none was counted"
        yield Missing(str(device), known, 0, 0, text)
