"""What the lab opens of others' stores: the one place that names their implementations."""

from collections.abc import Iterator
from contextlib import contextmanager

from plantroom.cloud import catalog
from plantroom.cloud.store import StoreReader
from plantroom.lab.layout import Layout
from plantroom.wire.errors import UnreachableError


@contextmanager
def cloud_store(layout: Layout) -> Iterator[StoreReader]:
    """Open the cloud's store for looking, whether anything runs or not.

    Raises:
        UnreachableError: when there is none yet.
    """
    if not layout.store.exists():
        raise UnreachableError(
            "no readings were ever stored here",
            where=str(layout.store),
            remedy="start a building with `plantroom up`, or give its folder with --state",
        )
    store = catalog.READERS["sqlite"](layout.store)
    try:
        yield store
    finally:
        store.close()
