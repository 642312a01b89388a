"""One sensor: the product's outbox, dispatch and capabilities, joined by a simulated connection."""

import asyncio
import contextlib
import random
from collections import deque
from pathlib import Path
from typing import Any, Protocol

from plantroom.broker import encode
from plantroom.broker.guard import Peer
from plantroom.broker.packets import Publish
from plantroom.broker.properties import Property
from plantroom.device import capabilities
from plantroom.device.dispatch import Dispatch, Parcel
from plantroom.device.driver import Taken
from plantroom.device.outbox import Outbox
from plantroom.wire.clock import is_plausible
from plantroom.wire.errors import StorageError, UnreachableError
from plantroom.wire.reading import Point, Sample
from tests.sim.disk import Disk
from tests.sim.network import Connection
from tests.sim.plan import Plan
from tests.sim.process import GARBLED, POISON, SITE, Process, known_as, spiffe_id

_V5 = 5
GARBLE = b"\x81\xff"  # in front of a pack: nobody can read it, unless there is a fix that does


class Building(Protocol):
    """What a sensor meets in its building: the gateway."""

    async def admit(self, sensor: "Sensor", chance: random.Random) -> "Door":
        """Let it connect."""
        ...

    def received(self, door: "Door", number: int, packet: bytes) -> None:
        """Take a publish."""
        ...

    def heard_heads(self, door: "Door", heads: dict[int, int], current: int) -> None:
        """Take a presence message."""
        ...


class Sensor(Process):
    """One sensor: takes readings into its outbox, and sends them."""

    def __init__(
        self, name: str, disk: Disk, chance: random.Random, plan: Plan, gateway: Building
    ) -> None:
        super().__init__(name, disk, chance)
        self._plan = plan
        self._gateway = gateway
        self._news = asyncio.Event()
        self.connection: Connection | None = None
        self.calm = self._last = False
        self.taken = 0
        self.boots = 1

    def reboot(self) -> None:
        """Lose power: what is not on the disk is gone, and the clock is not set for a while."""
        self.kill()
        self.boots += 1
        self.clock.boot()

    def severed(self) -> None:
        if self.connection is not None:
            self.connection.cut()
        self._news.set()

    async def main(self) -> None:
        outbox = Outbox.open(
            Path("/sim") / self.disk.name,
            device=spiffe_id(self.name),
            limits=self._plan.ring,
            clock=self.clock,
            randbits=self.chance.getrandbits,
            boot=f"boot-{self.boots}",
        )
        dispatch = Dispatch(outbox, self._plan.rules, uniform=self.chance.uniform)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sample(outbox))
            tasks.create_task(self._uplink(outbox, dispatch))

    async def _sample(self, outbox: Outbox) -> None:
        held: list[Taken] = []
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / self._plan.period_s))
            if self.calm and not held:
                if self._last:
                    continue
                self._last = True  # so that a clock that was set is told of
            held = held or [Taken(sample=self._measure()) for _ in range(self._plan.at_once)]
            try:
                outbox.append(held)
            except StorageError:
                continue
            held = []
            self._news.set()

    def _measure(self) -> Sample:
        self.taken += 1
        value = float(self.taken)
        if self.chance.random() < self._plan.poison:
            value = POISON
        elif self.chance.random() < self._plan.garble:
            value = GARBLED
        now_us = self.clock.wall_us() // 1_000_000 * 1_000_000  # many share a time
        points = (Point(name="temperature", unit="Cel", value=value),)
        if is_plausible(now_us):
            return Sample(device="", time_us=now_us, points=points)
        return Sample(device="", time_us=None, mono_us=self.clock.monotonic_us(), points=points)

    async def _uplink(self, outbox: Outbox, dispatch: Dispatch) -> None:
        while True:
            with contextlib.suppress(UnreachableError):
                await self._session(outbox, dispatch)
            dispatch.lost()
            await asyncio.sleep(0.2 + self.chance.random() * 3)

    async def _session(self, outbox: Outbox, dispatch: Dispatch) -> None:
        loop = asyncio.get_running_loop()
        door = await self._gateway.admit(self, self.chance)
        self.connection = door.connection
        answers: deque[tuple[int, int]] = door.answers
        door.news = self._news
        dispatch.begin(window=self._plan.rules.window, bytes_max=65_536)
        door.say_heads(outbox.heads(), outbox.epoch)
        number, said_s = 0, loop.time()
        abilities = {
            "resend": capabilities.resend(outbox.resend),
            "renew_epoch": capabilities.renew_epoch(outbox.renew_epoch),
        }
        while not door.connection.dead:
            while door.calls:
                capability, data = door.calls.popleft()
                with contextlib.suppress(StorageError):  # it is asked again
                    abilities[capability](data)
            while answers:
                dispatch.answered(*answers.popleft(), loop.time())
            if dispatch.waits_s(loop.time()) > self._plan.puback_timeout_s:
                door.connection.cut()
                break
            while (parcel := dispatch.next(loop.time())) is not None:
                if not self.calm and self.chance.random() < 0.01:
                    door.connection.cut()
                    raise UnreachableError("reset while it was written to")
                number = number % 60_000 + 1
                dispatch.aloft(number, parcel, loop.time())
                door.publish(number, parcel)
            if loop.time() - said_s > 10:
                said_s = loop.time()
                door.say_heads(outbox.heads(), outbox.epoch)
            self._news.clear()
            timer = loop.call_later(0.5, self._news.set)
            await self._news.wait()
            timer.cancel()


