"""Look for what cannot be in the gateway's books, and compare its counters with what they count."""

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from plantroom.gateway import books, ingress, stored, tables
from plantroom.gateway.ingress import Arrival
from plantroom.gateway.queue_schema import (
    CONFIRMED,
    GONE,
    KINDS,
    QUARANTINED,
    RECEIVED,
    STORED,
    TAP,
)
from plantroom.gateway.verifying_notes import GATEWAY, TEXT_CHARS, Found
from plantroom.wire import spans
from plantroom.wire.errors import PlantroomError
from plantroom.wire.ranges import RangeSet, runs
from plantroom.wire.seal import column, seal

_COMPLAINTS_MAX: Final = 20
_ROW: Final = re.compile(r"row (\d+) missing from index reading_")
_META: Final = "incarnation|note_number|running_us|quarantine_bytes|store_id|store_commit|tap_part"
_NAMES: Final = re.compile(
    rf"({_META}|requeue_next|requeue_last|set-aside|salvaging|unranged:.*|rolled-back:\d+"
    r"|salvaged:.*|store_heard:.*)"
)


class Published(Arrival, Protocol):
    """A message with whoever published it."""

    @property
    def spiffe_id(self) -> str: ...  # noqa: D102


class Segments(NamedTuple):
    """How the broker's segments are read: as they were written, and what is left of damaged ones.

    `of`: gives the tapped messages, and an error where a byte was changed.
    """

    of: Callable[[bytes], Iterable[Published]]
    left_of: Callable[[bytes], Iterable[Published]]


def book(connection: sqlite3.Connection, number: int, key: tuple[str, int]) -> Iterator[Found]:
    """Check one book by itself: its ranges, its highest number, its digests."""
    highest, own, sealed = connection.execute(
        f"SELECT highest, own, {column(connection, 'book')} FROM book WHERE id = ?", (number,)
    ).fetchone()
    top = -1
    ends: dict[int, int] = {}
    for kind, first, last, reason in connection.execute(
        "SELECT kind, first, last, reason FROM span WHERE book = ? ORDER BY kind, first", (number,)
    ):
        sane = all(isinstance(n, int) for n in (kind, first, last)) and 0 <= first <= last
        if not sane or kind not in KINDS or first <= ends.get(kind, -1):
            low, high = (first, last) if sane else (0, max(0, highest))
            yield Found(*key, low, high, "altered: a range in the books that cannot be")
            continue
        if kind in {RECEIVED, STORED} and reason:
            yield Found(*key, first, last, "altered: a range in the books has a reason")
        ends[kind] = last
        top = top if kind == GONE else max(top, last)  # a sensor may say that of any number
    known = max(0, top)
    if highest < top or (sealed is not None and sealed != seal(number, highest, own)):
        text = f"altered: its highest number is booked as {highest}"
        yield Found(*key, known, max(known, highest), text[:TEXT_CHARS])
    yield from _receipts(connection, number, key)
    yield from _digests(connection, number, key)


def _receipts(connection: sqlite3.Connection, number: int, key: tuple[str, int]) -> Iterator[Found]:
    """Look for rows that count as confirmed, and of which no receipt is on record; and strays."""
    settled = RangeSet()
    for kind in (STORED, QUARANTINED):
        for first, last in spans.load(connection, (number, kind)):
            settled.add(first, last)
    received = spans.load(connection, (number, RECEIVED))
    waits = tables.meta(connection, "requeue_last") is not None
    loose, unconfirmed = [], []
    for seq, state in connection.execute(
        "SELECT seq, state FROM reading WHERE book = ? ORDER BY seq", (number,)
    ):
        if not isinstance(seq, int) or seq < 0:
            continue  # its row is named
        if seq not in received:
            loose.append(seq)
        elif state == CONFIRMED and not waits and seq not in settled:
            unconfirmed.append(seq)
    for first, last in runs(loose):
        yield Found(*key, first, last, "altered: its rows are here, and not booked as received")
    for first, last in runs(unconfirmed):
        yield Found(*key, first, last, "altered: confirmed, and no receipt is on record")


