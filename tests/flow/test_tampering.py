"""One byte is changed in the files of a building that has stopped, and `ledger verify` names it.

What may stay silent is written down: it says nothing about any reading. Everything else is found,
by SQL in any column of any table, and in the raw bytes of the files.
"""

import os
import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from plantroom.lab import ledger
from plantroom.lab.layout import Layout
from plantroom.wire.errors import StorageError
from tests.fakes.building_at_rest import build

CHANGES_EACH = int(os.environ.get("PLANTROOM_TAMPERING_CHANGES", "8"))
BYTES_EACH = int(os.environ.get("PLANTROOM_TAMPERING_BYTES", "400"))
SILENT = {
    # what a schema, a start or a session of the broker is; when things were counted
    "queue": {
        ("schema_version", "*"),
        ("broker_start", "*"),
        ("segment", "id"),  # its order; a tapped one that is missing is asked for again
        ("segment", "at_us"),
        ("segment", "tapped"),  # from one truth to another
        ("apart", "seal"),  # to none: as counted from an older file
        ("tap", "segment"),  # lower: it is derived again, to duplicates
        ("span", "first"),  # of what was received and evicted: it is evicted either way
        ("span", "last"),
        ("book", "unranged"),
        ("book", "settled"),
        ("book", "said"),
        ("book", "seal"),  # to none: as a former version left it
        ("reading", "id"),  # the order of sending; the number in its bytes stays
        ("reading", "state"),  # from one lane to the other
        ("reading", "aged_us"),  # when it is evicted, which is booked
        ("note", "id"),
        ("note", "told"),  # it is told again, or asked for
        ("quarantine", "id"),
        ("numbering", "incarnation"),
        ("unnumbered", "*"),  # what a repeated publish is known by
        ("meta", "value"),  # running time, up to where a store has committed
        ("tally", "*"),
    },
    "store": {
        ("schema_version", "*"),
        ("store", "store_id"),  # its gateways send again what they have
        ("store", "commits"),  # lower: a gateway notices at its next hello
        ("apart", "seal"),  # to none: as counted from an older file
        ("branch", "*"),  # its gateways send again what they have
        ("device", "newest_us"),  # of a device with corrected times or retention: within bounds
        ("mono", "timed"),
    },
}

TABLES = {
    "queue": (
        *("segment", "tap", "book", "span", "digest", "reading", "depth", "note", "quarantine"),
        *("numbering", "meta", "former_store"),
    ),
    "store": (
        *("store", "device", "series", "r", "mono", "latest", "book", "span", "digest"),
        *("arrival", "note", "quarantine"),
    ),
}


def faults(layout: Layout) -> set[tuple[Any, ...]]:
    """Say what `ledger verify` names; that it cannot look at all is no answer."""
    return {
        (account.device, account.epoch, *fault)
        for account in ledger.verify(layout)
        for fault in account.faults
    }


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    made = build(tmp_path_factory.mktemp("building"), size=1_050)
    for path in (made.queue, made.store):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return made


def put_back(path: Path, whole: bytes) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(whole)


def other(value: Any, chance: random.Random) -> Any:
    """Return a value of which one bit, or one character, is another."""
    match value:
        case None:
            return 1
        case int():
            return value ^ 1 << chance.randrange(20)
        case float():
            return value + 0.5
        case str():
            at = chance.randrange(len(value) + 1)
            return f"{value[:at]}~{value[at + 1 :]}"
        case _:
            data = bytearray(value or b"\0")
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            return bytes(data)


def change(path: Path, table: str, column: str, row: dict[str, Any], value: Any) -> bool:
    """Change one column of one row; False where the table's own rules forbid it."""
    where = " AND ".join(f"{name} IS ?" for name in row)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        try:
            connection.execute(
                f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *row.values())
            )
        except sqlite3.IntegrityError:
            return False
        connection.commit()
    return True


def rows_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        ]
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
            for table in tables
        }


@pytest.mark.soak
@pytest.mark.parametrize("side", ["queue", "store"])
def test_any_column_of_any_table(layout: Layout, side: str) -> None:
    path: Path = getattr(layout, side)
    whole, before = path.read_bytes(), faults(layout)
    chance = random.Random(7)  # noqa: S311 -- reproducible
    silent = set()
    for table, rows in rows_of(path).items():
        for column in rows[0] if rows else ():
            for row in chance.sample(rows, min(CHANGES_EACH, len(rows))):
                value = other(row[column], chance)
                if change(path, table, column, row, value) and not faults(layout) - before:
                    silent.add((table, column))
                put_back(path, whole)
    unknown = {found for found in silent if not {found, (found[0], "*")} & SILENT[side]}
    assert unknown == set()


def content(path: Path, side: str) -> object:
    """Read every value that says something about a reading; or say how that ends."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.text_factory = bytes
            found = {}
            for table in TABLES[side]:
                rows = connection.execute(f"SELECT * FROM {table} NOT INDEXED")
                spoken = [
                    at
                    for at, (name, *_) in enumerate(rows.description)
                    if not {(table, name), (table, "*")} & SILENT[side]
                ]
                found[table] = [tuple(row[at] for at in spoken) for row in rows]
            return found
    except sqlite3.Error as error:
        return repr(error)


@pytest.mark.soak
@pytest.mark.parametrize("side", ["queue", "store"])
def test_any_byte_of_the_file(layout: Layout, side: str) -> None:
    """A byte that no row is made of (of a free page, or between rows) may be any."""
    path: Path = getattr(layout, side)
    whole, before, rows = path.read_bytes(), faults(layout), content(path, side)
    assert isinstance(rows, dict)
    chance = random.Random(11)  # noqa: S311 -- reproducible
    named = 0
    for _ in range(BYTES_EACH):
        data = bytearray(whole)
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        put_back(path, bytes(data))
        try:
            found = bool(faults(layout) - before)
        except StorageError:  # the file cannot be opened at all: one line says so
            found = True
        assert found or content(path, side) == rows, at
        named += found
        put_back(path, whole)
    assert named > BYTES_EACH // 20


@pytest.mark.parametrize(
    ("side", "wanted"),
    [("queue", b"temperature"), ("store", b"hvac-003")],
)
def test_one_byte_on_the_disk(layout: Layout, side: str, wanted: bytes) -> None:
    """The quick one: the first row that holds this, of a reading or of a device.

    The same bytes may lie where a row was that has gone.
    """
    path: Path = getattr(layout, side)
    whole, rows, before = path.read_bytes(), content(path, side), faults(layout)
    for place in re.finditer(wanted, whole):
        at = place.start()
        put_back(path, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        if content(path, side) != rows:
            break
    found = faults(layout) - before
    put_back(path, whole)
    assert found
    assert faults(layout) == before
