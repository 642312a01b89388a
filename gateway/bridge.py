"""The bridge to the cloud as modes: offline, catching up, live; each returns the next.

"Connected" means that the cloud has answered on this link. A new try comes after full jitter, 1 s
to 30 s; what is in the air stays in the air and is sent again, unchanged, on the next link.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal

from plantroom.gateway.crossing import Upward
from plantroom.gateway.exchange import Exchange
from plantroom.gateway.lanes import Lanes
from plantroom.gateway.pace import Pace, Progress
from plantroom.gateway.spool import Queue
from plantroom.gateway.uplink import Sensors, Uplink
from plantroom.wire.clock import Clock
from plantroom.wire.envelope import Presence, Span
from plantroom.wire.errors import PlantroomError
from plantroom.wire.link import Link, Message

_log = logging.getLogger("plantroom.gateway.bridge")
State = Literal["offline", "catching-up", "live"]
Mode = Callable[[], Awaitable["Mode"]]
Connect = Callable[[], AbstractAsyncContextManager[Link]]

_BACKOFF_S_MIN = 1.0
_BACKOFF_S_MAX = 30.0
_STEADY_US = 30_000_000
_LOOK_S = 0.5


def backoff_s(failures: int, chance: float) -> float:
    """Return how long to wait before the next try: full jitter under a ceiling that doubles."""
    if failures == 0:
        return 0.0
    return chance * min(_BACKOFF_S_MAX, _BACKOFF_S_MIN * 2.0 ** min(failures - 1, 10))


class Nobody:
    """No sensors: a bridge that stands alone."""

    async def resend(self, holes: Sequence[Span]) -> None:
        """Ask nobody."""

    def reused(self, device: str, epoch: int) -> None:
        """Tell nobody."""

    def alarm(self, rule: str, device: str, text: str, *, cause: str = "") -> None:
        """Cry out to the log alone."""
        _log.error("alarm %s of %s, %s: %s", rule, device, cause, text)

    def over(self, rule: str, device: str, cause: str, text: str) -> None:
        """Nobody has heard of it."""


class Bridge:
    """The gateway's one way to the cloud."""

    def __init__(  # noqa: PLR0913 -- its collaborators, each named
        self,
        queue: Queue,
        upward: Upward,
        *,
        connect: Connect,
        site: str,
        trust_domain: str,
        pace: Pace,
        clock: Clock,
        chance: Callable[[], float],
        deliver: Callable[[Message], Awaitable[object]],
        presence: Callable[[bool], Presence],
        sensors: Sensors | None = None,
    ) -> None:
        self._queue = queue
        self._upward = upward
        self._connect = connect
        self._site = site
        self._trust_domain = trust_domain
        self._pace = pace
        self._clock = clock
        self._chance = chance
        self._deliver = deliver
        self._presence = presence
        self._sensors = sensors or Nobody()
        self._lanes = Lanes(pace.window)
        self._uplink: Uplink | None = None
        self._ended = asyncio.Event()
        self._failures = 0
        self._ready_us = 0
        self._hurry = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self.progress = Progress(clock)
        self.state: State = "offline"
        self.since_us = clock.wall_us()
        self.last_error = ""

    async def run(self) -> None:
        """Go from mode to mode until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            mode: Mode = self._offline
            while True:
                mode = await mode()

    def wake(self) -> None:
        """Say that the queue has grown."""
        if self._uplink is not None and self._uplink.ready.is_set():
            self._uplink.wake()

    def reconnect(self, why: str) -> None:
        """Make a new connection now: the identity has changed, or somebody wants it."""
        self._failures = 0
        self._hurry.set()
        if self._uplink is not None:
            self._uplink.stop(why)

    @property
    def connected(self) -> bool:
        """Whether the cloud has answered on the present link."""
        return self.state != "offline"

    @property
    def in_air(self) -> int:
        """How many batches wait for their receipt."""
        return len(self._lanes)

    @property
    def round_trip_s(self) -> float:
        """How long a receipt takes, smoothed."""
        return self._lanes.round_trip_us / 1_000_000

    async def sync(self, timeout_s: float) -> bool:
        """Bring everything that is queued now to the cloud; whether that was done in time."""
        if not self.connected:
            self.reconnect("a sync was asked for")
        try:
            async with asyncio.timeout(timeout_s):
                while not await self._drained():
                    self.wake()
                    await asyncio.sleep(_LOOK_S / 5)
        except TimeoutError:
            return False
        return True

    async def _drained(self) -> bool:
        standings = await self._queue.standings()
        return self.connected and not standings.waiting.readings and not standings.notes

    def _enter(self, state: State) -> None:
        if state != self.state:
            _log.info("bridge is %s (was %s)%s", state, self.state, self._why(state))
            self.state = state
            self.since_us = self._clock.wall_us()

    def _why(self, state: State) -> str:
        return f": {self.last_error}" if state == "offline" and self.last_error else ""

    # modes

    async def _offline(self) -> Mode:
        self._enter("offline")
        await self._pause(backoff_s(self._failures, self._chance()))
        if self._tasks is None:  # pragma: no cover -- run makes it
            raise RuntimeError("a mode runs inside run()")
        self._ended = asyncio.Event()
        ready = asyncio.Event()
        task = self._tasks.create_task(self._hold_link(ready), name="gateway.bridge-link")
        waiter = asyncio.create_task(ready.wait(), name="gateway.bridge-ready")
        try:
            await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        self._failures += 1  # taken back once a link has proven steady
        if not ready.is_set() or self._ended.is_set():
            return self._offline
        self._ready_us = self._clock.monotonic_us()
        self.last_error = ""
        return self._catching_up

    async def _catching_up(self) -> Mode:
        self._enter("catching-up")
        before, began_us = self.progress.confirmed, self._clock.monotonic_us()
        while not await self._lost_within(_LOOK_S):
            standings = await self._queue.standings()
            if not standings.backfill.readings:
                count = self.progress.confirmed - before
                took_s = (self._clock.monotonic_us() - began_us) / 1_000_000
                _log.info("everything is synced: %d readings in %.1f s", count, took_s)
                return self._live
        return self._offline

    async def _live(self) -> Mode:
        self._enter("live")
        while not await self._lost_within(_LOOK_S):
            standings = await self._queue.standings()
            if standings.backfill.readings > self._pace.backfill_readings_max:
                return self._catching_up
        return self._offline

    async def _lost_within(self, seconds: float) -> bool:
        if self._clock.monotonic_us() - self._ready_us > _STEADY_US:
            self._failures = 1
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    async def _pause(self, seconds: float) -> None:
        """Wait, unless somebody is in a hurry."""
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return
        finally:
            self._hurry.clear()

    async def _hold_link(self, ready: asyncio.Event) -> None:
        """Connect and work until the link is lost; every expected fault ends here, with its why."""
        ended = self._ended
        try:
            async with self._connect() as link:
                uplink = self._make_uplink(link, ready)
                self._uplink = uplink
                await uplink.run()
        except* (PlantroomError, OSError) as group:
            self.last_error = _first(group)
            _log.info("link to the cloud ended: %s", self.last_error)
        finally:
            self._uplink = None
            ended.set()

    def _make_uplink(self, link: Link, ready: asyncio.Event) -> Uplink:
        exchange = Exchange(
            link,
            self._upward,
            site=self._site,
            trust_domain=self._trust_domain,
            deliver=self._deliver,
        )
        uplink = Uplink(
            link,
            self._queue,
            self._lanes,
            exchange,
            site=self._site,
            pace=self._pace,
            clock=self._clock,
            progress=self.progress,
            presence=self._presence,
            sensors=self._sensors,
        )
        uplink.ready = ready
        return uplink


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
