"""What the gateway says about itself: metrics and status, from figures taken once a second."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from plantroom.certs.holder import RunningSource
from plantroom.certs.svid_watch import describe
from plantroom.gateway.bridge import Bridge
from plantroom.gateway.holding import FULL, NO_RESERVE, Holding
from plantroom.gateway.spool import Queue, Standings
from plantroom.gateway.state_folder import Reserve, StateFolder
from plantroom.wire.clock import Clock
from plantroom.wire.damage import set_aside_in
from plantroom.wire.database import Database
from plantroom.wire.errors import (
    StorageCorruptError,
    StorageError,
    StorageFullError,
)
from plantroom.wire.metrics import Metric
from plantroom.wire.ranges import RangeSet
from plantroom.wire.rfc3339 import format_us
from plantroom.wire.spiffe import SpiffeId

_log = logging.getLogger("plantroom.gateway.measures")
_PERIOD_S = 1.0
_CHECKPOINT_PERIODS = 30
_STATES = ("offline", "catching-up", "live")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the figures come from."""

    queue: Queue
    bridge: Bridge
    database: Database
    folder: StateFolder
    reserve: Reserve
    clock: Clock
    site: str
    building: RunningSource
    cloud: RunningSource
    holding: Holding
    policy: Callable[[], Mapping[str, object]]
    others: Callable[[], Iterable[Metric]]


