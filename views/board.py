"""The board: the newest value of every point and who is online, with a feed of what changes.

It lives in memory and is bounded: the device heard of longest ago makes room for a new one. A
watcher never queues history: what changed since it last looked is merged, so a slow browser gets
fewer, newer values and costs at most one entry a device.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

from plantroom.wire.envelope import Presence
from plantroom.wire.reading import Reading, Value
from plantroom.wire.rfc3339 import format_us
from plantroom.wire.spiffe import SpiffeId

DEVICES_MAX = 2000
POINTS_MAX = 256

Key = tuple[str, str]  # site, device


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The newest value of one point; `time_us` is None while its device had no clock."""

    unit: str | None
    value: Value
    time_us: int | None
    epoch: int
    seq: int


@dataclass(slots=True)
class Place:
    """One device on the board."""

    points: dict[str, Latest] = field(default_factory=dict)
    presence: Presence | None = None
    seen_us: int | None = None


@lru_cache(maxsize=DEVICES_MAX * 2)
def key_of(spiffe_id: str) -> Key:
    """Return (site, device) as topics and people name them."""
    parsed = SpiffeId.parse(spiffe_id)
    return parsed.site, parsed.name


class Changes:
    """What has changed since this watcher last took it."""

    def __init__(self, everything: Iterator[tuple[Key, set[str]]]) -> None:
        self._changed: dict[Key, set[str]] = dict(everything)
        self._news = asyncio.Event()
        if self._changed:
            self._news.set()

    def note(self, key: Key, points: Iterator[str] | tuple[str, ...] = ()) -> None:
        """Note that these points of a device, or only its presence, have changed."""
        self._changed.setdefault(key, set()).update(points)
        self._news.set()

    def wake(self) -> None:
        """Let `take` return, with nothing if nothing has changed."""
        self._news.set()

    async def take(self) -> dict[Key, set[str]]:
        """Wait for a change and take all that there are."""
        await self._news.wait()
        self._news.clear()
        changed, self._changed = self._changed, {}
        return changed


class Board:
    """Latest values and presence by (site, device)."""

    def __init__(self, *, devices_max: int = DEVICES_MAX, points_max: int = POINTS_MAX) -> None:
        self._places: OrderedDict[Key, Place] = OrderedDict()
        self._devices_max = devices_max
        self._points_max = points_max
        self._watchers: set[Changes] = set()
        self.forgotten = 0
        self.readings = 0

    def put(self, reading: Reading, *, seen_us: int | None = None) -> None:
        """Show a reading's points, each unless a newer one of its point is shown.

        Newer is the higher (epoch, seq), never the higher time.
        """
        key = key_of(reading.device)
        place = self._place(key)
        self.readings += 1
        place.seen_us = seen_us if seen_us is not None else reading.time_us
        shown = []
        for point in reading.points:
            before = place.points.get(point.name)
            if before is None and len(place.points) >= self._points_max:
                continue
            if before is None or (before.epoch, before.seq) < (reading.epoch, reading.seq):
                place.points[point.name] = Latest(
                    unit=point.unit,
                    value=point.value,
                    time_us=reading.time_us,
                    epoch=reading.epoch,
                    seq=reading.seq,
                )
                shown.append(point.name)
        if shown:
            self._tell(key, tuple(shown))

    def restore(self, key: Key, point: str, latest: Latest) -> None:
        """Show a value that a store remembered, at start."""
        place = self._place(key)
        if len(place.points) < self._points_max:
            place.points[point] = latest
            self._tell(key, (point,))

    def presence(self, site: str, device: str, presence: Presence) -> bool:
        """Show a birth or a will; False for a stale will, which is ignored.

        A will is stale when its epoch is not that of the birth on record: the device has come back
        before the broker noticed that its former connection was dead.
        """
        place = self._place((site, device))
        before = place.presence
        if not presence.online and before is not None and before.epoch != presence.epoch:
            return False
        if not presence.online and before is not None:  # a will does not know what the birth did
            presence = Presence(
                online=False,
                epoch=presence.epoch,
                heads=presence.heads or before.heads,
                at_us=presence.at_us,
                info=presence.info or before.info,
            )
        place.presence = presence
        self._tell((site, device), ())
        return True

    def _place(self, key: Key) -> Place:
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= self._devices_max:
                self._places.popitem(last=False)
                self.forgotten += 1
            place = self._places[key] = Place()
        self._places.move_to_end(key)
        return place

    def _tell(self, key: Key, points: tuple[str, ...]) -> None:
        for watcher in self._watchers:
            watcher.note(key, points)

    def devices(self) -> list[Key]:
        """Return every device, in order of site and name."""
        return sorted(self._places)

    def point(self, key: Key, name: str) -> Latest | None:
        """Return the newest value of one point."""
        place = self._places.get(key)
        return place.points.get(name) if place else None

    def counts(self) -> tuple[int, int]:
        """Return how many devices there are and how many of them are online."""
        online = sum(
            1 for place in self._places.values() if place.presence and place.presence.online
        )
        return len(self._places), online

    @contextmanager
    def watch(self) -> Iterator[Changes]:
        """Watch: the first take gives everything, later ones what has changed since."""
        changes = Changes((key, set(place.points)) for key, place in self._places.items())
        self._watchers.add(changes)
        try:
            yield changes
        finally:
            self._watchers.discard(changes)

    def wake(self) -> None:
        """Let every watcher look up, changed or not."""
        for watcher in self._watchers:
            watcher.wake()

    def describe(self, key: Key, points: set[str] | None = None) -> dict[str, object] | None:
        """Return a device as JSON, with all its points or only these."""
        place = self._places.get(key)
        if place is None:
            return None
        presence = place.presence
        names = sorted(place.points) if points is None else sorted(points & place.points.keys())
        return {
            "site": key[0],
            "device": key[1],
            "online": None if presence is None else presence.online,
            "since": _time(presence.at_us if presence else None),
            "seen": _time(place.seen_us),
            "info": dict(presence.info) if presence else {},
            "points": {name: _point(place.points[name]) for name in names},
        }


def _point(latest: Latest) -> dict[str, object]:
    return {
        "value": latest.value,
        "unit": latest.unit,
        "time": _time(latest.time_us),
        "epoch": latest.epoch,
        "seq": latest.seq,
    }


def _time(time_us: int | None) -> str | None:
    return None if time_us is None else format_us(time_us)
