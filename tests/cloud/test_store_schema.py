from pathlib import Path

from plantroom.cloud.store_schema import EVICTED, GONE, MIGRATIONS, QUARANTINED, STORED
from plantroom.wire.sqlite import connect


def test_states_are_ordered_by_strength() -> None:
    assert STORED < QUARANTINED < EVICTED < GONE


def test_each_store_is_made_with_an_id_of_its_own(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b", "a"):
        connection = connect(tmp_path / f"{name}.db", MIGRATIONS)
        found.append(connection.execute("SELECT store_id, commits FROM store").fetchone())
        connection.close()
    assert found[0] == found[2] != found[1]
    assert len(found[0][0]) == 32


def test_values_are_stored_once_in_the_order_of_time(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.db", MIGRATIONS)
    (sql,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'r'").fetchone()
    connection.close()
    assert "WITHOUT ROWID" in sql
    assert "PRIMARY KEY(bucket, series, ts, epoch, seq)" in sql
