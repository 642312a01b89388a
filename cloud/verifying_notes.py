"""Compare the excuses in the store's books with the tombstones that gave them, both ways.

What was set apart is hashed again, and its record compared with its seal.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

from plantroom.cloud import quarantine
from plantroom.cloud.readback import BookRef
from plantroom.cloud.store import Altered
from plantroom.cloud.store_schema import EVICTED, GONE, QUARANTINED, STORED
from plantroom.wire import apart, spans
from plantroom.wire.envelope import Note, note_from
from plantroom.wire.errors import EnvelopeError
from plantroom.wire.ranges import RangeSet
from plantroom.wire.seal import column, hashes_to, seal

_KINDS: Final = {EVICTED: "evicted", QUARANTINED: "quarantined", GONE: "gone"}
_SEQ_MAX: Final = 2**63 - 1
TEXT_CHARS: Final = 200
Key = tuple[str, int]


class Notes:
    """Every tombstone in the store, by the book that it speaks of; loaded once for all books."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._whole: dict[Key, list[tuple[str, Note]]] = {}
        self._changed: dict[Key, list[Altered]] = {}
        for owner, life, number, digest, received_us, body, sealed in connection.execute(
            "SELECT owner, life, number, hash, received_us, body,"
            f" {column(connection, 'note')} FROM note"
        ):
            try:
                note: Note | None = note_from(body)
            except EnvelopeError:
                note = None
            said = (owner, life, number, digest, received_us)
            is_whole = hashes_to(body, digest) and sealed in {None, seal(*said)}
            if note is not None and is_whole and 0 <= note.first <= note.last:
                self._whole.setdefault((note.device, note.epoch), []).append((owner, note))
                continue
            text = f"altered: tombstone {number} of {owner} is not the one that was received"
            key = (note.device, note.epoch) if note else (str(owner), -1)
            span = (note.first, note.last) if note and 0 <= note.first <= note.last else (0, 0)
            self._changed.setdefault(key, []).append(Altered(*span, text[:TEXT_CHARS]))

    def of(self, ref: BookRef) -> list[Note]:
        """Return those about a book whose bytes are still those of their hash."""
        return [note for _, note in self._whole.get((ref.spiffe_id, ref.epoch), [])]

    def applied(self, ref: BookRef) -> Iterator[Note]:
        """Give those of them that changed the book: not what another site's gateway said."""
        for owner, note in self._whole.get((ref.spiffe_id, ref.epoch), []):
            if ref.site == owner.partition("/")[0] or owner == ref.spiffe_id:
                yield note

    def changed(self, ref: BookRef) -> list[Altered]:
        """Return the others; where not even their book can be read, it is their owner's."""
        return [each for key in self._keys(ref) for each in self._changed.get(key, ())]

    @staticmethod
    def _keys(ref: BookRef) -> tuple[Key, ...]:
        return (ref.spiffe_id, ref.epoch), (ref.spiffe_id, -1), (f"{ref.site}/gateway", -1)

    def strays(self, refs: Iterable[BookRef]) -> Iterator[tuple[Key, Altered]]:
        """Give what was changed and is of no book."""
        known = {key for ref in refs for key in self._keys(ref)}
        for (owner, epoch), found in self._changed.items():
            if (owner, epoch) not in known:
                yield from (((owner, max(0, epoch)), each) for each in found)


def excuses(connection: sqlite3.Connection, ref: BookRef, notes: Notes) -> Iterator[Altered]:
    """Compare the books' excuses with the tombstones that gave them."""
    told: dict[tuple[str, str], RangeSet] = {}
    for note in notes.of(ref):
        told.setdefault((note.kind, note.reason), RangeSet()).add(note.first, note.last)
    for kind, word in _KINDS.items():
        for first, last, reason in spans.touching(connection, (ref.id, kind), 0, _SEQ_MAX):
            if not 0 <= first <= last:
                continue  # named as what cannot be
            rest = RangeSet([(first, last)])
            for low, high in told.get((word, reason), RangeSet()):
                rest.discard(low, high)
            for low, high in rest:
                text = f"altered: no tombstone says {word}({reason})"
                yield Altered(low, high, text[:TEXT_CHARS])
    yield from _unbooked(connection, ref, notes)


def _unbooked(connection: sqlite3.Connection, ref: BookRef, notes: Notes) -> Iterator[Altered]:
    """Look for what tombstones say, and neither a book nor a stronger state does."""
    said: dict[str, RangeSet] = {}
    for note in notes.applied(ref):
        said.setdefault(note.kind, RangeSet()).add(note.first, note.last)
    for kind, word in _KINDS.items():
        rest = said.get(word, RangeSet())
        for stronger in range(STORED, kind + 1):
            for low, high in spans.load(connection, (ref.id, stronger)):
                rest.discard(low, high)
        for low, high in rest:
            yield Altered(low, high, f"altered: a tombstone says {word}, and the book does not")


def set_apart(connection: sqlite3.Connection) -> Iterator[tuple[Key, Altered]]:
    """Hash again what is in quarantine, and compare what is said of it with its seal."""
    for *said, raw, sealed in connection.execute(
        f"SELECT {quarantine.SEALED}, raw, {column(connection, 'quarantine')} FROM quarantine"
    ):
        device, epoch, seq, digest = said[:4]
        numbers = [n if isinstance(n, int) and n >= 0 else 0 for n in (epoch, seq)]
        text = ""
        if raw is not None and not hashes_to(raw, digest):
            text = "altered: its bytes in quarantine are not those received"
        elif sealed is not None and sealed != seal(*said):
            text = "altered: what is said of it in quarantine is not what was written"
        if text:
            yield (str(device), numbers[0]), Altered(numbers[1], numbers[1], text)
    for each in apart.missing(connection):
        yield (each.device, each.epoch), Altered(*each[2:])
