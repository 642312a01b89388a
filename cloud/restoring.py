"""A store that was brought back from a backup: a new name, so that its gateways send again.

A running cloud finds out by itself when a gateway has heard of later commits; this is for whoever
knows it already, and for gateways that have heard of none.
"""

from contextlib import closing
from pathlib import Path

from plantroom.cloud.store_schema import MIGRATIONS
from plantroom.wire.errors import StorageError
from plantroom.wire.sqlite import connect, translated
from plantroom.wire.state_lock import held


def renew(store: Path, lock: Path) -> tuple[str, str]:
    """Give a store of which no cloud runs a new name; return the former one and the new one.

    Raises:
        ConfigError: while a cloud runs on it.
        StorageError: when there is none, or it cannot be written.
    """
    if not store.is_file():
        raise StorageError("there is no store", where=str(store), remedy="check --state")
    with held(lock, "cloud"), closing(connect(store, MIGRATIONS)) as connection, translated(store):
        (former,) = connection.execute("SELECT store_id FROM store").fetchone()
        (new,) = connection.execute(
            "UPDATE store SET store_id = lower(hex(randomblob(16))) RETURNING store_id"
        ).fetchone()
    return str(former), str(new)
