"""What the cloud says of itself: books, gateways, link, identity; as JSON and as metrics."""

import time
from collections.abc import Mapping

from plantroom.certs.holder import RunningSource
from plantroom.certs.svid_watch import describe
from plantroom.cloud.devices import Devices
from plantroom.cloud.ingest import Ingest
from plantroom.cloud.ingest_link import IngestLink
from plantroom.cloud.store import Store, StoredBook
from plantroom.views.board import Board
from plantroom.wire.metrics import Metric
from plantroom.wire.ranges import RangeSet
from plantroom.wire.rfc3339 import format_us


class Status:
    """Gathers the status from the parts that know it."""

    def __init__(
        self,
        *,
        store: Store,
        ingest: Ingest,
        link: IngestLink,
        devices: Devices,
        source: RunningSource,
    ) -> None:
        self._store = store
        self._ingest = ingest
        self._link = link
        self._devices = devices
        self._source = source

    async def tell(self) -> Mapping[str, object]:
        """Give everything as JSON; `books` are ordered by site, device and epoch."""
        last_us = self._ingest.last_commit_us
        return {
            "kind": "cloud",
            "store_id": self._store.store_id,
            "gateways": self._devices.gateways(),
            "ingest": {
                "connected": self._link.connected,
                "trouble": self._link.trouble,
                "last_commit": None if last_us is None else format_us(last_us),
                **self._ingest.figures(),
                "quarantined": dict(self._ingest.quarantined),
            },
            "identity": describe(self._source, time.time()),
            "books": [book_json(book) for book in await self._store.books()],
        }

    def metrics(self, board: Board) -> list[Metric]:
        """Return the figures of what is shown."""
        devices, online = board.counts()
        lives_s = self._source.current().svid.not_after_s
        return [
            Metric("plantroom_devices", "gauge", "Devices heard of", devices),
            Metric("plantroom_devices_online", "gauge", "Devices that are online", online),
            Metric("plantroom_ingest_connected", "gauge", "Connected", self._link.connected),
            Metric("plantroom_svid_not_after_seconds", "gauge", "End of the SVID", lives_s),
        ]

    def why_not_ready(self) -> str:
        """Give the empty text when readings can be taken, or why not."""
        trouble = self._link.trouble
        if not self._link.connected:
            return f"ingest is not connected: {trouble or 'starting'}"
        return f"nothing is stored: {trouble}" if trouble else ""


def book_json(book: StoredBook) -> dict[str, object]:
    """Give a book as JSON: ranges as [first, last], both included."""
    noted = book.evicted.copy()
    for first, last in book.gone:
        noted.add(first, last)
    return {
        "site": book.site,
        "device": book.device,
        "spiffe_id": book.spiffe_id,
        "epoch": book.epoch,
        "highest": book.highest,
        "first": book.stored.lowest,
        "last": book.stored.highest,
        "count": book.stored.count,
        "ranges": _pairs(book.stored),
        "holes": _pairs(book.holes),
        "quarantined": book.quarantined.count,
        "quarantined_ranges": _pairs(book.quarantined),
        "evicted": _pairs(book.evicted),
        "gone": _pairs(book.gone),
        "noted": noted.count,
        "digests": {str(segment): total.hex() for segment, total in book.digests.items()},
        "disputed": book.disputed,
    }


def _pairs(ranges: RangeSet) -> list[list[int]]:
    return [[first, last] for first, last in ranges]
