import sqlite3
from pathlib import Path

from plantroom.wire import cbor
from tests.fakes.deliveries import T0_US, delivery, note, reading
from tests.fakes.store_tables import tables


def kept(connection: sqlite3.Connection) -> list[tuple[str, int, str]]:
    rows = connection.execute("SELECT owner, number, body FROM note ORDER BY owner, number")
    return [
        (owner, number, cbor.loads(body, bytes_max=4096, error=ValueError)["kind"])
        for owner, number, body in rows
    ]


def test_note_is_kept_whole_under_its_author(tmp_path: Path) -> None:
    notes = [note("evicted", 0, 0, 1), note("gone", 0, 2, 2, author="gateway", life=9)]
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery(notes=notes)])
        writer.apply(connection, [delivery(notes=notes, number=2)])
        assert kept(connection) == [
            ("building-1/gateway", 0, "gone"),
            ("spiffe://building-1.smart.local/agent/hvac-001", 0, "evicted"),
        ]


def test_correction_moves_rows_and_their_runs_and_the_latest_value(tmp_path: Path) -> None:
    hour_us = 3_600_000_000
    sent = [reading(seq, time_us=None, mono_us=seq * hour_us, a=1.0) for seq in range(3)]
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery(sent)])
        assert connection.execute("SELECT DISTINCT bucket FROM r").fetchall() == [(-1,)]
        correction = note("correction", 1, 0, 2, offset_us=T0_US)
        writer.apply(connection, [delivery(notes=[correction], number=2)])
        first = T0_US // hour_us
        assert connection.execute("SELECT bucket, ts FROM r ORDER BY bucket").fetchall() == [
            (first + n, T0_US + n * hour_us) for n in range(3)
        ]
        run = connection.execute("SELECT low, high FROM arrival").fetchall()
        assert run == [(first, first + 2)]
        assert connection.execute("SELECT ts FROM latest").fetchone() == (T0_US + 2 * hour_us,)
