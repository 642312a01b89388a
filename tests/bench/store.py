"""What the books cost: 1,000 devices, 100 million readings' worth of them, on both sides.

    python -m tests.bench.store [--quick] [--json] [--plot FILE] [--folder DIR]

The books are written as they are after those readings, which themselves are not there: books
outlive rows, and cost O(epochs + gaps + readings / 1,000). `--quick` measures a tenth.
Exit code 1 when a figure misses its target.
"""

import argparse
import json
import secrets
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from plantroom.cloud.store_schema import MIGRATIONS as STORE_TABLES
from plantroom.gateway import books
from plantroom.gateway.queue_schema import MIGRATIONS as QUEUE_TABLES
from plantroom.lab import ledger
from plantroom.lab.layout import Layout
from plantroom.wire.sqlite import connect
from tests.bench.kit import figures
from tests.bench.kit.figures import Figure, alone

DEVICES = 1_000
READINGS = 100_000  # of each device
EVICTED = 5  # in the middle: a gap with its excuse
_DISK = Path("/var/tmp")  # noqa: S108 -- memory may be mounted on /tmp


def _spans(book: int, kinds: tuple[int, ...], evicted: int) -> list[tuple[object, ...]]:
    half = READINGS // 2
    held = ((0, half - 1), (half + EVICTED, READINGS - 1))
    return [
        *((book, kind, first, last, "") for kind in kinds for first, last in held),
        (book, evicted, half, half + EVICTED - 1, "full"),
    ]


def _fill(layout: Layout, devices: int) -> None:
    """Write the same books on both sides: every segment a digest, every gap a range."""
    layout.cloud.mkdir(parents=True)
    layout.gateway.mkdir()
    store, queue = connect(layout.store, STORE_TABLES), connect(layout.queue, QUEUE_TABLES)
    put = "INSERT INTO span(book, kind, first, last, reason) VALUES(?, ?, ?, ?, ?)"
    for side in (store, queue):
        side.execute("BEGIN")
    for book in range(1, devices + 1):
        name = f"hvac-{book:04}"
        spiffe_id = f"spiffe://building-1.smart.local/agent/{name}"
        row = (spiffe_id, "building-1", name)
        store.execute("INSERT INTO device(spiffe_id, site, name) VALUES(?, ?, ?)", row)
        last = READINGS - 1
        store.execute("INSERT INTO book(device, epoch, highest) VALUES(?, 7, ?)", (book, last))
        queue.execute("INSERT INTO book(device, epoch, highest) VALUES(?, 7, ?)", (spiffe_id, last))
        store.executemany(put, _spans(book, (0,), 2))
        queue.executemany(put, _spans(book, (0, 1), 2))
        digests = [(book, n, secrets.token_bytes(32)) for n in range(READINGS // 1_000)]
        for side in (store, queue):
            side.executemany("INSERT INTO digest VALUES(?, ?, ?)", digests)
    for side in (store, queue):
        side.execute("COMMIT")
        side.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        side.close()


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _hello(queue: sqlite3.Connection, devices: int) -> None:
    """Tell every book once, as at a connect."""
    told = 0
    while told < devices:
        told += len(books.for_hello(queue, books_max=200, bytes_max=1_000_000))


def _measured(folder: Path, devices: int) -> Iterator[Figure]:
    layout = Layout(folder)
    _fill(layout, devices)
    readings = devices * READINGS
    what = f"{devices:,} devices, {readings:,} readings"
    for name, path in (("cloud", layout.store), ("gateway", layout.queue)):
        size = path.stat().st_size / readings
        text = f"books of the {name}, bytes a reading"
        yield alone(text, size, unit="B", target=0.1, better="less", note=what)
    compared = _timed(lambda: ledger.accounts(layout))
    yield alone("ledger show, all books", compared, unit="s", target=30, better="less", note=what)
    queue = connect(layout.queue, QUEUE_TABLES)
    queue.execute("BEGIN")
    yield alone(
        "hellos that tell every book",
        _timed(lambda: _hello(queue, devices)),
        unit="s",
        target=10,
        better="less",
        note=what,
    )
    queue.execute("COMMIT")
    queue.close()


def main() -> int:
    """Measure, print, and say whether every target is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the devices")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="(nothing to plot)")
    parser.add_argument("--folder", type=Path, default=_DISK, help="on the disk to be measured")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = list(_measured(Path(folder) / "s", DEVICES // 10 if given.quick else DEVICES))
    if given.json:
        sys.stdout.write(json.dumps([each.as_json() for each in found]) + "\n")
    else:
        sys.stdout.write(figures.table(found) + "\n")
    return 1 if any(each.ok is False for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
