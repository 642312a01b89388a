"""The cloud: the product's ingest, its link, and its store."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

from plantroom.cloud.ingest import Ingest
from plantroom.cloud.ingest_link import IngestLink
from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.service_link import ServiceLink
from plantroom.cloud.sqlite_store import SqliteStore
from plantroom.cloud.store_schema import HOUR_US
from plantroom.wire.errors import StorageError
from tests.sim.disk import Disk
from tests.sim.network import Front
from tests.sim.process import POISON, Process

_AGES_US = 2 * HOUR_US  # so much later it seems to be: all is older than a bucket


class _SimServiceLink(ServiceLink):
    """A service's link over the simulated front, which asks for no identity."""

    def __init__(self, front: Front) -> None:
        nobody: Any = None
        super().__init__(
            "ingest",
            nobody,
            filters=("uplink",),
            address=lambda: ("", 0),
            server_id=nobody,
            waiting_max=64,
        )
        self._front = front

    async def _session(self) -> None:
        async with (
            self._front.connect("ingest", "cloud") as link,
            asyncio.TaskGroup() as tasks,
        ):
            await link.subscribe("uplink")
            self._link, self.trouble = link, ""
            self._linked.set()
            tasks.create_task(self._fill(link))


class _SimIngestLink(IngestLink):
    """Ingest's link over the simulated front."""

    def __init__(self, ingest: Ingest, front: Front) -> None:
        nobody: Any = None
        super().__init__(
            ingest,
            nobody,
            address=lambda: ("", 0),
            server_id=nobody,
            group_max=8,
            waiting_max=64,
        )
        self._link = _SimServiceLink(front)


class Cloud(Process):
    """Ingest and the store."""

    def __init__(self, disk: Disk, chance: random.Random, front: Front) -> None:
        super().__init__("cloud", disk, chance)
        self._front = front
        self.ingest: Ingest | None = None
        self.cured = False  # of what makes readings poison
        self._store: SqliteStore | None = None
        self._retiring: asyncio.Task[None] | None = None

    def severed(self) -> None:
        self._front.sever(self.name)

    async def main(self) -> None:
        store = self._store = _PickyStore(Path("/sim") / self.disk.name)
        store.cloud = self
        self.ingest = Ingest(
            store, belongs=belongs_by_name, clock=self.clock, shown=lambda _rows, _now: None
        )
        await _SimIngestLink(self.ingest, self._front).run()

    def age(self) -> None:
        """Let every reading that is stored now be beyond retention."""
        if self.alive and self._store is not None:
            self._retiring = asyncio.get_running_loop().create_task(self._retire(self._store))

    async def _retire(self, store: SqliteStore) -> None:
        with contextlib.suppress(StorageError):  # the product waits for its next turn as well
            await store.retire(self.clock.wall_us(), -_AGES_US)


class _PickyStore(SqliteStore):
    """The product's store, but for readings that crash whoever looks at them."""

    cloud: Cloud

    async def commit(self, deliveries: Any) -> Any:
        for delivery in deliveries:
            for reading in delivery.batch.readings:
                if reading.points[0].value == POISON and not self.cloud.cured:
                    raise ValueError("poison")
        return await super().commit(deliveries)
