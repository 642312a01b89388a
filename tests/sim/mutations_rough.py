"""Rules that show when people intervene, or bad luck comes in pairs: each broken on purpose."""

import sqlite3
from typing import Any

from plantroom.device.ring import Limits as RingLimits
from plantroom.gateway import quarantine, tables
from plantroom.gateway.posting import Posting
from tests.sim.mutations import Mutation, swap

_plain_quarantine = tables.quarantine


class _Forgetful(Posting):
    """Takes what is replayed, and leaves it at that."""

    def flush(self) -> None:
        """Write nothing."""


def _once_replayed_never_kept(
    connection: sqlite3.Connection, life: Any, device: str, span: Any, **more: Any
) -> bool:
    """Take what comes to quarantine for the second time for what is there already."""
    ended = connection.execute(
        "SELECT 1 FROM quarantine WHERE device = ? AND epoch IS ? AND first IS ? AND hash = ?"
        " AND outcome = 'replayed'",
        (device, span[0], span[1], more["digest"]),
    ).fetchone()
    return ended is None and _plain_quarantine(connection, life, device, span, **more)


_plain_add_note = tables.add_note


def _note_of_this_number(connection: sqlite3.Connection, note: Any, *parts: bytes) -> bool:
    """Take a note for one that is known since a note of its number is: a clone's, perhaps."""
    known = connection.execute(
        "SELECT 1 FROM note WHERE device = ? AND author = ? AND life = ? AND number = ?",
        (note.device, note.author, note.life, note.number),
    ).fetchone()
    return known is None and _plain_add_note(connection, note, *parts)


ROUGH = {"strict": True, "fault_every_s": 3.0, "period_s": 0.5}
KEPT = {"quarantine_bytes_max": 1 << 20, "readings_max": 1000, "policy": "reject"}

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        name="replayed, and not queued",
        change=swap(quarantine, "Posting", _Forgetful),
        faults=("replay-quarantine",),
        plan=ROUGH | {"garble": 0.1},
        limits=KEPT,
    ),
    Mutation(
        name="replayed, unreadable again, and not kept",
        change=swap(tables, "quarantine", _once_replayed_never_kept),
        faults=("replay-quarantine", "kill-gateway"),
        plan=ROUGH | {"poison": 0.1},
        limits=KEPT,
    ),
    Mutation(
        name="a clone's note taken for its original's",
        change=swap(tables, "add_note", _note_of_this_number),
        faults=("clone-sensor", "cut-lan"),
        plan=ROUGH | {"ring": RingLimits(readings_max=4)},
        limits=KEPT,
    ),
)
