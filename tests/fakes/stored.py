"""A cloud store with readings in it, and no cloud that runs."""

import asyncio
from pathlib import Path

from plantroom.cloud.sqlite_store import SqliteStore
from plantroom.cloud.store import Delivery
from plantroom.wire.envelope import Batch
from plantroom.wire.reading import Reading
from tests.fakes.readings import HVAC, TAKEN_AT_US


def put(path: Path, *readings: Reading, epoch: int = 7, highest: int | None = None) -> None:
    """Commit one batch; `highest` is what the sensor says of the epoch."""
    heads = {} if highest is None else {HVAC: {epoch: highest}}
    batch = Batch(incarnation=1, number=0, lane="live", readings=readings, heads=heads)
    delivery = Delivery(site="building-1", gateway="gateway", batch=batch, received_us=TAKEN_AT_US)
    path.parent.mkdir(parents=True, exist_ok=True)

    async def commit() -> None:
        store = SqliteStore(path)
        try:
            await store.commit([delivery])
        finally:
            store.close()

    asyncio.run(commit())
