from pathlib import Path

from plantroom.broker.store import MIGRATIONS as BROKER_TABLES
from plantroom.gateway.queue_schema import MIGRATIONS
from plantroom.wire.database import connect


def test_queue_and_broker_share_one_file_and_open_it_again(tmp_path: Path) -> None:
    for _ in range(2):
        connection = connect(tmp_path / "queue.db", BROKER_TABLES | MIGRATIONS)
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        assert {"segment", "tap", "session", "reading", "book", "span", "note"} <= names
        connection.close()


def test_the_line_is_found_by_an_index_and_not_by_a_scan(tmp_path: Path) -> None:
    connection = connect(tmp_path / "queue.db", BROKER_TABLES | MIGRATIONS)
    plan = connection.execute(
        "EXPLAIN QUERY PLAN SELECT id FROM reading WHERE state < 2 AND id >= 7 ORDER BY id"
    ).fetchall()
    connection.close()
    assert "reading_waiting" in plan[0][3]