class Measures:
    """Takes the figures, keeps limits by age and disk, and checkpoints the WAL, on a timer."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources
        self._standings: Standings | None = None
        self._drained_per_s = 0.0
        self._confirmed = 0

    @property
    def refusing(self) -> bool:
        """Whether publishes are refused now."""
        return bool(self._from.holding.reasons)

    async def run(self) -> None:
        """Measure until cancelled.

        Raises:
            StorageCorruptError: when anyone has found the queue's file damaged.
        """
        period = 0
        while True:
            damage = self._from.database.damage
            if damage is not None:
                raise StorageCorruptError(damage.what, where=str(self._from.database.path))
            try:
                await self._measure()
                if period % _CHECKPOINT_PERIODS == _CHECKPOINT_PERIODS - 1:
                    await self._from.database.checkpoint()
            except StorageFullError as error:
                self._full(error)
            except StorageError as error:
                _log.error("queue cannot be measured: %s", error)
            period += 1
            await asyncio.sleep(_PERIOD_S)

    async def _measure(self) -> None:
        await self._make_reserve()
        full = await self._from.queue.tidy()
        self._from.holding.set(FULL, holds=full)
        await self._from.queue.give_back()
        self._standings = await self._from.queue.standings()
        confirmed = self._standings.tallies.get("confirmed", 0)
        rate = max(0, confirmed - self._confirmed) / _PERIOD_S
        self._drained_per_s += 0.3 * (rate - self._drained_per_s)
        self._confirmed = confirmed

    async def _make_reserve(self) -> None:
        """Make the reserve before anything else writes, from confirmed readings if need be."""
        reserve, folder, queue = self._from.reserve, self._from.folder, self._from.queue
        reserved = reserve.make(folder.disk_free())
        if not reserved:
            queue.save_space(saving=True)
            await queue.reclaim(reserve.wanted)
            reserved = reserve.make(folder.disk_free())
        queue.save_space(saving=not reserved)
        self._from.holding.set(NO_RESERVE, holds=not reserved)

    def _full(self, error: StorageFullError) -> None:
        """Give up the reserve: with it only work that frees space may write."""
        self._from.queue.save_space(saving=True)
        self._from.holding.set(NO_RESERVE, holds=True)
        if self._from.reserve.give_up():
            _log.error("disk is full, the reserve is given up: %s", error)

    def metrics(self) -> list[Metric]:
        """Return everything for `/metrics`."""
        bridge, now = self._from.bridge, self._standings
        found = [
            _gauge("plantroom_link_state", "1 for the state that holds", bridge.state == name, name)
            for name in _STATES
        ]
        found += [
            Metric("plantroom_link_connected", "gauge", "The cloud answers", bridge.connected),
            Metric("plantroom_offline_seconds", "gauge", "Since when", self._offline_s()),
            Metric("plantroom_batches_in_air", "gauge", "Without receipt", bridge.in_air),
            Metric("plantroom_receipt_seconds", "gauge", "Round trip", bridge.round_trip_s),
            Metric(
                "plantroom_uplink_bytes_total",
                "counter",
                "Batches sent first",
                bridge.progress.sent_bytes,
            ),
            Metric(
                "plantroom_uplink_readings_total",
                "counter",
                "Readings sent first",
                bridge.progress.sent_readings,
            ),
            Metric(
                "plantroom_ledger_imbalances_total",
                "counter",
                "Books whose digests disagree",
                bridge.progress.imbalances,
            ),
            Metric(
                "plantroom_files_set_aside",
                "gauge",
                "Damaged files beside the queue",
                len(set_aside_in(self._from.database.path)),
            ),
            Metric("plantroom_queue_refusing", "gauge", "Publishes are refused", self.refusing),
        ]
        if now is not None:
            found += self._queue_metrics(now)
        return [*found, *self._from.others()]

    def _queue_metrics(self, now: Standings) -> list[Metric]:
        lanes = {"live": now.live, "backfill": now.backfill, "history": now.history}
        found = []
        for lane, depth in lanes.items():
            labels: dict[str, str] | None = {"lane": lane}
            found += [
                Metric("plantroom_queue_readings", "gauge", "In the queue", depth.readings, labels),
                Metric("plantroom_queue_bytes", "gauge", "In the queue", depth.bytes, labels),
            ]
        found += [
            Metric("plantroom_queue_notes", "gauge", "Notes not yet receipted", now.notes),
            Metric("plantroom_drain_per_second", "gauge", "Confirmed", self._drained_per_s),
            Metric("plantroom_drain_eta_seconds", "gauge", "Until empty", self._eta_s(now)),
        ]
        for name, count in sorted(now.tallies.items()):
            kind, _, reason = name.partition(":")
            labels = {"reason": reason} if reason else None
            found.append(
                Metric(f"plantroom_readings_{kind}_total", "counter", "Readings", count, labels)
            )
        return found

    def _offline_s(self) -> float:
        if self._from.bridge.connected:
            return 0.0
        return max(0.0, (self._from.clock.wall_us() - self._from.bridge.since_us) / 1_000_000)

    def _eta_s(self, now: Standings) -> float:
        waiting = now.waiting.readings
        if not waiting:
            return 0.0
        return waiting / self._drained_per_s if self._drained_per_s > 0.01 else float("inf")

    def ready(self) -> str:
        """Return the empty text, or why this gateway cannot take readings now."""
        reasons = self._from.holding.reasons
        return f"publishes are refused: {', '.join(sorted(reasons))}" if reasons else ""

    async def status(self) -> Mapping[str, object]:
        """Return everything for `/api/status`."""
        bridge = self._from.bridge
        now = await self._from.queue.standings()
        return {
            "site": self._from.site,
            "incarnation": self._from.queue.incarnation,
            "link": {
                "state": bridge.state,
                "since": format_us(bridge.since_us),
                "connected": bridge.connected,
                "error": bridge.last_error,
                "offline_s": round(self._offline_s(), 1),
                "last_sync": _when(bridge.progress.synced_us),
                "round_trip_s": bridge.round_trip_s,
            },
            "queue": {
                "live": now.live.readings,
                "backfill": now.backfill.readings,
                "history": now.history.readings,
            },
            "queue_bytes": {
                "live": now.live.bytes,
                "backfill": now.backfill.bytes,
                "history": now.history.bytes,
            },
            "queued": now.waiting.readings,
            "notes": now.notes,
            "refusing": self.refusing,
            "set_aside": [path.name for path in set_aside_in(self._from.database.path)],
            "refusing_because": sorted(self._from.holding.reasons),
            "drain_per_s": self._drained_per_s,
            "drain": {
                "per_s": round(self._drained_per_s, 1),
                "eta_s": None if math.isinf(eta_s := self._eta_s(now)) else round(eta_s, 1),
            },
            "evicted": _by_reason(now, "evicted"),
            "quarantined": _by_reason(now, "quarantined"),
            "counts": now.tallies,
            "store_id": now.store_id,
            "books": [_page(book) for book in await self._from.queue.ledger()],
            "policy": dict(self._from.policy()),
            "identity": describe(self._from.building, self._from.clock.wall_us() / 1e6),
            "cloud_identity": describe(self._from.cloud, self._from.clock.wall_us() / 1e6),
        }


def _gauge(name: str, what: str, value: float, state: str) -> Metric:
    return Metric(name, "gauge", what, value, {"state": state})


def _by_reason(now: Standings, kind: str) -> dict[str, int]:
    return {
        name.partition(":")[2]: count
        for name, count in sorted(now.tallies.items())
        if name.startswith(f"{kind}:")
    }


def _when(time_us: int | None) -> str | None:
    return None if time_us is None else format_us(time_us)


def _page(book: Mapping[str, object]) -> dict[str, object]:
    """Return a book as the page shows it, with all its ranges beside."""
    spans = {
        name: RangeSet(map(tuple, book[name]))  # type: ignore[call-overload]
        for name in ("received", "confirmed", "evicted", "quarantined", "gone")
    }
    known = RangeSet(
        span for name in ("received", "evicted", "quarantined", "gone") for span in spans[name]
    )
    highest = int(str(book["highest"]))
    name = SpiffeId.parse(str(book["device"]))
    return {
        "site": name.site,
        "device": name.name,
        "spiffe_id": str(name),
        "epoch": book["epoch"],
        "first": known.lowest,
        "last": highest,
        "count": spans["received"].count,
        "holes": [list(span) for span in known.holes(highest)],
        "confirmed": spans["confirmed"].count,
        "quarantined": spans["quarantined"].count,
        "noted": spans["evicted"].count + spans["gone"].count,
        "disputed": book["disputed"],
        "reasons": book["reasons"],
        "digests": book["digests"],
        "ranges": {key: [list(span) for span in value] for key, value in spans.items()},
    }
