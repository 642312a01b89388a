"""A damaged outbox, set aside as it is: what of it is certainly whole goes into the new one.

That is the position of the source, so that a recording is not replayed twice, and the readings
whose checksum is right. What cannot be brought back is asked for by the gateway, and named lost;
tombstones that nobody had heard of are among it. Synchronous and light, as the outbox is.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from plantroom.device.ring import STATES, UNSENT
from plantroom.wire.reading import KEY_MAX
from plantroom.wire.sqlite import Migrations, connect, translated

_FAILURES_MAX: Final = 20_000
_KEYS: Final = (
    "SELECT epoch, seq FROM reading ORDER BY epoch, seq",
    "SELECT epoch, seq FROM reading ORDER BY epoch DESC, seq DESC",
    "SELECT epoch, seq FROM reading WHERE state >= 0",  # from the index, if it is whole
    "SELECT epoch, next_seq FROM epoch",
)

_SELECT: Final = "SELECT seq, state, pack, crc FROM reading WHERE epoch = ? AND seq BETWEEN ? AND ?"
_AHEAD_MAX: Final = 100_000  # how many of the newest may be unreadable

Row = tuple[int, int, int, bytes]  # epoch, seq, state, pack
Range = tuple[int, int]


def bring_back(aside: Path, path: Path, migrations: Migrations) -> int:
    """Begin a new outbox at `path` with what `aside` still says; return how many readings.

    Raises:
        StorageError: when the new one cannot be written.
    """
    with closing(sqlite3.connect(f"{aside.absolute().as_uri()}?mode=ro", uri=True)) as damaged:
        position, ranges = _position(damaged), _ranges(damaged)
        rows = [row for epoch in sorted(ranges) for row in _rows(damaged, epoch, ranges[epoch])]
    with closing(connect(path, migrations)) as fresh, translated(path):
        fresh.execute("BEGIN IMMEDIATE")
        if position is not None:
            values = (("position", position), ("position_crc", zlib.crc32(position.encode())))
            fresh.executemany("INSERT INTO meta VALUES(?, ?)", values)
        fresh.executemany(
            "INSERT OR IGNORE INTO reading(epoch, seq, state, size_bytes, ran_us, pack, crc)"
            " VALUES(?, ?, ?, ?, 0, ?, ?)",
            [(*row[:3], len(row[3]), row[3], zlib.crc32(row[3])) for row in rows],
        )
        fresh.executemany("INSERT INTO epoch VALUES(?, ?, 0)", _heads(rows, ranges))
        fresh.execute("COMMIT")
    return len(rows)


def _position(damaged: sqlite3.Connection) -> str | None:
    found = dict(_read(damaged, "SELECT key, value FROM meta WHERE key LIKE 'position%'"))
    text, crc = found.get("position"), found.get("position_crc")
    return text if isinstance(text, str) and zlib.crc32(text.encode()) == crc else None


def _rows(damaged: sqlite3.Connection, epoch: int, seqs: Range) -> Iterator[Row]:
    """Give an epoch's whole rows; a range that cannot be read is halved down to them."""
    failures, waiting = 0, [seqs]
    while waiting and failures < _FAILURES_MAX:
        first, last = waiting.pop()
        try:
            rows = damaged.execute(_SELECT, (epoch, first, last)).fetchall()
        except sqlite3.Error:
            failures += 1
            if first < last:
                middle = (first + last) // 2
                waiting += [(middle + 1, last), (first, middle)]
            continue
        for seq, state, pack, crc in rows:
            if isinstance(pack, bytes) and zlib.crc32(pack) == crc:
                yield epoch, seq, state if state in STATES else UNSENT, pack


def _heads(rows: Iterable[Row], ranges: Mapping[int, Range]) -> Iterator[tuple[int, int]]:
    """Say how far each epoch had come: as far as its file says, where that can be."""
    highest: dict[int, int] = {}
    for epoch, seq, _, _ in rows:
        highest[epoch] = max(seq + 1, highest.get(epoch, 0))
    for epoch, following in highest.items():
        said = ranges[epoch][1]
        yield epoch, said if following < said <= following + _AHEAD_MAX else following


def _ranges(damaged: sqlite3.Connection) -> dict[int, Range]:
    """Return the lowest and highest seq of each epoch that is named anywhere."""
    found: dict[int, Range] = {}
    for query in _KEYS:
        for epoch, seq in _read(damaged, query):
            if _is_key(epoch) and _is_key(seq):
                low, high = found.get(epoch, (seq, seq))
                found[epoch] = min(low, seq), max(high, seq)
    return found


def _is_key(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= KEY_MAX


def _read(damaged: sqlite3.Connection, query: str) -> Iterator[Any]:
    """Give rows until one cannot be read."""
    try:
        yield from damaged.execute(query)
    except sqlite3.Error:
        return
