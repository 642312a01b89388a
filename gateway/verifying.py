"""Hash again what lies in the queue, and compare it with what was booked when it was received.

A reading whose bytes are not those of its hash, or not of its key, is named alone. One that was
changed together with its hash is found by its segment's digest, where the whole segment lies here.
Tombstones, the excuses that they give, and what is in quarantine are compared as well.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from plantroom.gateway import books, stored, tables
from plantroom.gateway.ingress import FOREIGN, REUSE, note_from
from plantroom.gateway.queue_schema import (
    AGAIN,
    CONFIRMED,
    EVICTED,
    GONE,
    QUARANTINED,
    RECEIVED,
    WAITING,
)
from plantroom.wire import spans
from plantroom.wire.errors import PlantroomError
from plantroom.wire.ranges import RangeSet, runs

_MODULUS: Final = 1 << 256
_STATES: Final = (WAITING, AGAIN, CONFIRMED)
_BY_THE_CLOUD: Final = (FOREIGN, REUSE)  # its receipts say so, no note does
ROWS: Final = "altered: the gateway's rows are not those that were received"
_WORDS: Final = {EVICTED: "evicted", QUARANTINED: "quarantined", GONE: "gone"}
Range = tuple[int, int]


class Found(NamedTuple):
    """What was changed: whose, where, and how that shows."""

    device: str
    epoch: int
    first: int
    last: int
    what: str


@dataclass(slots=True)
class _Notes:
    """What the notes that are still here say; told ones are forgotten after a while."""

    said: dict[tuple[str, int, str, str], RangeSet] = field(default_factory=dict)
    changed: list[Found] = field(default_factory=list)
    whole: bool = True


def _notes(connection: sqlite3.Connection) -> _Notes:
    notes = _Notes()
    (first,) = connection.execute("SELECT ifnull(min(id), 1) FROM note").fetchone()
    notes.whole = first == 1
    for author, life, number, device, digest, body in connection.execute(
        "SELECT author, life, number, device, hash, body FROM note"
    ):
        try:
            note = note_from(body) if isinstance(body, bytes) else None
        except PlantroomError:
            note = None
        known = _hashes_to(body, digest) if author == "sensor" else digest == body
        if note is not None and known and (note.device, note.number) == (device, number):
            key = (note.device, note.epoch, note.kind, note.reason)
            notes.said.setdefault(key, RangeSet()).add(note.first, note.last)
        else:
            text = f"altered: tombstone {number} of the {author}'s {life} is not as it was written"
            span = (note.first, note.last) if note and 0 <= note.first <= note.last else (0, 0)
            notes.changed.append(Found(device, note.epoch if note else 0, *span, text[:200]))
    return notes


def _hashes_to(body: object, digest: object) -> bool:
    """Say whether bytes are those of a hash; a changed column may hold anything at all."""
    return isinstance(body, bytes) and sha256(body).digest() == digest


def _excuses(
    connection: sqlite3.Connection, book: int, key: tuple[str, int], notes: _Notes
) -> Iterator[Found]:
    """Compare what is booked as evicted, quarantined or gone with the notes that say so."""
    if not notes.whole:
        return  # the cloud's, which keeps them all, are compared
    for kind, word in _WORDS.items():
        for first, last, reason in spans.touching(connection, (book, kind), 0, 2**63 - 1):
            if kind == QUARANTINED and reason in _BY_THE_CLOUD:
                continue
            rest = RangeSet([(first, last)])
            for low, high in notes.said.get((*key, word, reason), RangeSet()):
                rest.discard(low, high)
            for low, high in rest:
                yield Found(*key, low, high, f"altered: no tombstone says {word}({reason})"[:200])


def _set_apart(connection: sqlite3.Connection) -> Iterator[Found]:
    """Hash again what is in quarantine."""
    for device, epoch, first, last, digest, raw in connection.execute(
        "SELECT device, epoch, first, last, hash, raw FROM quarantine WHERE raw NOT NULL"
    ):
        if not _hashes_to(raw, digest):
            text = "altered: its bytes in quarantine are not those received"
            yield Found(device, epoch or 0, first or 0, last or 0, text)


def altered(connection: sqlite3.Connection) -> Iterator[Found]:
    """Give everything that was changed, on one snapshot."""
    found = _notes(connection)
    for book, device, epoch in connection.execute(
        "SELECT id, device, epoch FROM book ORDER BY device, epoch"
    ).fetchall():
        for first, last in _altered(connection, book, (device, epoch)):
            yield Found(device, epoch, first, last, ROWS)
        yield from _excuses(connection, book, (device, epoch), found)
    yield from _set_apart(connection)
    yield from found.changed


def missing(connection: sqlite3.Connection, device: str, epoch: int, queued: RangeSet) -> RangeSet:
    """Return what of the numbers that should wait here has no row that waits."""
    rest = queued.copy()
    again = tables.meta(connection, "requeue_last") is not None
    for (seq,) in connection.execute(
        "SELECT r.seq FROM reading r JOIN book b ON b.id = r.book"
        " WHERE b.device = ? AND b.epoch = ? AND r.state IN (?, ?, ?)",
        (device, epoch, WAITING, AGAIN, CONFIRMED if again else WAITING),
    ):
        rest.discard(seq)
    return rest


def _altered(connection: sqlite3.Connection, book: int, key: tuple[str, int]) -> list[Range]:
    expected = spans.load(connection, (book, RECEIVED))
    for kind in (EVICTED, QUARANTINED):
        for first, last in spans.load(connection, (book, kind)):
            expected.discard(first, last)
    bad: list[int] = []
    here = RangeSet()
    sums: dict[int, int] = {}
    for seq, digest, held, state, size in connection.execute(
        "SELECT seq, hash, body, state, size FROM reading WHERE book = ? ORDER BY seq", (book,)
    ):
        body = held if isinstance(held, bytes) else b""  # a changed column may hold anything
        found = sha256(body).digest()
        sane = state in _STATES and size == tables.size_of(body)
        if found != digest or not sane or not _is_of(body, (*key, seq)):
            bad.append(seq)
        if seq in expected:
            here.add(seq)
            segment = seq // books.SEGMENT_SEQS
            sums[segment] = (sums.get(segment, 0) + int.from_bytes(found)) % _MODULUS
    wrong = list(runs(bad))
    booked = books.digests(connection, book)
    for segment, total in sums.items():
        first = segment * books.SEGMENT_SEQS
        last = first + books.SEGMENT_SEQS - 1
        if any(low <= last and high >= first for low, high in wrong):
            continue  # named already, more exactly
        is_whole = _within(here, first, last) == _within(expected, first, last)
        if is_whole and booked.get(segment) != total.to_bytes(32):
            wrong.append((first, last))
    return sorted(wrong)


def _is_of(body: bytes, key: tuple[str, int, int]) -> bool:
    try:
        return tuple(stored.fields(body)[:3]) == key
    except Exception:  # noqa: BLE001 -- changed bytes are anything at all: not this reading's
        return False


def _within(ranges: RangeSet, first: int, last: int) -> list[Range]:
    return [(max(a, first), min(b, last)) for a, b in ranges if a <= last and b >= first]
