"""Which stores there are."""

from collections.abc import Callable
from pathlib import Path

from plantroom.cloud.sqlite_store import SqliteReader, SqliteStore
from plantroom.cloud.store import Belongs, Store, StoreReader

STORES: dict[str, Callable[[Path, Belongs], Store]] = {
    "sqlite": lambda path, belongs: SqliteStore(path, belongs=belongs),
}
READERS: dict[str, Callable[[Path], StoreReader]] = {"sqlite": SqliteReader}
