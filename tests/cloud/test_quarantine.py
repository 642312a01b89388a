from pathlib import Path

from plantroom.cloud.quarantine import Quarantine
from tests.fakes.deliveries import delivery, reading
from tests.fakes.store_tables import tables


def test_same_reading_is_kept_once_with_its_reason(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, _):
        quarantine = Quarantine(1000)
        assert quarantine.add(connection, delivery(), reading(0), "epoch-reuse")
        assert not quarantine.add(connection, delivery(), reading(0), "epoch-reuse")
        assert quarantine.add(connection, delivery(), reading(0, a=1.0), "epoch-reuse")
        rows = connection.execute("SELECT seq, reason, site, raw FROM quarantine").fetchall()
    assert {(seq, reason, site) for seq, reason, site, _ in rows} == {
        (0, "epoch-reuse", "building-1")
    }
    assert {raw for *_, raw in rows} == {reading(0).canonical(), reading(0, a=1.0).canonical()}


def test_bytes_kept_are_counted_from_the_table_after_a_start(tmp_path: Path) -> None:
    size = len(reading(0).canonical())
    with tables(tmp_path) as (connection, _):
        Quarantine(size).add(connection, delivery(), reading(0), "x")
        later = Quarantine(size)
        later.add(connection, delivery(), reading(1), "x")
        later.forget()
        later.add(connection, delivery(), reading(2), "x")
        rows = connection.execute("SELECT raw IS NULL FROM quarantine ORDER BY seq").fetchall()
    assert rows == [(0,), (1,), (1,)]