def _digests(connection: sqlite3.Connection, number: int, key: tuple[str, int]) -> Iterator[Found]:
    """Look for segments of which something was received, and whose digest has gone."""
    expected = spans.load(connection, (number, RECEIVED))
    for kind in KINDS.keys() - {RECEIVED, STORED, GONE}:
        for first, last in spans.load(connection, (number, kind)):
            expected.discard(first, last)
    size = books.SEGMENT_SEQS
    there = books.digests(connection, number).keys()
    wanted = {n for a, b in expected for n in range(a // size, b // size + 1)}
    for segment in sorted(wanted - there):
        first, last = segment * size, (segment + 1) * size - 1
        inside = [b for a, b in expected if a <= last and b >= first]
        at = (first, min(last, max(inside, default=last)))
        yield Found(*key, *at, "altered: the digest of what was received is not there")


def strays(connection: sqlite3.Connection) -> Iterator[Found]:
    """Look for rows of books that are not there: they are of whom their readings say."""
    for table in ("span", "digest", "reading"):
        for (number,) in connection.execute(
            f"SELECT DISTINCT book FROM {table} WHERE book NOT IN (SELECT id FROM book)"
        ).fetchall():
            found = (GATEWAY, 0, 0, 0)
            if table == "reading":
                found = _named_by(connection, number)
            elif table == "span":
                first, last = connection.execute(
                    "SELECT min(first), max(last) FROM span WHERE book = ?", (number,)
                ).fetchone()
                sane = isinstance(first, int) and isinstance(last, int) and 0 <= first <= last
                device, epoch, *_ = _named_by(connection, number)
                found = (device, epoch, *((first, last) if sane else (0, 0)))
            text = f"altered: rows of a book {number} that is not there"
            yield Found(*found, text[:TEXT_CHARS])


def _named_by(connection: sqlite3.Connection, number: int) -> tuple[str, int, int, int]:
    """Return of which device and epoch the rows of a book are, and which numbers they have."""
    seqs = []
    device, epoch = GATEWAY, 0
    for (body,) in connection.execute("SELECT body FROM reading WHERE book = ?", (number,)):
        try:
            device, epoch, seq = stored.fields(body)[:3]
        except Exception:  # noqa: BLE001, S112 -- changed bytes are anything at all
            continue
        seqs.append(seq)
    return device, epoch, min(seqs, default=0), max(seqs, default=0)


def counters(connection: sqlite3.Connection) -> Iterator[Found]:
    """Compare what is counted with what is there."""
    counted = {
        state: (n, size)
        for state, n, size in connection.execute("SELECT state, readings, bytes FROM depth")
    }
    there = dict.fromkeys(range(CONFIRMED + 1), (0, 0))
    for state, n, size in connection.execute(
        "SELECT state, count(*), sum(size) FROM reading GROUP BY state"
    ):
        there[state] = (n, size)
    if counted != there:
        yield from _uncounted(connection, counted, there)
    yield from _numbers(connection)
    for name, value in connection.execute("SELECT name, value FROM meta"):
        if value is None or not (isinstance(name, str) and _NAMES.fullmatch(name)):
            yield Found(GATEWAY, 0, 0, 0, f"altered: nothing is known of a {name!r}"[:TEXT_CHARS])


def _numbers(connection: sqlite3.Connection) -> Iterator[Found]:
    """Compare the next number that the gateway gives, to readings and to notes, with the last."""
    life = tables.meta(connection, "incarnation")
    (last,) = connection.execute(
        "SELECT max(number) FROM note WHERE author = 'gateway' AND life = ?", (life,)
    ).fetchone()
    following = tables.meta(connection, "note_number", 0)
    if last is not None and following <= last:
        text = f"altered: the next tombstone is to have number {following}, the last has {last}"
        yield Found(GATEWAY, 0, 0, 0, text[:TEXT_CHARS])
    for device, epoch, highest in connection.execute(
        "SELECT device, epoch, highest FROM book WHERE own = 1"
        " AND device NOT IN (SELECT device FROM numbering)"
    ):
        text = "altered: which number follows is not on record"
        yield Found(device, epoch, max(0, highest), max(0, highest), text)
    for device, epoch, following in connection.execute("SELECT device, epoch, next FROM numbering"):
        row = connection.execute(
            "SELECT id FROM book WHERE device = ? AND epoch = ?", (device, epoch)
        ).fetchone()
        highest = spans.highest(connection, (row[0], RECEIVED)) if row else -1
        if following != highest + 1:
            at = (str(device), epoch if isinstance(epoch, int) else 0, max(0, highest))
            text = f"altered: the next number is {following} after {highest}"
            yield Found(*at, max(0, highest), text[:TEXT_CHARS])


def _uncounted(
    connection: sqlite3.Connection, counted: dict[int, tuple[int, int]], there: object
) -> Iterator[Found]:
    """Name rows that may have gone: confirmed ones between those of their books that are here."""
    text = f"altered: queued and confirmed were counted {counted}, there are {there}"[:TEXT_CHARS]
    named = False
    for number, device, epoch in connection.execute("SELECT id, device, epoch FROM book"):
        gaps = spans.load(connection, (number, STORED))
        for (seq,) in connection.execute("SELECT seq FROM reading WHERE book = ?", (number,)):
            if isinstance(seq, int) and seq >= 0:
                gaps.discard(seq)
        for first, last in gaps:
            named = True
            yield Found(device, epoch, first, last, text)
    if not named:
        yield Found(GATEWAY, 0, 0, 0, text)


def structure(connection: sqlite3.Connection) -> Iterator[Found]:
    """Have SQLite look through its own pages, and name the readings whose rows it complains of."""
    for (complaint,) in connection.execute(f"PRAGMA integrity_check({_COMPLAINTS_MAX})"):
        if complaint == "ok":
            return
        at = (GATEWAY, 0, 0, 0)
        row = _ROW.search(complaint)
        if row is not None:
            named = connection.execute(
                "SELECT b.device, b.epoch, r.seq, r.seq FROM reading r JOIN book b ON b.id = r.book"
                " WHERE r.id = ?",
                (int(row[1]),),
            ).fetchone()
            at = named or at
        text = " ".join(f"altered: {complaint}".split())
        yield Found(*at, text[:TEXT_CHARS])


def segments(connection: sqlite3.Connection, reading: Segments) -> Iterator[Found]:
    """Check what the broker has committed, and that no derived part of it is missing in the books.

    Segments that are derived stay until the broker sweeps them.
    """
    row = connection.execute("SELECT segment FROM tap WHERE name = ?", (TAP,)).fetchone()
    (ever,) = connection.execute(
        "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'segment'"
    ).fetchone()
    if row is None or not isinstance(row[0], int) or not 0 <= row[0] <= ever:
        if ever:
            yield Found(GATEWAY, 0, 0, 0, "altered: up to where segments are derived is unknown")
        derived = 0
    else:
        (derived,) = row
    for number, tapped, data in connection.execute("SELECT id, tapped, data FROM segment"):
        text = ""
        try:
            arrived = list(reading.of(data))
        except (PlantroomError, TypeError):
            text = f"altered: segment {number} is not as it was received"
            arrived = list(reading.left_of(data)) if isinstance(data, bytes) else []
        if arrived and not tapped:
            text = f"altered: segment {number} has readings, and is marked as having none"
        if text:
            named = list(_claims(arrived))
            yield from (Found(*claim, text) for claim in named)
            if not named and tapped:
                yield Found(GATEWAY, 0, 0, 0, text)
        elif number <= derived:
            yield from _underived(connection, arrived)


def _claims(arrived: Iterable[Published]) -> Iterator[tuple[str, int, int, int]]:
    """Give the ranges that telemetry messages name, with their devices."""
    for one in arrived:
        level = ingress.telemetry_device(one.topic)
        claim = ingress.claim_of(one.user)
        if level is not None and claim is not None:
            yield ingress.device_id(_domain(one), level), *claim


def _domain(arrival: Published) -> str:
    """Return the trust domain of whoever published it; a device's own are of the same."""
    return arrival.spiffe_id.removeprefix("spiffe://").partition("/")[0]


def _underived(connection: sqlite3.Connection, arrived: Iterable[Published]) -> Iterator[Found]:
    for one in arrived:
        intake = ingress.read(one, _domain(one))
        if intake is None:
            continue
        for row in intake.rows:
            book = connection.execute(
                "SELECT id FROM book WHERE device = ? AND epoch = ?", (intake.device, row.epoch)
            ).fetchone()
            at = (row.seq, row.seq)
            if not book or not any(
                spans.within(connection, (book[0], kind), *at) for kind in KINDS
            ):
                text = "altered: it was received, and what is derived passes it over"
                yield Found(intake.device, row.epoch, *at, text)
