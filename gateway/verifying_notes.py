"""Compare the excuses in the gateway's books with the notes that give them, both ways.

What is in quarantine is hashed again, and its record compared with its seal.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from plantroom.gateway import tables
from plantroom.gateway.ingress import FOREIGN, REUSE
from plantroom.gateway.queue_schema import EVICTED, GONE, QUARANTINED, STORED
from plantroom.wire import apart, spans
from plantroom.wire.envelope import Note, note_from
from plantroom.wire.errors import PlantroomError
from plantroom.wire.ranges import RangeSet
from plantroom.wire.seal import column, hashes_to, seal

GATEWAY: Final = "gateway"  # whose is what belongs to no device
TEXT_CHARS: Final = 200
_BY_THE_CLOUD: Final = (FOREIGN, REUSE)  # its receipts say so, no note does
_WORDS: Final = {EVICTED: "evicted", QUARANTINED: "quarantined", GONE: "gone"}
_SEQ_MAX: Final = 2**63 - 1


class Found(NamedTuple):
    """What was changed: whose, where, and how that shows."""

    device: str
    epoch: int
    first: int
    last: int
    what: str


@dataclass(slots=True)
class Notes:
    """What the notes that are still here say; told ones are forgotten after a while."""

    said: dict[tuple[str, int, str, str], RangeSet] = field(default_factory=dict)
    changed: list[Found] = field(default_factory=list)
    whole: bool = True

    def of(self, key: tuple[str, int]) -> Iterator[tuple[str, RangeSet]]:
        """Give what is said of a book: the kind, and which numbers."""
        for (device, epoch, kind, _), ranges in self.said.items():
            if (device, epoch) == key:
                yield kind, ranges


def load(connection: sqlite3.Connection) -> Notes:
    """Read all notes, and name those that are not as they were written."""
    notes = Notes()
    (ever,) = connection.execute(
        "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'note'"
    ).fetchone()
    notes.whole = isinstance(ever, int) and ever <= tables.TOLD_NOTES_MAX
    for author, life, number, device, digest, body in connection.execute(
        "SELECT author, life, number, device, hash, body FROM note"
    ):
        note = _note_of(body)
        known = hashes_to(body, digest) if author == "sensor" else digest == body
        if (
            known
            and note is not None
            and 0 <= note.first <= note.last
            and (note.author, note.life, note.number, note.device) == (author, life, number, device)
        ):
            key = (note.device, note.epoch, note.kind, note.reason)
            notes.said.setdefault(key, RangeSet()).add(note.first, note.last)
            continue
        text = f"altered: tombstone {number} of the {author}'s {life} is not as it was written"
        span = (note.first, note.last) if note and 0 <= note.first <= note.last else (0, 0)
        whose = note.device if note and known else str(device)
        notes.changed.append(Found(whose, note.epoch if note else 0, *span, text[:TEXT_CHARS]))
    return notes


def _note_of(body: object) -> Note | None:
    try:
        return note_from(body)
    except PlantroomError:
        return None


def excuses(
    connection: sqlite3.Connection, book: int, key: tuple[str, int], notes: Notes
) -> Iterator[Found]:
    """Compare what is booked as evicted, quarantined or gone with the notes that say so."""
    if not notes.whole:
        return  # the cloud's, which keeps them all, are compared
    booked = {kind: spans.touching(connection, (book, kind), 0, _SEQ_MAX) for kind in _WORDS}
    for kind, word in _WORDS.items():
        for first, last, reason in booked[kind]:
            if not 0 <= first <= last or (kind == QUARANTINED and reason in _BY_THE_CLOUD):
                continue
            rest = RangeSet([(first, last)])
            for low, high in notes.said.get((*key, word, reason), RangeSet()):
                rest.discard(low, high)
            for low, high in rest:
                yield Found(*key, low, high, f"altered: no tombstone says {word}({reason})"[:200])
    yield from _unbooked(connection, book, key, notes, booked)


def _unbooked(
    connection: sqlite3.Connection,
    book: int,
    key: tuple[str, int],
    notes: Notes,
    booked: dict[int, list[spans.Span]],
) -> Iterator[Found]:
    """Look for what notes say and no book does; a reading that came after all takes it back."""
    if connection.execute(
        "SELECT 1 FROM former_store UNION SELECT 1 FROM meta WHERE name LIKE 'salvaged:%'"
    ).fetchone():
        return  # what a former store or a former file had is not on record here
    for word, ranges in notes.of(key):
        if word == "correction":
            continue
        rest = ranges.copy()
        held = spans.load(connection, (book, STORED))
        for first, last in (
            *held,
            *((a, b) for found in booked.values() for a, b, _ in found if 0 <= a <= b),
        ):
            rest.discard(first, last)
        for first, last in list(rest):
            for (seq,) in connection.execute(
                "SELECT seq FROM reading WHERE book = ? AND seq BETWEEN ? AND ?",
                (book, first, last),
            ):
                rest.discard(seq)
        for first, last in rest:
            yield Found(*key, first, last, f"altered: a tombstone says {word}, no book does")


def set_apart(connection: sqlite3.Connection) -> Iterator[Found]:
    """Hash again what is in quarantine, and compare what is said of it with its seal."""
    total = 0
    for *said, raw, sealed in connection.execute(
        f"SELECT {tables.QUARANTINE_SEALED}, raw, {column(connection, 'quarantine')}"
        " FROM quarantine"
    ):
        device, epoch, first, last, _, _, digest = said[:7]
        total += len(raw) if isinstance(raw, bytes) else 0
        numbers = [n if isinstance(n, int) and n >= 0 else 0 for n in (epoch, first, last)]
        at = (str(device), numbers[0], numbers[1], max(numbers[1:]))
        if raw is not None and not hashes_to(raw, digest):
            yield Found(*at, "altered: its bytes in quarantine are not those received")
        elif sealed is not None and sealed != seal(*said):
            yield Found(*at, "altered: what is said of it in quarantine is not what was written")
    yield from (Found(*each) for each in apart.missing(connection))
    kept = tables.meta(connection, "quarantine_bytes", 0)
    if kept != total:
        text = f"altered: {kept} bytes are counted in quarantine, {total} are there"
        yield Found(GATEWAY, 0, 0, 0, text[:TEXT_CHARS])
