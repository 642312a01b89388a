"""An open, empty SQLite store, for tests that look at its tables."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.store_schema import MIGRATIONS
from plantroom.cloud.writing import Writer
from plantroom.wire.sqlite import connect


@contextmanager
def tables(folder: Path) -> Iterator[tuple[sqlite3.Connection, Writer]]:
    """Give its connection, in a transaction, and a writer."""
    connection = connect(folder / "store.db", MIGRATIONS)
    connection.execute("BEGIN")
    try:
        yield connection, Writer(belongs_by_name, raw_bytes_max=1000)
    finally:
        connection.close()