class Deaf:
    """An end of a connection that hears no answers; implements `broker.outlets.Outlet`."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.peer = Peer(None, "sim")
        self.open = self.accepted = True
        self.blocked = False
        self.unread_bytes = self.partial_bytes = 0

    def write(self, data: bytes) -> None:
        """Hear nothing."""

    def write_burst(self, data: bytes) -> None:
        self.write(data)

    def acknowledged(self, count: int) -> None:
        pass

    def refused(self, acknowledgements: bytes) -> None:
        pass

    def resume(self) -> None:
        pass

    def too_slow(self, why: str, limit: str) -> None:
        raise AssertionError((why, limit))

    def fail(self, code: int, reason: str) -> None:
        raise AssertionError((code, reason))

    def abort(self, reason: str) -> None:
        raise AssertionError(reason)

    def overdue(self, now_us: int) -> str | None:
        raise AssertionError(now_us)


class Door(Deaf):
    """A sensor's connection as the building's broker has it."""

    def __init__(self, gateway: Building, sensor: Sensor, connection: Connection) -> None:
        super().__init__(connection)
        self._gateway, self._sensor = gateway, sensor
        self.device = spiffe_id(sensor.name)
        self.answers: deque[tuple[int, int]] = deque()
        self.calls: deque[tuple[str, Any]] = deque()
        self.news = asyncio.Event()

    def publish(self, number: int, parcel: Parcel) -> None:
        """Send a parcel from the sensor's end."""
        packet = encode.publish(
            Publish(
                topic=f"v1/{SITE}/telemetry/{known_as(self._sensor.name)}",
                payload=_as_sent(parcel),
                qos=1,
                packet_id=number,
                properties={
                    Property.CONTENT_TYPE: parcel.content_type,
                    Property.USER: (("range", parcel.span),),
                },
            ),
            _V5,
        )
        self.connection.send("up", lambda: self._gateway.received(self, number, packet))

    def call(self, capability: str, data: Any) -> None:
        """Send a call down to the sensor."""

        def called() -> None:
            self.calls.append((capability, data))
            self.news.set()

        self.connection.send("down", called)

    def say_heads(self, heads: dict[int, int], current: int) -> None:
        """Tell the gateway how far the numbers go, as the presence message does."""
        self.connection.send("up", lambda: self._gateway.heard_heads(self, heads, current))

    def write(self, data: bytes) -> None:
        """Send a PUBACK: packet id and reason code."""
        number, code = int.from_bytes(data[2:4]), data[4] if len(data) > 4 else 0

        def answered() -> None:
            self.answers.append((number, code))
            self.news.set()

        self.connection.send("down", answered)

    def refused(self, acknowledgements: bytes) -> None:
        """Answer that nothing was stored: 0x97, as the product's connection does."""
        self.write(encode.acknowledgement(4, int.from_bytes(acknowledgements[2:4]), _V5, code=0x97))


def _as_sent(parcel: Parcel) -> bytes:
    """Return the payload; one that holds a garbled reading cannot be decoded by anybody."""
    if any(one.points[0].value == GARBLED for one in parcel.readings):
        return GARBLE + parcel.payload
    return parcel.payload
